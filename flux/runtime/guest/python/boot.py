"""The Python guest's first file, loaded once by the spawner, whose forks are the guests.

A guest keeps the protocol's descriptor, fd 0, for itself, says `booted`, waits for `start`, loads the user's
code and serves. Whatever else writes to stdout lands on stderr, never in the protocol. Only the standard
library is imported here, and of it as little as may be: modules that nobody has asked for yet load when first
used.
"""

import fcntl
import importlib.util
import os
import sys
from collections.abc import Callable
from typing import NoReturn

_LAZY = ("ast", "inspect", "locale", "textwrap", "tokenize")


def _take_descriptor() -> int:
    """The protocol's descriptor, moved out of reach of what reads fd 0 or writes fd 1."""
    private = fcntl.fcntl(0, fcntl.F_DUPFD_CLOEXEC, 64)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.dup2(2, 1)
    return private


def _load_lazily(name: str) -> None:
    spec = importlib.util.find_spec(name)
    if spec is None or spec.loader is None:
        return
    loader = importlib.util.LazyLoader(spec.loader)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    loader.exec_module(module)


def prepare(packages: list[str]) -> Callable[[], NoReturn]:
    """Bring the runtime up as far as every guest does. What comes back runs a guest, in a fork of this
    process.

    Args:
        packages: folders that functions may import from besides their own.
    """
    here = os.path.dirname(os.path.abspath(__file__))
    standard = [path for path in sys.path if path and path != here]
    sys.path[:] = [*standard, here]
    for name in _LAZY:
        _load_lazily(name)
    sys.modules["ssl"] = None  # asyncio does without; who imports it later gets it
    import asyncio  # noqa: F401

    del sys.modules["ssl"]
    from flux_guest.main import serve

    def guest() -> NoReturn:
        sys.argv[:] = [os.path.join(here, "boot.py")]
        serve(_take_descriptor(), here=here, standard=standard, packages=packages)

    return guest
