"""Fixed addresses: what Python hashes by address (None, types) has the same hash in every process. Linux.

Where the kernel refuses, as some containers do, addresses are random as ever.
"""

from __future__ import annotations

import contextlib
import ctypes
import sys
from collections.abc import Iterator

_NO_RANDOMIZE = 0x0040000
_ASK = 0xFFFFFFFF


@contextlib.contextmanager
def fixed() -> Iterator[None]:
    """Have what this thread executes meanwhile laid out at the same addresses each time."""
    if sys.platform != "linux":
        yield
        return
    personality = ctypes.CDLL(None).personality
    personality.argtypes = [ctypes.c_ulong]
    before = personality(_ASK)
    if before < 0 or personality(before | _NO_RANDOMIZE) < 0:
        yield
        return
    try:
        yield
    finally:
        personality(before)
