"""What a drain says of itself: a small file in the spool it drains, renewed every second.

The drain is another process than the server. It may be dead, stopped or hung while its last words
still lie there. So they carry their time, by the machine's monotonic clock, which is one for all
processes and never set back. Read by `status`, for doctor and metrics.
"""

from __future__ import annotations

import time
from pathlib import Path

import msgspec

FILE = "drain.json"
SILENT = 10.0
"""Seconds after which a drain that has said nothing counts as stopped."""


class DrainState(msgspec.Struct):
    """A drain's own words.

    Attributes:
        pid: its process.
        at: when it said so; looked: when it last came to the end of what there was. Monotonic, seconds.
        stored: executions and other units it has stored since it began.
        error: why it can't go on, or None.
    """

    pid: int
    at: float
    looked: float
    stored: int
    error: str | None = None

    def silent(self, now: float | None = None) -> float | None:
        """Seconds since its last words where those are too long ago to be believed, else None."""
        since = (time.monotonic() if now is None else now) - self.at
        # Before `at`: the machine was started anew since.
        return None if 0 <= since < SILENT else max(since, 0.0)


def write(folder: Path, state: DrainState) -> None:
    """Leave word in a spool's folder. A folder that is gone, or a full disk, is no one's concern here."""
    made = folder / f".{FILE}"
    try:
        made.write_bytes(msgspec.json.encode(state))
        made.replace(folder / FILE)
    except OSError:
        return


def read(folder: Path) -> DrainState | None:
    """The last words in a spool's folder; None where there are none that can be read."""
    try:
        return msgspec.json.decode((folder / FILE).read_bytes(), type=DrainState)
    except (OSError, msgspec.DecodeError):
        return None
