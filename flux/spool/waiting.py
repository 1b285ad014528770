"""What Postgres does not have yet of a spool: how much, and since when. For doctor and metrics.

It is read from the files themselves, so it holds whatever state the drain is in. The drain's place
comes from its word to the writer (`position`) and, if it can be asked, from Postgres: the later of
the two.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import msgspec

from flux.record.events import Arrival, Deployed, End, Event, Spans
from flux.spool.frames import POSITION, POSITION_FORMAT, Place, segment_path, segments
from flux.spool.reader import Damage, SpoolReader

LOOK = 8 * 2**20
"""Most bytes read in search of the oldest record."""

_decode = msgspec.msgpack.Decoder(Event).decode
_START_NS, _DURATION_NS = 5, 6
"""Where a span row has them."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """What lies in a spool.

    Attributes:
        files: segments. bytes: in all of them.
        undrained: bytes after the drain's place; those of executions still under way are among them.
        oldest_ns: when the oldest of what could be in Postgres was finished (wall clock); None where
            nothing waits but executions under way.
    """

    files: int
    bytes: int
    undrained: int
    oldest_ns: int | None


def word(folder: Path) -> Place:
    """How far Postgres has it, as the drain left word; (0, 0) where it has left none."""
    try:
        segment, offset = POSITION_FORMAT.unpack((folder / POSITION).read_bytes())
        return segment, offset
    except (OSError, struct.error):
        return 0, 0


def waiting(folder: Path, place: Place) -> Waiting:
    """Look at a spool from `place` on. Changes nothing."""
    files = total = undrained = 0
    for number in segments(folder):
        try:
            size = segment_path(folder, number).stat().st_size
        except FileNotFoundError:
            continue
        files += 1
        total += size
        if number >= place[0]:
            undrained += max(0, size - place[1]) if number == place[0] else size
    return Waiting(files, total, undrained, oldest(folder, place) if undrained else None)


def oldest(folder: Path, place: Place) -> int | None:
    """When the first thing after `place` that is over (execution, span, deployment) was: wall clock, ns.

    An End names no time: it is its arrival's plus its duration, else its spans', else at the latest that of
    what comes after it.
    """
    reader = SpoolReader(folder, place)
    began: dict[str, int] = {}
    passed = read = 0
    try:
        while read < LOOK and (found := reader.read()):
            for record in found:
                read += len(record.data)
                event = None if isinstance(record, Damage) else _event(record.data)
                if isinstance(event, Arrival):
                    if passed:
                        return event.started_ns
                    began[event.request_id] = event.started_ns
                elif event is not None and (at := _finished(event, began)) is not None:
                    return at
                elif isinstance(event, End) and not passed:
                    passed = record.place[0]
        return segment_path(folder, passed).stat().st_mtime_ns if passed else None
    except FileNotFoundError:
        return None
    finally:
        reader.close()


def _event(data: bytes) -> Event | None:
    try:
        event: Event = _decode(data)
        return event
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _finished(event: Event, began: dict[str, int]) -> int | None:
    if isinstance(event, Deployed):
        return event.at_ns
    if isinstance(event, End) and event.request_id in began:
        return began[event.request_id] + event.duration_ns
    if isinstance(event, Spans | End):
        ends = [_end(row) for row in event.spans]
        return max(ends, default=None)
    return None


def _end(row: tuple[object, ...]) -> int:
    start, duration = row[_START_NS], row[_DURATION_NS]
    return (start if isinstance(start, int) else 0) + (duration if isinstance(duration, int) else 0)
