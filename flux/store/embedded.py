"""The embedded Postgres under .flux/: start it when no one runs it, join it otherwise.

Called by Store.open and tests.

`acquire` gives a Lease; the server runs for as long as anybody on the machine holds one, in whatever way
its holder ends. The work is done by a keeper process (keeper.py). The listening socket and the lock are
made here and inherited by it, so that a newcomer can queue at once and no two keepers ever start.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import select
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from flux import errors
from flux.errors import StoreError, WrongOwner
from flux.store import binaries as programs
from flux.store.keeper import SOCKET

_PATIENCE = 330.0
"""Seconds to wait for a server that another process is starting, recovering or stopping."""
_ATTEMPTS = 3
_SHORT = 100
_PACKAGE = Path(__file__).parents[2]


class Lease:
    """A hold on the running server; it lasts until `close`, or the end of the process.

    Attributes:
        connect_args: for asyncpg.connect, as superuser of the whole server: host, port, user, database.
    """

    def __init__(
        self, flux_dir: Path, given: Path | None, hold: socket.socket, address: dict[str, Any]
    ) -> None:
        self.connect_args = address
        self._flux_dir = flux_dir
        self._given = given
        self._hold = hold

    def fileno(self) -> int:
        """A descriptor that becomes readable when the keeper has gone, and the server with it."""
        return self._hold.fileno()

    @property
    def alive(self) -> bool:
        """Whether the keeper still answers for this lease."""
        return self._hold.fileno() >= 0 and not select.select([self._hold], [], [], 0)[0]

    def renew(self) -> None:
        """Acquire again after the keeper was killed; `connect_args` stay the same. Blocks like `acquire`."""
        fresh = acquire(self._flux_dir, binaries=self._given)
        self._hold.close()
        self._hold = fresh._hold
        self.connect_args = fresh.connect_args

    def close(self) -> None:
        """Let go; a second after the last lease is closed the server stops. May be called twice."""
        self._hold.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def acquire(flux_dir: Path, *, binaries: Path | None = None) -> Lease:
    """Hold the project's Postgres, starting it if no one else does.

    Takes some 0.1 s when it must be started, 0.5 s when it must be made, 1 ms to join.

    Args:
        flux_dir: the project's `.flux`; made if it isn't there.
        binaries: the folder of Postgres' programs, instead of FLUX_POSTGRES_BIN or the embedded ones.

    Raises:
        StoreError: it can't be started; the message says what is in the way.
        WrongOwner: the data belongs to another account.
    """
    folder = flux_dir.resolve() / "postgres"
    try:
        _make(folder)
        attempts = 0
        end = time.monotonic() + _PATIENCE
        while time.monotonic() < end:
            joined = _join(folder, end)
            if joined is not None:
                return Lease(flux_dir, binaries, *joined)
            if attempts == _ATTEMPTS:
                raise StoreError("The keeper of the embedded Postgres does not start.", _keeper_said(folder))
            attempts += _start(folder, binaries)
            time.sleep(0.005)
    except OSError as error:
        raise _from_os(folder, error) from error
    raise StoreError(
        f"The embedded Postgres in {folder} is held by a process that does not answer.",
        "Look for `postgres` and `flux.store.keeper` among this machine's processes.",
    )


def is_running(flux_dir: Path) -> bool:
    """Whether somebody holds the project's Postgres now; one that is starting is waited for."""
    try:
        joined = _join(flux_dir.resolve() / "postgres", time.monotonic() + _PATIENCE)
    except (OSError, StoreError):
        return False
    if joined is not None:
        joined[0].close()
    return joined is not None


def _make(folder: Path) -> None:
    if folder.is_dir():
        return
    folder.mkdir(parents=True, exist_ok=True)
    owner = folder.parents[1].stat()
    if os.geteuid() == 0 and owner.st_uid != 0:
        os.chown(folder, owner.st_uid, owner.st_gid)


