"""What the process and the machine say of themselves: the same in every run. Processes and threads have fixed
numbers, folders list in the order of their names, the working folder has one path, nothing is timed.
Installed before user code loads.
"""

import _thread
import os
import signal
import threading
from contextlib import suppress
from types import ModuleType
from typing import Any

from flux_functions.errors import NotPermitted

from flux_guest.hooks import when_imported
from flux_guest.sources import sources

PID = 1
"""What a function's process and its only thread are called."""


def install(root: str) -> None:
    """Replace them.

    Args:
        root: the bundle's folder, as user code sees it.
    """
    os.getpid = os.getpgrp = lambda: PID
    os.getppid = lambda: 0
    os.getpgid = os.getsid = lambda pid: PID
    os.cpu_count = lambda: 1
    for name, value in (("process_cpu_count", 1), ("sched_getaffinity", {0})):
        if hasattr(os, name):
            setattr(os, name, lambda *arguments, value=value: value)
    os.getloadavg = lambda: (0.0, 0.0, 0.0)
    os.times = _times
    for name in ("alarm", "setitimer"):
        if hasattr(signal, name):
            setattr(signal, name, _no_alarm)
    _install_threads()
    _install_folders(root)
    when_imported("logging", _install_logging)
    when_imported("resource", _install_resource)
    when_imported("tempfile", _install_tempfile)
    when_imported("concurrent.futures.thread", _install_pool)


def _elapsed() -> float:
    found = sources()
    return (found.now - found.began) / 1_000_000


def _times() -> Any:
    return os.times_result((_elapsed(), 0.0, 0.0, 0.0, sources().now / 1_000_000))


def _no_alarm(*arguments: Any) -> Any:
    raise NotPermitted("Functions can't set alarms, which go off at any point: use asyncio.timeout.")


def _counted(name: str) -> Any:
    """A counter of each invocation's own, from 1."""

    def count() -> int:
        state = sources().state
        number = state[name] = state.get(name, 0) + 1
        return number

    return count


def _install_threads() -> None:
    main = threading.main_thread()
    threading._active.clear()  # type: ignore[attr-defined]
    threading._active[PID] = main  # type: ignore[attr-defined]
    for name, value in (("_ident", PID), ("_native_id", PID)):
        with suppress(AttributeError):
            setattr(main, name, value)
    modules: tuple[Any, ...] = (threading, _thread)
    for module in modules:
        module.get_ident = lambda: PID
        if hasattr(module, "get_native_id"):
            module.get_native_id = lambda: PID
    threading._counter = _counted("threading.thread")  # type: ignore[attr-defined]


def _install_pool(module: ModuleType) -> None:
    executor: Any = module.ThreadPoolExecutor
    executor._counter = staticmethod(_counted("threading.pool"))


class _Entries:
    """What os.scandir gives, in the order of the names."""

    def __init__(self, real: Any) -> None:
        with real:
            self._entries = iter(sorted(real, key=lambda entry: entry.name))

    def __iter__(self) -> "_Entries":
        return self

    def __next__(self) -> Any:
        return next(self._entries)

    def __enter__(self) -> "_Entries":
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def close(self) -> None:
        """Nothing more comes."""
        self._entries = iter(())


def _install_folders(root: str) -> None:
    listdir, scandir, realpath, real_cwd = os.listdir, os.scandir, os.path.realpath, os.getcwd()
    cwd = os.path.dirname(root)

    def shown(path: Any, *, strict: Any = False) -> Any:
        """The path without links, but for the one by which the bundle is reached."""
        found = realpath(path, strict=strict)
        before: Any = real_cwd
        after: Any = cwd
        separator: Any = os.sep
        if isinstance(found, bytes):
            before, after, separator = os.fsencode(before), os.fsencode(after), os.fsencode(separator)
        if found == before or found.startswith(before + separator):
            return after + found[len(before) :]
        return found

    def listed(path: Any = ".") -> list[Any]:
        return sorted(listdir(path))

    def scanned(path: Any = ".") -> Any:
        return _Entries(scandir(path))

    os.listdir, os.scandir = listed, scanned
    os.getcwd, os.getcwdb = lambda: cwd, lambda: os.fsencode(cwd)
    os.path.realpath = shown  # type: ignore[assignment]


def _install_logging(module: ModuleType) -> None:
    """Have it begun with the process's code, not with the process."""
    began = sources().now
    whole = isinstance(module._startTime, int)
    module._startTime = began * 1000 if whole else began / 1_000_000  # type: ignore[attr-defined]


def _install_resource(module: ModuleType) -> None:
    usage: Any = module.struct_rusage
    module.getrusage = lambda who: usage((_elapsed(), *(0,) * 15))  # type: ignore[attr-defined]


def _install_tempfile(module: ModuleType) -> None:
    def names() -> Any:
        state = sources().state
        if "tempfile" not in state:
            state["tempfile"] = module._RandomNameSequence()
        return state["tempfile"]

    module._get_candidate_names = names  # type: ignore[attr-defined]
