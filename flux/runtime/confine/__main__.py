"""The spawner: a small process that makes guests, so that the server need not fork itself. Started by
`flux.runtime.spawner`, with the socket to it as stdin.

It takes orders one at a time: `u32be length | JSON` with two descriptors, the guest's protocol and its
stderr. Each answer is a line of JSON. A guest is a fork of this process: one of Python goes on in it, with
its modules loaded already; another language's runtime is executed.

A guest that has ended stays a zombie until the server has read so and says `bury`: its process id is never
another's while the server may signal it.

Arguments: nothing, or the folder of the Python guest and those of the packages that it may import.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import resource
import select
import signal
import socket
import struct
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

_WAITABLE = hasattr(os, "waitid")


class Spawner:
    """Serves one server until it is gone.

    Args:
        server: the socket to it.
        settle: what a child makes of itself.
        guest: what a child runs that executes nothing.
    """

    def __init__(
        self, server: socket.socket, settle: Callable[..., None], guest: Callable[[], NoReturn] | None
    ) -> None:
        self._server = server
        self._settle = settle
        self._guest = guest
        self._alive: set[int] = set()
        self._woken, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC) if hasattr(os, "pipe2") else _pipe()
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        signal.set_wakeup_fd(wake)

    def run(self) -> None:
        """Take orders until the server closes its end."""
        while True:
            ready, _, _ = select.select([self._server.fileno(), self._woken], [], [])
            if self._woken in ready:
                with suppress(BlockingIOError):
                    os.read(self._woken, 4096)
                self._look()
            if self._server.fileno() in ready:
                order, descriptors = self._receive()
                try:
                    self._take(order, descriptors)
                finally:
                    for descriptor in descriptors:
                        os.close(descriptor)

    def _take(self, order: dict[str, Any], descriptors: list[int]) -> None:
        if "bury" in order:
            with suppress(ChildProcessError):
                os.waitpid(order["bury"], 0)
        elif "bound" in order:
            self._answer({"n": order["n"], "error": _bound(order)})
        else:
            self._answer({"n": order["n"], **self._spawn(order, descriptors)})

    def _spawn(self, order: dict[str, Any], descriptors: list[int]) -> dict[str, Any]:
        parent = os.getpid()
        told, tell = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                self._become(order, parent, descriptors, tell)
            except BaseException as failure:
                with suppress(OSError):
                    os.write(tell, str(failure).encode())
            finally:
                os._exit(127)
        os.close(tell)
        with open(told, "rb") as told_by:
            error = told_by.read().decode(errors="replace")
        if error:
            os.waitpid(child, 0)
            return {"error": error}
        self._alive.add(child)
        return {"pid": child}

    def _become(self, order: dict[str, Any], parent: int, descriptors: list[int], tell: int) -> NoReturn:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self._settle(order, parent, descriptors, tell)
        if order["argv"]:
            signal.signal(signal.SIGPIPE, signal.SIG_DFL)
            os.execve(order["argv"][0], order["argv"], order["environment"])
        assert self._guest is not None
        os.close(tell)
        self._guest()

    def _look(self) -> None:
        """Tell of children that have ended."""
        for pid in list(self._alive):
            if _WAITABLE:
                found = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
                if found is None:
                    continue
                code = found.si_status if found.si_code == os.CLD_EXITED else -found.si_status
            else:
                ended, status = os.waitpid(pid, os.WNOHANG)
                if not ended:
                    continue
                code = os.waitstatus_to_exitcode(status)
            self._alive.discard(pid)
            self._answer({"pid": pid, "code": code})

    def _receive(self) -> tuple[dict[str, Any], list[int]]:
        try:
            head, descriptors, _, _ = socket.recv_fds(self._server, 4, 2)
        except ConnectionResetError:  # killed with an answer unread
            head, descriptors = b"", []
        if not head:
            os._exit(0)
        head += self._exactly(4 - len(head))
        return json.loads(self._exactly(struct.unpack(">I", head)[0])), descriptors

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            try:
                more = self._server.recv(size - len(data))
            except ConnectionResetError:
                more = b""
            if not more:
                os._exit(0)
            data += more
        return data

    def _answer(self, answer: dict[str, Any]) -> None:
        try:
            self._server.sendall(json.dumps(answer).encode() + b"\n")
        except OSError:
            os._exit(0)


def _bound(order: dict[str, Any]) -> str:
    """Limit what a guest that has booted may still take; the error, or an empty text.

    It writes no file any more, and where `more` is not 0 it allocates so many bytes beyond what it has now.
    """
    pid = order["bound"]
    try:
        limits = {resource.RLIMIT_FSIZE: 0}
        if order["more"]:
            with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as status:
                held = int(status.read().partition("VmData:")[2].split()[0]) * 1024
            limits[resource.RLIMIT_DATA] = held + order["more"]
        try:
            _set(pid, limits)
        except PermissionError:
            if order["account"] is None or not _set_as(order["account"], pid, limits):
                raise
    except (OSError, ValueError, IndexError) as error:
        return str(error)
    return ""


def _set(pid: int, limits: dict[int, int]) -> None:
    for which, limit in limits.items():
        resource.prlimit(pid, which, (limit, limit))


def _set_as(account: list[int], pid: int, limits: dict[int, int]) -> bool:
    """Set them from a child that becomes the guest's account.

    Without root's full rights the kernel lets a process limit those of its own account alone.
    """
    child = os.fork()
    if child == 0:
        try:
            uid, gid = account
            os.setgroups([])
            os.setresgid(gid, gid, gid)
            os.setresuid(uid, uid, uid)
            _set(pid, limits)
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitpid(child, 0)[1] == 0


def _pipe() -> tuple[int, int]:
    ends = os.pipe()
    for end in ends:
        os.set_blocking(end, False)
    return ends


def _end_with(parent: int) -> None:
    """Be killed when the server's thread that started this process ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)


def main() -> None:
    """Serve the server that is the other end of stdin."""
    _end_with(int(sys.argv[1]))
    found = list(sys.path)
    sys.path.append(str(Path(__file__).resolve().parents[3]))
    from flux.runtime.confine.child import settle

    sys.path[:] = found
    guest = None
    if len(sys.argv) > 2:
        folder, *packages = sys.argv[2:]
        sys.path.append(folder)
        guest = importlib.import_module("boot").prepare(packages)
    server = socket.socket(fileno=os.dup(0))
    os.set_inheritable(server.fileno(), False)
    # Functions find none of it: what a guest may import is the guest's to say.
    for name in [name for name in sys.modules if name.partition(".")[0] in ("flux", "ctypes", "_ctypes")]:
        del sys.modules[name]
    gc.collect()
    gc.freeze()
    Spawner(server, settle, guest).run()


main()
