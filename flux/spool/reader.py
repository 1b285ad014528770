"""Reads a spool while it is written: records in order, a torn end waited for, damage stepped over.

The writer may be in the middle of a record, or take back half of one when the disk is full. So what
looks wrong at the end of a live spool is looked at again before it is called damage. In a spool
whose writer is gone (`final`) the end is the end.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

from flux.spool.frames import HEAD, LARGEST, MAGIC, MAGIC_BYTES, Place, segment_path, segments

CHUNK = 2**19
PATIENCE = 1.0
"""Seconds that something wrong at a live spool's end may last before it is damage."""


class Record(NamedTuple):
    """A record: where it stands, where it ends, its msgpack."""

    place: Place
    end: int
    data: bytes


class Damage(NamedTuple):
    """Bytes between two records that are no record."""

    place: Place
    end: int
    data: bytes
    reason: str


class SpoolReader:
    """Reads one spool from a place on.

    Args:
        folder: the spool's.
        place: where to begin; (0, 0) is the first record there is.
        final: nobody writes it any more.
        ticks: monotonic clock, seconds.
    """

    def __init__(
        self,
        folder: Path,
        place: Place = (0, 0),
        *,
        final: bool = False,
        ticks: Callable[[], float] = time.monotonic,
    ) -> None:
        self.folder = folder
        self.place = place
        self.final = final
        self._ticks = ticks
        self._fd = -1
        self._open_segment = -1
        self._suspect: tuple[Place, float] | None = None

    def read(self, limit: int = CHUNK) -> list[Record | Damage]:
        """What follows, in order: about `limit` bytes of it, all from one segment; [] where nothing is
        there yet.
        """
        while True:
            segment, offset = self.place
            later = [number for number in segments(self.folder) if number > segment]
            if not self._select(segment):
                if not later:
                    return []
                self.place = (later[0], 0)
                continue
            data = os.pread(self._fd, limit, offset)
            if data:
                found = self._parse(segment, offset, data, closed=bool(later) or self.final)
                if found:
                    self.place = (segment, found[-1].end)
                    return found
                if not later and not self.final:
                    if self._made_anew(segment):
                        continue
                    return []
            if not later:
                if self._made_anew(segment):
                    continue
                return []
            self.place = (later[0], 0)

    def raw(self, place: Place, end: int) -> bytes:
        """The bytes of a record's frame as they stand in the spool; b"" where its segment is gone."""
        try:
            fd = os.open(segment_path(self.folder, place[0]), os.O_RDONLY)
        except FileNotFoundError:
            return b""
        try:
            return os.pread(fd, end - place[1], place[1])
        finally:
            os.close(fd)

    def close(self) -> None:
        """Close the file. Idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = self._open_segment = -1

    def _select(self, segment: int) -> bool:
        if segment == self._open_segment:
            return True
        self.close()
        try:
            self._fd = os.open(segment_path(self.folder, segment), os.O_RDONLY)
        except FileNotFoundError:
            return False
        self._open_segment = segment
        return True

    def _made_anew(self, segment: int) -> bool:
        """Whether the open file was deleted and another has its name by now; that is open then.

        Where somebody deletes its files, the writer makes them anew, with all that was in them.
        """
        if os.fstat(self._fd).st_nlink:
            return False
        self.close()
        return self._select(segment)

    def _parse(self, segment: int, base: int, data: bytes, *, closed: bool) -> list[Record | Damage]:
        """The whole records in `data`. `closed`: nothing will be added to this segment."""
        found: list[Record | Damage] = []
        at, size = 0, len(data)
        unpack, head = HEAD.unpack_from, HEAD.size
        while size - at >= head:
            magic, length, checksum = unpack(data, at)
            end = at + head + length
            if magic != MAGIC or length > LARGEST:
                return self._wrong(found, segment, base + at, closed, "no record begins here")
            if end > size:
                if found:
                    return found
                whole = os.pread(self._fd, head + length, base + at)
                if len(whole) < head + length:
                    return self._wrong(found, segment, base + at, closed, "an incomplete record")
                data, base, at, size, end = whole, base + at, 0, len(whole), head + length
            body = data[at + head : end]
            if crc32(body) != checksum:
                return self._wrong(found, segment, base + at, closed, "a record whose checksum is wrong")
            found.append(Record((segment, base + at), base + end, body))
            at = end
        if at < size and not found:
            return self._wrong(found, segment, base + at, closed, "an incomplete record")
        return found

    def _wrong(
        self, found: list[Record | Damage], segment: int, offset: int, closed: bool, reason: str
    ) -> list[Record | Damage]:
        """Something at `offset` is not a record: give what came before it, wait, or step over it."""
        if found:
            return found
        following = self._next_record(segment, offset + 1)
        if not closed:
            # A live writer: it may be half-way, or about to take half a record back.
            place, now = (segment, offset), self._ticks()
            if self._suspect is None or self._suspect[0] != place:
                self._suspect = (place, now)
                return []
            if following is None or now - self._suspect[1] < PATIENCE:
                return []
        self._suspect = None
        end = following if following is not None else os.fstat(self._fd).st_size
        return [Damage((segment, offset), end, os.pread(self._fd, end - offset, offset), reason)]

    def _next_record(self, segment: int, offset: int) -> int | None:
        """Where the next whole record begins, at `offset` or later in this segment."""
        size = os.fstat(self._fd).st_size
        data = os.pread(self._fd, max(size - offset, 0), offset)  # the writer may have taken it back by now
        at = data.find(MAGIC_BYTES)
        while at >= 0:
            if len(data) - at >= HEAD.size:
                _, length, checksum = HEAD.unpack_from(data, at)
                end = at + HEAD.size + length
                if end <= len(data) and crc32(data[at + HEAD.size : end]) == checksum:
                    return offset + at
            at = data.find(MAGIC_BYTES, at + 1)
        return None
