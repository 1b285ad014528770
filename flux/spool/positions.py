"""How far a spool's spans have been sent: a small file beside the spool.

If spans are to be sent, the file is there from the spool's first moment. A spool without one has no
such consumer. It is replaced as a whole after the collector has taken what stands before it, so
spans are sent at least once. One process at a time works on it (`claim`).

What a collector doesn't take may not fill the disk. The sender skips ahead at `limit`, and counts.
Whoever deletes segments asks `needed`. If nobody sends, that gives up at four times the limit, and
after a day.
"""

from __future__ import annotations

import fcntl
import os
import struct
import time
from pathlib import Path

import msgspec

from flux.spool.frames import DRAINED, POSITION, POSITION_FORMAT, Place, segment_path, segments

FILE, LOCK = "otlp", "otlp.lock"
RETAINED = 24 * 3600.0
"""Seconds that spans wait where no process sends them."""
SILENT = 60.0
"""Seconds without a word of whoever sends after which nobody is taken to: it is said every ten."""
PATIENCE = 4
"""Times `limit` that they may take up there."""


class Position(msgspec.Struct):
    """What the file holds.

    Attributes:
        segment, offset: the place before which all was sent, or given up.
        limit: bytes that may be kept on disk for this consumer alone.
        resources: those of the events before that place, by id.
        finished: all of a spool whose writer is gone was sent.
    """

    limit: int
    segment: int = 0
    offset: int = 0
    resources: dict[str, str] = {}
    finished: bool = False

    @property
    def place(self) -> Place:
        """Where sending goes on."""
        return self.segment, self.offset


def begin(folder: Path, limit: int) -> None:
    """Make the position of a new spool, before anything could be deleted from it."""
    write(folder, Position(limit))


def read(folder: Path) -> Position | None:
    """The position; None where the spool's spans are sent nowhere, or it can't be read."""
    try:
        return msgspec.json.decode((folder / FILE).read_bytes(), type=Position)
    except (OSError, msgspec.DecodeError):
        return None


def write(folder: Path, position: Position) -> None:
    """Replace the position. A kill leaves the one or the other; on a full disk it is written over, for what
    it says may be what makes room.
    """
    data, temporary = msgspec.json.encode(position), folder / f"{FILE}.new"
    try:
        temporary.write_bytes(data)
        temporary.replace(folder / FILE)
    except FileNotFoundError:
        raise
    except OSError:
        temporary.unlink(missing_ok=True)
        with (folder / FILE).open("r+b") as file:
            file.write(data)
            file.truncate()


def claim(folder: Path) -> int | None:
    """Lock a spool's position; the descriptor, to be closed by the caller, or None where another has it."""
    try:
        lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        return None
    return lock


def held(folder: Path, position: Position) -> list[int]:
    """The segments that are kept for this consumer alone: Postgres has them."""
    if position.finished:
        return []
    if (folder / DRAINED).exists():
        return [number for number in segments(folder) if number >= position.segment]
    drained = _drained(folder)
    return [number for number in segments(folder) if position.segment <= number < drained]


def size(folder: Path, numbers: list[int]) -> int:
    """Bytes of these segments."""
    total = 0
    for number in numbers:
        try:
            total += segment_path(folder, number).stat().st_size
        except FileNotFoundError:
            continue
    return total


def needed(folder: Path) -> int | None:
    """The least segment that must be kept for this consumer; None: it needs none."""
    position = read(folder)
    if position is None or position.finished:
        return None
    try:
        silent = time.time() - (folder / FILE).stat().st_mtime
    except OSError:
        return None
    if silent > RETAINED:
        return None
    if silent < SILENT:
        return position.segment
    left = PATIENCE * position.limit
    least = None
    for number in reversed(held(folder, position)):
        left -= size(folder, [number])
        if left < 0:
            return number + 1 if least is None else least
        least = number
    return position.segment


def _drained(folder: Path) -> int:
    """The segment that Postgres has reached."""
    try:
        return int(POSITION_FORMAT.unpack((folder / POSITION).read_bytes()[: POSITION_FORMAT.size])[0])
    except (OSError, struct.error):
        return 0
