"""`flux trace debug` as people run it: a step printed, and the program in a terminal."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator

import pytest

from tests.integration.cli.test_reading import ROOT, Flux, flux, process, project
from tests.integration.query.recorded import FAILED_ID

__all__ = ["flux", "project"]

PATIENCE = 60.0
_ESCAPES = re.compile(
    r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)|P[^\x1b]*\x1b\\|[=>()][A-Z0-9]?)"
)


def test_a_step_is_printed_as_json_and_as_a_page(flux: Flux) -> None:
    told = flux("trace", "debug", FAILED_ID, "--at", "2", "--json")
    assert told.exit_code == 0, told.output
    step = json.loads(told.stdout)
    assert {
        "step", "steps", "span", "call", "location", "input", "output", "rows", "logs",
    } <= step.keys()  # fmt: skip
    assert (step["step"], step["call"]["seq"], step["input"]) == (2, 1, step["call"]["arguments"])
    assert step["rows"].keys() == {"before", "after"}
    last = json.loads(flux("trace", "debug", FAILED_ID, "--at", str(step["steps"]), "--json").stdout)
    assert (last["kind"], last["call"]) == ("end", None)
    assert f"step 2 of {step['steps']}" in flux("trace", "debug", FAILED_ID, "--at", "2").stdout


@pytest.mark.usefixtures("project")
def test_what_cannot_be_shown_is_said() -> None:
    beyond = process("trace", "debug", FAILED_ID, "--at", "999")
    assert beyond.returncode == 2
    assert "There is no step 999" in beyond.stderr
    pipe = process("trace", "debug", FAILED_ID)
    assert pipe.returncode == 2
    assert "not a terminal" in pipe.stderr
    assert "--at" in pipe.stderr
    no_number = process("trace", "debug", FAILED_ID, "--json")
    assert no_number.returncode == 2
    assert "--at N" in json.loads(no_number.stderr)["error"]["message"]


class Terminal:
    """A terminal of 100 columns with `flux` in it."""

    def __init__(self, *arguments: str) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
        path = os.pathsep.join([str(ROOT), str(ROOT / "exporters")])
        self.process = subprocess.Popen(
            [sys.executable, "-c", "from flux.cli import main; main()", *arguments],
            stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
            env={**os.environ, "PYTHONPATH": path, "TERM": "xterm-256color"},
        )  # fmt: skip
        os.close(slave)
        self.written = b""

    def read(self, until: Callable[[str], bool]) -> str:
        """What was written since the last key, escapes left out, as soon as it is enough."""
        end = time.monotonic() + PATIENCE
        while not until(self.text):
            assert time.monotonic() < end, self.text
            if select.select([self._master], [], [], 1.0)[0]:
                try:
                    self.written += os.read(self._master, 65536)
                except OSError:
                    break
        return self.text

    @property
    def text(self) -> str:
        """What was written since the last key, escapes left out."""
        return _ESCAPES.sub("", self.written.decode("utf-8", "replace"))

    def press(self, keys: str) -> None:
        """Type."""
        self.written = b""
        os.write(self._master, keys.encode())

    def close(self) -> None:
        """End the program, whatever it does."""
        self.process.kill()
        self.process.wait()
        os.close(self._master)


@pytest.fixture
def terminal(project: object) -> Iterator[Terminal]:
    opened = Terminal("trace", "debug", FAILED_ID)
    yield opened
    opened.close()


def test_the_program_runs_in_a_terminal(terminal: Terminal) -> None:
    """Typed into a real pseudo-terminal: forward, the first error, the origin of its rows, quit."""
    terminal.read(lambda text: "step 1 of" in text)
    terminal.press("\x1b[C")
    terminal.read(lambda text: "step 2 of" in text)
    terminal.press("e")
    terminal.read(lambda text: "unique_violation" in text)
    terminal.press("o")
    terminal.read(lambda text: "recorded" in text or "written by" in text)
    terminal.press("\x1bq" if "written by" in terminal.text else "q")
    assert terminal.process.wait(PATIENCE) == 0
