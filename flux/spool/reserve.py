"""Room on the disk that is set aside for running executions. Held by the spool.

When the disk is full, new executions are refused; running ones still finish, using reserved space.
"""

from __future__ import annotations

import os
from pathlib import Path

MOST = 4 * 2**20
SHARE = 16
"""One record may take at most one part in this many of it, so that a few large ones don't use it up."""


class Reserve:
    """A file of real blocks, given back to the disk when it is needed.

    Args:
        path: of the file.
        size: its bytes.
    """

    def __init__(self, path: Path, size: int) -> None:
        self._path = path
        self._size = size
        self._held = False

    def takes(self, length: int) -> bool:
        """Whether a record of that length may use it."""
        return length <= self._size // SHARE

    def fill(self) -> bool:
        """Set the room aside; False where the disk doesn't have it now. Costs nothing while it is held."""
        if self._held:
            return True
        if not hasattr(os, "posix_fallocate"):
            return True
        try:
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError:
            return False
        try:
            os.posix_fallocate(fd, 0, self._size)
            self._held = True
        except OSError:
            os.ftruncate(fd, 0)
        finally:
            os.close(fd)
        return self._held

    def give(self) -> None:
        """Let the disk have it. Idempotent."""
        if self._held:
            self._held = False
            os.truncate(self._path, 0)
