"""Whether a spool has lost its writer. Asked by every reading command, so it imports next to nothing."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from flux.spool.frames import DRAINED, LOCK


def any_orphan(parent: Path) -> bool:
    """Whether `parent` holds a spool that nobody has locked: its writer has ended, and nobody drains it.

    The lock is tried and let go at once; who comes to drain in that moment looks again soon after.
    """
    try:
        return any(
            unlocked(entry) and not (entry / DRAINED).exists()
            for entry in parent.iterdir()
            if not entry.name.startswith(".")
        )
    except OSError:
        return False


def unlocked(folder: Path) -> bool:
    """Whether nobody has the spool in `folder` locked. A folder without a lock is no spool: False."""
    try:
        lock = os.open(folder / LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return True
    except OSError:
        return False
    finally:
        os.close(lock)
