"""Every command in the README's console blocks runs, in order, and prints what the README says.

A block is fenced as `console`. `$ ` begins a command, which a backslash at a line's end carries on.
The lines up to the next one are its output. A line that is only `…` stands for any lines. Ids,
times, durations, ports and bars differ from run to run and are compared as such. `flux dev` goes on
running behind the others.
"""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.acceptance.conftest import Project, Server, environment

ROOT = Path(__file__).parents[2]
_BLOCK = re.compile(r"^```console\n(.*?)^```", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Step:
    command: str
    expected: list[str]


def _steps(text: str) -> list[Step]:
    steps: list[Step] = []
    for block in _BLOCK.findall(text):
        for line in block.splitlines():
            if line.startswith("$ "):
                steps.append(Step(line[2:], []))
            elif steps and steps[-1].command.endswith("\\"):
                steps[-1] = Step(f"{steps[-1].command}\n{line}", [])
            else:
                steps[-1].expected.append(line)
    return steps


def _same(line: str) -> str:
    line = re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:4000", line)
    line = re.sub(r"\b[0-9a-f]{32,64}\b", "<id>", line)
    line = re.sub(r"\b(?=[0-9a-f]*[0-9])[0-9a-f]{8,16}\b(…)?", "<id>", line)
    line = re.sub(r'"\d{4}-\d\d-\d\dT[^"…\s]*("|…)', "<time>", line)  # cut at the screen's edge or whole
    line = re.sub(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:?\d\d)?", "<time>", line)
    line = re.sub(r"\b\d\d:\d\d:\d\d(\.\d+)?", "<time>", line)
    line = re.sub(r"\d+ (s|min) ago|just now", "<time>", line)
    line = re.sub(r"\d+(\.\d+)?\s?(ms|µs|s)\b", "<duration>", line)
    line = re.sub(r"[━─█▁▂▃▄▅▆▇▏▎▍▌▋▊▉╸╺╴╶·]+", "<bar>", line)
    return re.sub(r"\s+", " ", line).strip()


def _matches(expected: list[str], actual: list[str]) -> bool:
    wanted = [_same(line) for line in expected if line.strip()]
    found = [_same(line) for line in actual if line.strip()]

    def rest(i: int, j: int) -> bool:
        if i == len(wanted):
            return j == len(found)
        if wanted[i] in ("…", "<bar>…"):
            return any(rest(i + 1, k) for k in range(j, len(found) + 1))
        return j < len(found) and wanted[i] == found[j] and rest(i + 1, j + 1)

    return rest(0, 0)


def _run(command: str, folder: Path, environment: dict[str, str]) -> list[str]:
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return (done.stdout + done.stderr).splitlines()


@pytest.fixture
def stranger(tmp_path: Path) -> Iterator[Project]:
    """Somebody's empty folder, with `flux` on the PATH."""
    commands = tmp_path / "bin"
    commands.mkdir()
    script = commands / "flux"
    script.write_text(f"#!{sys.executable}\nfrom flux.cli import main\n\nmain()\n")
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    home = tmp_path / "home"
    home.mkdir()
    project = Project(home, environment(COLUMNS="100"), command=(str(script),))
    project.environment["PATH"] = f"{commands}{os.pathsep}{project.environment['PATH']}"
    yield project
    project.end()


@pytest.mark.timeout(180)
def test_every_command_of_the_readme_runs_and_prints_what_it_says(stranger: Project) -> None:
    steps = _steps((ROOT / "README.md").read_text())
    assert len(steps) >= 8
    folder = stranger.root
    server: Server | None = None
    for step in steps:
        if step.command.startswith("cd "):
            folder = (folder / step.command[3:]).resolve()
            continue
        if step.command == "flux dev":
            stranger.root = folder
            server = stranger.start("dev")
            server.wait_for("trace last")
            printed = server.text().splitlines()
        else:
            command = step.command
            if server is not None:
                command = command.replace("http://127.0.0.1:4000", server.url)
            printed = _run(command, folder, stranger.environment)
            # What a reading command shows of the pushed job is there once the job has run.
            deadline = time.monotonic() + 10
            while (
                command.startswith("flux ")
                and not _matches(step.expected, printed)
                and time.monotonic() < deadline
            ):
                printed = _run(command, folder, stranger.environment)
        assert _matches(step.expected, printed), (
            f"$ {step.command}\n--- the README says\n"
            + "\n".join(step.expected)
            + "\n--- it printed\n"
            + "\n".join(printed)
        )
    assert server is not None
    assert server.stop() == 0


def test_the_two_commands_stand_at_the_top_and_can_be_run() -> None:
    top = (ROOT / "README.md").read_text()[:1500]
    for script in ("scripts/run", "scripts/test"):
        assert script in top
        assert os.access(ROOT / script, os.X_OK)


def test_every_relative_link_in_the_documentation_leads_somewhere() -> None:
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
