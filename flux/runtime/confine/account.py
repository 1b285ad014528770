"""Becoming another account where the server is root, with no right of root's but, at need, to read.

Called in a fresh child of the spawner. What a guest has to read may lie where only root may go (a project or
an interpreter under /root). It then keeps the one capability to read past permissions: what it may read at
all is Landlock's to say.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from collections.abc import Iterable

_READ_SEARCH, _OVERRIDE = 2, 1
"""CAP_DAC_READ_SEARCH, and CAP_DAC_OVERRIDE, which containers have more often."""
_VERSION = 0x20080522
_PR_SET_KEEPCAPS, _PR_CAP_AMBIENT, _RAISE = 8, 47, 2


class Unreachable(Exception):
    """The account may not read a path that the guest needs, and nothing can be done about it."""


def enter(uid: int, gid: int, needed: Iterable[str], *, confined: bool) -> None:
    """Become `uid`, for good, with no group but `gid`.

    Args:
        needed: files and folders that must be read afterwards.
        confined: whether Landlock will say what is read.

    Raises:
        Unreachable: see there.
        OSError: the kernel refuses.
    """
    if sys.platform == "linux":
        _prctl(_PR_SET_KEEPCAPS, 1, 0)
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    closed = [path for path in needed if not _readable(path)]
    if sys.platform != "linux":
        kept = 0
    else:
        kept = _keep() if closed and confined else _drop()
    if closed and not kept:
        raise Unreachable(f"the account {uid}, which functions run as, can't read {closed[0]}")


def _readable(path: str) -> bool:
    """Whether this account may read it, or it does not exist."""
    try:
        os.stat(path)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return os.access(path, os.R_OK)


def _keep() -> int:
    """Keep one capability to read, and over an `exec`; 0 where there is none to keep."""
    permitted = _permitted()
    for capability in (_READ_SEARCH, _OVERRIDE):
        if permitted & 1 << capability:
            _set(1 << capability)
            _prctl(_PR_CAP_AMBIENT, _RAISE, capability)
            return 1 << capability
    return _drop()


def _drop() -> int:
    _set(0)
    return 0


def _permitted() -> int:
    header = ctypes.create_string_buffer(struct.pack("Ii", _VERSION, 0))
    sets = ctypes.create_string_buffer(24)
    _checked(ctypes.CDLL(None, use_errno=True).capget(header, sets))
    low, high = struct.unpack("4xI4x4xI4x", sets.raw[:24])
    return int(low) | int(high) << 32


def _set(kept: int) -> None:
    """Make `kept` the effective, permitted and inheritable set."""
    header = ctypes.create_string_buffer(struct.pack("Ii", _VERSION, 0))
    low, high = kept & 0xFFFFFFFF, kept >> 32
    sets = ctypes.create_string_buffer(struct.pack("6I", low, low, low, high, high, high), 24)
    _checked(ctypes.CDLL(None, use_errno=True).capset(header, sets))


def _prctl(option: int, value: int, more: int) -> None:
    _checked(ctypes.CDLL(None, use_errno=True).prctl(option, value, more, 0, 0))


def _checked(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"capabilities: {os.strerror(number)}")
