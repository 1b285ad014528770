"""A real project on disk, a real server process and the real command line, for tests that see Flux as its
users do.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import httpx
import pytest

START_LIMIT = 60.0
_URL = re.compile(r"Serving on (http://\S+)")
_ANSI = re.compile(r"\x1b\[[0-9;]*m")


@dataclass
class Server:
    """A running `flux dev` or `flux serve`."""

    process: subprocess.Popen[bytes]
    url: str
    output: Path

    def text(self) -> str:
        return _ANSI.sub("", self.output.read_text())

    def wait_for(self, pattern: str, seconds: float = 20.0) -> re.Match[str]:
        """Wait until the server has printed something."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if found := re.search(pattern, self.text()):
                return found
            assert self.process.poll() is None, f"the server ended:\n{self.text()}"
            time.sleep(0.01)
        raise AssertionError(f"the server did not print {pattern!r}:\n{self.text()}")

    def kill(self, *, sidecar: bool = False) -> None:
        """kill -9 of the server process alone, or of its sidecar too: as if the machine had gone."""
        if sidecar:
            beside = self.children("flux.app.sidecar")
            self.process.send_signal(signal.SIGSTOP)  # lest it starts another
            for pid in beside:
                os.kill(pid, signal.SIGKILL)
        self.process.kill()
        self.process.wait()

    def pause_sidecar(self) -> None:
        """Stop the sidecar where it is: nothing is drained any more."""
        for pid in self.children("flux.app.sidecar"):
            os.kill(pid, signal.SIGSTOP)

    def children(self, named: str) -> list[int]:
        """Pids of its child processes whose command line has `named` in it."""
        listed = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return [int(pid) for pid in listed if named in Path(f"/proc/{pid}/cmdline").read_text()]

    def stop(self) -> int:
        """SIGTERM, and wait for its end."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


@dataclass
class Project:
    """A Flux project in a folder of its own."""

    root: Path
    environment: dict[str, str]
    command: tuple[str, ...] = (sys.executable, "-m", "flux")
    servers: list[Server] = field(default_factory=list)

    def write(self, path: str, text: str) -> Path:
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(target.name + ".new")
        temporary.write_text(text)
        temporary.replace(target)
        return target

    def end(self) -> None:
        """Kill every server that still runs, and print what each has said: a failed test shows it."""
        for server in self.servers:
            if server.process.poll() is None:
                server.process.kill()
                server.process.wait()
            print(f"--- {server.output.name}, exit {server.process.returncode}:\n{server.text()}")

    def typescript(self, name: str, body: str, **config: Any) -> None:
        """Write a function whose handler's body is `body`."""
        self.write(
            f"functions/{name}/index.ts",
            'import { defineFunction } from "@flux/functions";\n\n'
            f"export default defineFunction({{\n  name: {json.dumps(name)},\n"
            f"  handler: async ({{ input, ctx }}) => {{\n{body}\n  }},\n}});\n",
        )
        if config:
            self.write(f"functions/{name}/flux.json", json.dumps(config))

    def flux(
        self, *arguments: str, code: int | None = 0, timeout: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """Run the CLI; asserts its exit code unless `code` is None."""
        done = subprocess.run(
            [*self.command, *arguments],
            cwd=self.root,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        assert code is None or done.returncode == code, (
            f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        )
        return done

    def json(self, *arguments: str) -> Any:
        """A reading command's `--json` document."""
        return json.loads(self.flux(*arguments, "--json").stdout)

    def start(self, command: str = "serve", *arguments: str) -> Server:
        """Start a server on a free port and wait until it serves."""
        output = self.root / f"server-{len(self.servers)}.log"
        with output.open("wb") as file:
            process = subprocess.Popen(
                [*self.command, command, "--port", "0", *arguments],
                cwd=self.root,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        server = Server(process, "", output)
        self.servers.append(server)
        server.url = server.wait_for(_URL.pattern, START_LIMIT)[1]
        return server

    @contextlib.contextmanager
    def serving(self, command: str = "serve", *arguments: str) -> Iterator[httpx.Client]:
        """A client of a server that is stopped at the end."""
        server = self.start(command, *arguments)
        try:
            with httpx.Client(base_url=server.url, timeout=30, trust_env=False) as client:
                yield client
        finally:
            assert server.stop() == 0, server.text()


def eventually(condition: Callable[[], object], seconds: float = 30.0) -> None:
    """Wait until something holds that another process brings about."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.05)


def environment(**more: str) -> dict[str, str]:
    """The test's environment for a child process: this checkout's code, no colours, no settings of the
    machine.
    """
    kept = {
        k: v for k, v in os.environ.items() if not k.startswith(("FLUX_", "OTEL_")) and k != "DATABASE_URL"
    }
    here = Path(__file__).parents[2]
    return {**kept, "PYTHONPATH": f"{here}{os.pathsep}{here / 'exporters'}", "NO_COLOR": "1", **more}


@pytest.fixture
def project(tmp_path: Path, database_url: str) -> Iterator[Project]:
    """An empty project on a database of its own, in the tests' Postgres."""
    root = tmp_path / "app"
    (root / "functions").mkdir(parents=True)
    (root / "flux.toml").write_text('name = "app"\n')
    project = Project(root, environment(DATABASE_URL=database_url, FLUX_MASTER_KEY="5a" * 32))
    yield project
    project.end()


@pytest.fixture(scope="module")
def module_project(postgres_url: str, _template: tuple[str, Callable[[str], None]]) -> Iterator[Project]:
    """An empty project on a database of its own, for all tests of a module."""
    template, execute = _template
    database = f"{template}_{secrets.token_hex(4)}"
    execute(f'CREATE DATABASE "{database}" TEMPLATE "{template}"')
    root = Path(tempfile.mkdtemp(prefix="flux-test-", dir="/tmp"))
    root.chmod(0o755)
    url = urlunsplit(urlsplit(postgres_url)._replace(path=f"/{database}"))
    project = Project(root, environment(DATABASE_URL=url, FLUX_MASTER_KEY="5a" * 32))
    project.write("flux.toml", 'name = "app"\n')
    try:
        yield project
    finally:
        project.end()
        execute(f'DROP DATABASE "{database}" WITH (FORCE)')
        shutil.rmtree(root, ignore_errors=True)
