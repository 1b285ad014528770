"""The server's side of the spawner, the small process that makes an engine's guests. Used by the pool.

Starting a process from the server itself would fork all of its memory, or leave no room to confine the child.
The spawner (`confine/__main__.py`) is started once, by vfork. It forks a guest in milliseconds, while the
server's event loop goes on, and confines it before it runs anything.

On Linux the kernel kills the spawner when the thread that started it ends, and the guests when the spawner
ends: start it from the thread that runs the event loop, which lives as long as the server.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import pwd
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from flux.errors import RuntimeFault
from flux.runtime.confine import addresses, landlock, seccomp

_PROGRAM = Path(__file__).with_name("confine") / "__main__.py"
_ACCOUNT = 64_321
"""The number of the account that guests run as where the server is root, unless somebody has it."""


def missing() -> list[str]:
    """What this machine lacks for guests to be confined; empty where they are."""
    found = [] if landlock.version() else ["Landlock"]
    return found if seccomp.supported() else [*found, "seccomp"]


def unconfined() -> tuple[str, str] | None:
    """What people are told where guests can't be confined, and a hint; None where they are."""
    lacking = missing()
    if not lacking:
        return None
    return (
        f"What keeps functions in is a guard, not a sandbox: this machine has no {' and no '.join(lacking)}.",
        "Run your own code only, or use Linux 5.13 or later with Landlock on, on x86-64 or Arm64.",
    )


class Order(msgspec.Struct, frozen=True):
    """A guest that is to be started.

    Attributes:
        argv: what to execute, by its whole path; empty: the guest that the spawner has loaded.
        environment: the whole environment of what is executed.
        cwd: the folder it starts in.
        read: files and folders that it may read, besides shared libraries.
        list: folders whose names it may list, with those below them.
        execute: files that it may execute.
        write: folders in which it may make and change files.
        file_size: bytes that a file may have that it writes.
    """

    cwd: str
    argv: Sequence[str] = ()
    environment: Mapping[str, str] = {}
    read: Sequence[str] = ()
    list: Sequence[str] = ()
    execute: Sequence[str] = ()
    write: Sequence[str] = ()
    file_size: int = 0


