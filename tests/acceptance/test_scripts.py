"""The README's two commands, in this checkout."""

from __future__ import annotations

import re
import signal
import subprocess
import time
from pathlib import Path

import httpx

from tests.acceptance.conftest import environment

ROOT = Path(__file__).parents[2]


def _environment() -> dict[str, str]:
    found = environment()
    del found["PYTHONPATH"]
    return found


def test_run_serves_this_repository_and_names_the_lines_to_try(tmp_path: Path) -> None:
    output = tmp_path / "out"
    with output.open("w") as file:
        process = subprocess.Popen(
            ["scripts/run", "--port", "0"],
            cwd=ROOT,
            env=_environment(),
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + 60
        while "trace last" not in output.read_text():
            assert process.poll() is None, output.read_text()
            assert time.monotonic() < deadline, output.read_text()
            time.sleep(0.02)
        text = output.read_text()
        url = re.search(r"try +curl (http://\S+)", text)
        trace = re.search(r"then +(\S.*)", text)
        assert url is not None
        assert trace is not None
        answer = httpx.get(url[1], trust_env=False)
        assert answer.json() == {"message": "Hello, world!"}
        shown = subprocess.run(
            trace[1].split(), cwd=ROOT, env=_environment(), capture_output=True, text=True, check=True
        )
        assert answer.headers["x-request-id"][:8] in shown.stdout
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0


def test_test_passes_its_arguments_to_pytest_while_another_runs() -> None:
    runs = [
        subprocess.Popen(
            ["scripts/test", "--collect-only", "-q", "tests/unit/store"],
            cwd=ROOT,
            env=_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for _ in range(2)
    ]
    for run in runs:
        printed, _ = run.communicate(timeout=60)
        assert run.returncode == 0, printed
        assert "tests/unit/store" in printed
