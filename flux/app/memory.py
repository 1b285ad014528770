"""What the server's process does with memory it no longer needs."""

from __future__ import annotations

import ctypes
import sys

LARGE = 4 * 2**20
"""Bytes of a block that goes back to the system as soon as it is freed."""
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


def return_large_blocks() -> None:
    """Have freed bodies of megabytes given back to the system.

    By itself glibc raises the size from which blocks are mapped one by one to that of the largest that was
    freed, up to 32 MiB; what is smaller then lies in the heap, and one small object behind it keeps it there
    (mallopt(3)). Elsewhere than on glibc nothing happens.
    """
    if not sys.platform.startswith("linux"):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    mallopt(_M_MMAP_THRESHOLD, LARGE)
    mallopt(_M_TRIM_THRESHOLD, 2 * LARGE)