def _join(folder: Path, end: float) -> tuple[socket.socket, dict[str, Any]] | None:
    hold = socket.socket(socket.AF_UNIX)
    try:
        try:
            with _Reachable(folder) as path:
                hold.connect(path)
            hold.settimeout(max(0.1, end - time.monotonic()))
            line = b""
            while not line.endswith(b"\n"):
                got = hold.recv(4096)
                if not got:
                    break
                line += got
        except (FileNotFoundError, ConnectionError):
            line = b""
        if not line:
            hold.close()
            return None
        greeting = json.loads(line)
        if "error" in greeting:
            raise _refusal(greeting["error"])
    except BaseException:
        hold.close()
        raise
    hold.setblocking(False)
    return hold, greeting["ok"]


def _refusal(error: dict[str, Any]) -> StoreError:
    kind = getattr(errors, str(error["type"]), StoreError)
    return (WrongOwner if kind is WrongOwner else StoreError)(error["message"], error["hint"])


def _start(folder: Path, given: Path | None) -> bool:
    """Start a keeper if none is there; False when somebody holds the lock."""
    lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        where = programs.locate(given)
        with suppress(FileNotFoundError):
            (folder / SOCKET).unlink()
        with socket.socket(socket.AF_UNIX) as listener:
            with _Reachable(folder) as path:
                listener.bind(path)
            os.chmod(folder / SOCKET, 0o600)
            _share(folder)
            listener.listen(128)
            _launch(folder, where, listener.fileno(), lock)
        return True
    finally:
        os.close(lock)


def _share(folder: Path) -> None:
    """What root makes in the project of another account is that account's, which may join and follow."""
    owner = folder.stat()
    if os.geteuid() == 0 and owner.st_uid != 0:
        for name in ("lock", SOCKET):
            os.chown(folder / name, owner.st_uid, owner.st_gid, follow_symlinks=False)


def _launch(folder: Path, where: Path, listener: int, lock: int) -> None:
    environment = {"PATH": os.environ.get("PATH", os.defpath), "PYTHONPATH": str(_PACKAGE)}
    if "LD_LIBRARY_PATH" in os.environ:
        environment["LD_LIBRARY_PATH"] = os.environ["LD_LIBRARY_PATH"]
    command = [sys.executable, "-S", "-P", "-m", "flux.store.keeper"]
    # Hashed here, not there: the keeper has to start quickly, and imports as little as it can.
    name = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
    log = folder / "keeper.log"
    log.unlink(missing_ok=True)
    with log.open("xb") as said:
        subprocess.run(
            [*command, str(folder), name, str(where), str(listener), str(lock)],
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            env=environment,
            cwd="/",
            pass_fds=(listener, lock),
            start_new_session=True,
            check=False,
        )


def _keeper_said(folder: Path) -> str | None:
    lines = (folder / "keeper.log").read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1] if lines else None


class _Reachable:
    """A path of the keeper's socket short enough for the 107 bytes that one may have."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._descriptor = -1

    def __enter__(self) -> str:
        direct = str(self._folder / SOCKET)
        if len(os.fsencode(direct)) < _SHORT or sys.platform != "linux":
            return direct
        self._descriptor = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        return f"/proc/self/fd/{self._descriptor}/{SOCKET}"

    def __exit__(self, *_: object) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)


def _from_os(folder: Path, error: OSError) -> StoreError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StoreError(
            f"The disk that holds {folder} is full; Postgres can't start.", "Make room, then try again."
        )
    if isinstance(error, PermissionError):
        return WrongOwner(
            f"The embedded Postgres in {folder} belongs to another account: {error.strerror}.",
            "Run Flux as the account that owns it, or remove the folder to begin with an empty database.",
        )
    if isinstance(error, TimeoutError):
        return StoreError(f"The keeper of the embedded Postgres in {folder} does not answer.")
    return StoreError(f"The embedded Postgres can't be started: {error}.")
