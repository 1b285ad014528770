"""The Python guest's first file: `python -s -S -P -B boot.py <site-packages>...`, with the protocol on fd 0.

It keeps the protocol's descriptor for itself, brings the runtime up, says `booted`, waits for `start`, loads
the user's code and serves. Whatever else writes to stdout lands on stderr, never in the protocol. Only the
standard library is imported here, and of it as little as may be: modules that nobody has asked for yet load
when first used.
"""

import fcntl
import importlib.util
import os
import sys

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


def _boot() -> None:
    descriptor = _take_descriptor()
    here = os.path.dirname(os.path.abspath(__file__))
    standard = [path for path in sys.path if path]
    sys.path[:] = [*standard, here]
    for name in _LAZY:
        _load_lazily(name)
    sys.modules["ssl"] = None  # asyncio does without; who imports it later gets it
    import asyncio  # noqa: F401

    del sys.modules["ssl"]
    from flux_guest.main import serve

    serve(descriptor, here=here, standard=standard, packages=sys.argv[1:])


_boot()
