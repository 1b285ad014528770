"""A project folder for an embedded Postgres, and client processes that hold its server."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

_HOLD = """
import json, sys
from pathlib import Path
from flux.errors import FluxError
from flux.store import embedded
try:
    lease = embedded.acquire(Path(sys.argv[1]))
except FluxError as error:
    print(json.dumps({"type": error.type, "message": error.message, "hint": error.hint}), flush=True)
    sys.exit(1)
print(json.dumps(lease.connect_args), flush=True)
sys.stdin.read()
"""


class Client:
    """A process that acquires a project's Postgres and holds it until `leave` or `kill`."""

    def __init__(
        self, flux_dir: Path, *, user: int | None = None, python: str = sys.executable, **env: str
    ) -> None:
        repository = Path(__file__).parents[3]
        self.process = subprocess.Popen(
            [python, "-c", _HOLD, str(flux_dir)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(repository), "PYTHONDONTWRITEBYTECODE": "1", **env},
            user=user,
            group=user,
            extra_groups=[] if user is not None else None,
            cwd="/",
        )

    def answer(self) -> dict[str, Any]:
        """What it printed: how to connect, or the error."""
        assert self.process.stdout is not None
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        return answer

    def leave(self) -> None:
        """End in the ordinary way."""
        self.process.communicate()

    def kill(self) -> None:
        """End by kill -9."""
        self.process.send_signal(signal.SIGKILL)
        self.process.communicate()


@pytest.fixture
def project() -> Iterator[Path]:
    """A folder with a short path that every account can enter; its servers are gone before it is removed."""
    folder = Path(tempfile.mkdtemp(prefix="fx", dir="/tmp"))
    folder.chmod(0o755)
    try:
        yield folder
        for pid, command in processes(folder).items():
            if "flux.store.keeper" in command:
                os.kill(pid, signal.SIGTERM)
        await_end(folder)
    finally:
        shutil.rmtree(folder)


def await_end(project: Path) -> None:
    """Wait until no keeper and no process of Postgres is left: each holds the project's lock."""
    lock = project / ".flux" / "postgres" / "lock"
    if lock.exists():
        subprocess.run(["flock", "--timeout", "30", str(lock), "true"], check=True)


def processes(project: Path) -> dict[int, str]:
    """Keeper and Postgres processes of a project by process id: those that have its lock open."""
    lock = project / ".flux" / "postgres" / "lock"
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            if any(os.path.samestat(fd.stat(), lock.stat()) for fd in (entry / "fd").iterdir()):
                found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
    return found


def keeper_of(project: Path) -> int:
    """The keeper's process id."""
    (keeper,) = [pid for pid, command in processes(project).items() if "flux.store.keeper" in command]
    return keeper


def postmaster_of(project: Path) -> int:
    """The process id of Postgres' first process."""
    return int((project / ".flux/postgres/data/postmaster.pid").read_text().split()[0])
