"""The guard: an audit hook that keeps functions to their own code and the host. Installed before user code
loads.

It stops what ordinary code would do by mistake or in good faith, and says what to use instead. Code that sets
out to get around it can; that meets the kernel (flux/runtime/confine).
"""

import _thread
import os
import sys
import threading
from collections.abc import Callable, Iterable
from typing import Any

from flux_functions.errors import NotPermitted

_NETWORK = "functions reach the network through httpx.AsyncClient only"
_PROCESS = "functions can't start or signal processes"
_FILES = "functions can't change files; keep data in the database"
_REFUSED = {
    "socket.__new__": _NETWORK,
    "socket.connect": _NETWORK,
    "socket.bind": _NETWORK,
    "socket.sendto": _NETWORK,
    "socket.sendmsg": _NETWORK,
    "socket.getaddrinfo": _NETWORK,
    "socket.gethostbyname": _NETWORK,
    "socket.gethostbyaddr": _NETWORK,
    "socket.getnameinfo": _NETWORK,
    "http.client.connect": _NETWORK,
    "urllib.Request": _NETWORK,
    "ftplib.connect": _NETWORK,
    "smtplib.connect": _NETWORK,
    "imaplib.open": _NETWORK,
    "poplib.connect": _NETWORK,
    "subprocess.Popen": _PROCESS,
    "os.system": _PROCESS,
    "os.exec": _PROCESS,
    "os.fork": _PROCESS,
    "os.forkpty": _PROCESS,
    "os.posix_spawn": _PROCESS,
    "os.spawn": _PROCESS,
    "os.kill": _PROCESS,
    "os.killpg": _PROCESS,
    "pty.spawn": _PROCESS,
    "signal.pthread_kill": _PROCESS,
    "os.chdir": "functions can't change the working folder",
    "resource.setrlimit": "functions can't change limits",
    "resource.prlimit": "functions can't change limits",
    "sqlite3.connect": _FILES,
    "syslog.openlog": _PROCESS,
    "syslog.syslog": _PROCESS,
}
_THREADS = ("start_new_thread", "start_new", "start_joinable_thread")
_CHANGES = frozenset(
    {
        "os.chflags",
        "os.chmod",
        "os.chown",
        "os.link",
        "os.lockf",
        "os.mkdir",
        "os.remove",
        "os.removexattr",
        "os.rename",
        "os.rmdir",
        "os.setxattr",
        "os.symlink",
        "os.truncate",
        "os.utime",
        "shutil.rmtree",
        "tempfile.mkdtemp",
        "tempfile.mkstemp",
    }
)
_LISTS = frozenset({"os.listdir", "os.scandir", "os.walk", "os.fwalk", "glob.glob"})
_MODULES = frozenset({"_ctypes", "_posixsubprocess", "_multiprocessing", "_posixshmem"})
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def install(roots: Iterable[str]) -> None:
    """Begin to refuse. There is no way back.

    Args:
        roots: folders and files that may be read.
    """
    allowed: set[str] = set()
    for root in roots:
        allowed |= {os.path.normpath(root), os.path.realpath(root)}
    exact = frozenset(allowed)
    below = tuple(sorted(root + os.sep for root in allowed))
    sys.addaudithook(_hook(exact, below))
    for name in _THREADS:
        for module, attribute in ((_thread, name), (threading, f"_{name}")):
            if hasattr(module, attribute):
                setattr(module, attribute, _no_thread)


def _no_thread(*arguments: Any, **named: Any) -> Any:
    raise NotPermitted("Functions can't start threads, whose order can't be replayed: use asyncio.")


def _hook(exact: frozenset[str], below: tuple[str, ...]) -> Callable[[str, tuple[Any, ...]], None]:
    normpath, join, fsdecode, getcwd = os.path.normpath, os.path.join, os.fsdecode, os.getcwd
    writing, refused, changes, lists, modules = _WRITING, _REFUSED, _CHANGES, _LISTS, _MODULES

    def readable(path: Any) -> bool:
        if isinstance(path, int):
            return False
        text = fsdecode(path) if path is not None else getcwd()
        if not text.startswith(os.sep):
            text = join(getcwd(), text)
        text = normpath(text)
        return text in exact or text.startswith(below)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, mode, flags = arguments
            if (isinstance(flags, int) and flags & writing) or (
                isinstance(mode, str) and set(mode) & set("wax+")
            ):
                raise PermissionError(f"{path!r} can't be written: {_FILES}.")
            if not readable(path):
                raise PermissionError(f"{path!r} can't be read: functions read their own code only.")
        elif event == "import":
            if arguments[0] in modules:
                raise ImportError(f"`{arguments[0]}` is not available to functions.")
        elif event in lists:
            if not readable(arguments[0] if arguments else None):
                raise PermissionError(
                    f"{arguments[0]!r} can't be listed: functions read their own code only."
                )
        elif event in refused:
            if event == "sqlite3.connect" and arguments[0] == ":memory:":
                return
            raise NotPermitted(f"{event}: {refused[event]}.")
        elif event in changes:
            raise PermissionError(f"{event}: {_FILES}.")
        elif event.startswith("ctypes."):
            raise NotPermitted("ctypes is not available to functions.")

    return hook