class Child:
    """A process that the spawner has made.

    Attributes:
        pid: its process id; another's only once `returncode` is set.
        returncode: what it ended with (negative: the signal), or None.
        stderr: the reading end of its stderr. The caller's to close.
        ended: done when it has.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self.stderr: Any = None
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def kill(self) -> None:
        """SIGKILL it and its group; nothing happens if it is gone already."""
        if self.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)

    def _end(self, code: int) -> None:
        self.returncode = code
        if not self.ended.done():
            self.ended.set_result(None)


class Spawner:
    """Starts processes. Belongs to one event loop; its own process is started with the first, and anew where
    it was lost.

    Args:
        python: the interpreter that it runs in.
        loaded: the Python guest's folder and those of its packages, where it is to make Python guests.
        environment: its whole environment, which Python guests have from it.
        project: the folder whose owner guests run as where the server is root.
    """

    def __init__(
        self,
        *,
        python: str = sys.executable,
        loaded: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        project: Path | None = None,
    ) -> None:
        self._python = python
        self._loaded = list(loaded)
        self._environment = dict(environment or {})
        self.account = _account(project)
        """The user and group of guests; None where it is the server's."""
        self._process: subprocess.Popen[bytes] | None = None
        self._server: socket.socket | None = None
        self._numbers = itertools.count(1)
        self._asked: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._children: dict[int, Child] = {}
        self._unburied: list[int] = []
        self._rest = b""
        self._turn = asyncio.Lock()

    async def spawn(self, order: Order) -> tuple[Child, socket.socket]:
        """Start a guest; the caller owns the returned end of its socketpair, and its stderr.

        Its stdin and stdout are the other end.

        Raises:
            RuntimeFault: it can't be started.
        """
        ours, theirs = socket.socketpair()
        read, write = os.pipe()
        stderr = os.fdopen(read, "rb", buffering=0)
        asked = msgspec.to_builtins(order) | {"account": self.account}
        try:
            with theirs, os.fdopen(write, "wb", buffering=0):
                answer = await self._ask(asked, [theirs.fileno(), write])
            if "error" in answer:
                what = order.argv[0] if order.argv else "Python"
                hint = "Install Flux and put the project where other accounts can read them."
                raise RuntimeFault(
                    f"The guest can't be started: {what}: {answer['error']}.",
                    hint if "which functions run as" in answer["error"] else None,
                )
        except BaseException:
            ours.close()
            stderr.close()
            raise
        ours.setblocking(False)
        child: Child = answer["child"]
        child.stderr = stderr
        return child, ours

    async def bound(self, child: Child, more: int) -> None:
        """Let a process that has booted allocate `more` bytes beyond what it has now, and write to no file.

        With 0 it may allocate any.

        Counted is private writable memory, touched or not (RLIMIT_DATA, see getrlimit(2)): heaps, buffers
        outside them, stacks. What a runtime maps when it boots differs by version, so the limit is set on the
        running process. Linux only; elsewhere nothing happens.

        Raises:
            RuntimeFault: the limit can't be set.
        """
        if sys.platform != "linux":
            return
        answer = await self._ask({"bound": child.pid, "more": more, "account": self.account}, [])
        if answer["error"]:
            raise RuntimeFault(
                f"The memory and files of a guest process can't be limited: {answer['error']}.",
                "Run Flux as an ordinary user, or as root in a container that keeps CAP_SETUID.",
            )

    def close(self) -> None:
        """End it, and with it the guests that are left. Idempotent."""
        self._lose("The spawner is closed.")

    # The conversation

    async def _ask(self, order: dict[str, Any], descriptors: list[int]) -> dict[str, Any]:
        number = next(self._numbers)
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        async with self._turn:
            server = self._connected()
            self._asked[number] = answer
            await self._send(server, order | {"n": number}, descriptors)
        self._bury()
        try:
            return await answer
        finally:
            self._asked.pop(number, None)

    def _connected(self) -> socket.socket:
        if self._server is not None:
            return self._server
        ours, theirs = socket.socketpair()
        flags = ["-s", "-S", "-P", "-B", "-X", "utf8"]
        try:
            with theirs, addresses.fixed() if self._loaded else contextlib.nullcontext():
                self._process = subprocess.Popen(
                    [self._python, *flags, str(_PROGRAM), str(os.getpid()), *self._loaded],
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    cwd="/",
                    env=self._environment,
                    process_group=0,
                )
        except OSError as error:
            ours.close()
            raise RuntimeFault(f"Guests can't be started: {self._python}: {error.strerror}.") from error
        ours.setblocking(False)
        self._server = ours
        asyncio.get_running_loop().add_reader(ours.fileno(), self._readable)
        return ours

    async def _send(self, server: socket.socket, order: dict[str, Any], descriptors: list[int]) -> None:
        """Send one order whole; only the holder of `_turn` does."""
        encoded = msgspec.json.encode(order)
        data = struct.pack(">I", len(encoded)) + encoded
        while data:
            try:
                sent = socket.send_fds(server, [data], descriptors) if descriptors else server.send(data)
            except BlockingIOError:
                await _writable(server)
                continue
            except OSError as error:
                self._lose(f"The spawner is gone: {error.strerror}.")
                return
            data, descriptors = data[sent:], []

    def _readable(self) -> None:
        assert self._server is not None
        try:
            data = self._server.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._lose("The process that starts guests has ended.")
            return
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            answer = msgspec.json.decode(line)
            if "code" in answer:
                self._children.pop(answer["pid"])._end(answer["code"])
                self._unburied.append(answer["pid"])
                self._bury()
                continue
            asked = self._asked.get(answer["n"])
            wanted = asked is not None and not asked.done()
            if "pid" in answer:
                answer["child"] = self._children[answer["pid"]] = Child(answer["pid"])
                if not wanted:
                    answer["child"].kill()
            if asked is not None and wanted:
                asked.set_result(answer)

    def _bury(self) -> None:
        """Give back the process ids of those that have ended; later, where an order is being sent."""
        while self._unburied and self._server is not None and not self._turn.locked():
            encoded = msgspec.json.encode({"bury": self._unburied[-1]})
            try:
                self._server.send(struct.pack(">I", len(encoded)) + encoded)
            except OSError:
                return
            self._unburied.pop()

    def _lose(self, why: str) -> None:
        server, self._server = self._server, None
        process, self._process = self._process, None
        self._rest = b""
        self._unburied.clear()
        if server is not None:
            asyncio.get_running_loop().remove_reader(server.fileno())
            server.close()
        if process is not None:
            process.kill()
            process.wait()
        for asked in self._asked.values():
            if not asked.done():
                asked.set_exception(RuntimeFault(why))
        children, self._children = self._children, {}
        for child in children.values():
            child._end(-signal.SIGKILL)


async def _writable(server: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()

    def writable() -> None:
        if not ready.done():
            ready.set_result(None)

    loop.add_writer(server.fileno(), writable)
    try:
        await ready
    finally:
        loop.remove_writer(server.fileno())


def _account(project: Path | None) -> tuple[int, int] | None:
    """Whom guests run as: this process's account, or where that is root's the project's owner, else a number
    that nobody has."""
    if os.geteuid() != 0:
        return None
    if project is not None:
        owner = project.stat()
        if owner.st_uid != 0:
            return owner.st_uid, owner.st_gid
    with contextlib.suppress(KeyError):
        pwd.getpwuid(_ACCOUNT)
        nobody = pwd.getpwnam("nobody")
        return nobody.pw_uid, nobody.pw_gid
    return _ACCOUNT, _ACCOUNT
