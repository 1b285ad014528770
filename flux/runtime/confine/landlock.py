"""Refusing a process every file but those it is given, through Landlock. Linux 5.13 and later.

A ruleset names what it handles; all of that is refused but for what a rule allows. Later versions of the
kernel's interface handle more: truncation (3), TCP (4), devices (5), signals to and abstract sockets of
processes outside (6). Numbers and structures: `linux/landlock.h`.
"""

from __future__ import annotations

import ctypes
import os
import stat
import struct
import sys
from collections.abc import Iterable

_CREATE, _ADD, _RESTRICT = 444, 445, 446
_PR_SET_NO_NEW_PRIVS = 38

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_REMOVE_DIR, _REMOVE_FILE, _MAKE_DIR, _MAKE_FILE = 1 << 4, 1 << 5, 1 << 7, 1 << 8
_TRUNCATE = 1 << 14
_FILES = ((1, (1 << 13) - 1), (2, 1 << 13), (3, _TRUNCATE), (5, 1 << 15))
"""Version, and the rights to files that it brings."""
_TCP, _SCOPES = 0b11, 0b11


def version() -> int:
    """The version of the kernel's interface; 0 without Landlock."""
    if sys.platform != "linux":
        return 0
    return max(_syscall(_CREATE, None, 0, 1), 0)


class Ruleset:
    """What a process may reach, while it is being put together. Nothing else is, once `enter` was called."""

    def __init__(self) -> None:
        """Raises OSError where the kernel has no Landlock."""
        known = version()
        self._handled = sum(rights for since, rights in _FILES if known >= since)
        attributes = struct.pack("Q", self._handled)
        if known >= 4:
            attributes += struct.pack("Q", _TCP)
        if known >= 6:
            attributes += struct.pack("Q", _SCOPES)
        self._descriptor = _checked(_syscall(_CREATE, ctypes.c_char_p(attributes), len(attributes), 0))

    def allow(
        self, paths: Iterable[str], *, read: bool = True, execute: bool = False, write: bool = False
    ) -> None:
        """Allow reading the `paths` and what is below them; what does not exist is left out.

        Args:
            read: False: folders may be listed, and no file read.
            execute: they may be executed too.
            write: files and folders in them may be made, changed and removed too.
        """
        for path in paths:
            try:
                opened = os.open(path, os.O_PATH | os.O_CLOEXEC)
            except FileNotFoundError:
                continue
            try:
                rights = (_READ_FILE if read else 0) | (_EXECUTE if execute else 0)
                rights |= _WRITE_FILE | _TRUNCATE if write else 0
                if stat.S_ISDIR(os.fstat(opened).st_mode):
                    rights |= _READ_DIR
                    rights |= _MAKE_FILE | _MAKE_DIR | _REMOVE_FILE | _REMOVE_DIR if write else 0
                rule = struct.pack("=Qi", rights & self._handled, opened)
                _checked(_syscall(_ADD, self._descriptor, 1, ctypes.c_char_p(rule), 0))
            finally:
                os.close(opened)

    def enter(self) -> None:
        """Put the calling thread, and what it will start, under the rules for good.

        Raises:
            OSError: the kernel refuses.
        """
        _checked(ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
        _checked(_syscall(_RESTRICT, self._descriptor, 0))
        os.close(self._descriptor)


def _syscall(number: int, *arguments: object) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    wide = [ctypes.c_long(given) if isinstance(given, int) else given for given in arguments]
    return int(libc.syscall(ctypes.c_long(number), *wide))


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"Landlock: {os.strerror(number)}")
    return result
