"""The writer's side of the spool: records appended to local files, there before an answer leaves.

An append is one `os.write`. Once it has returned, the kernel has the whole record, safe from kill
-9. The Recorder is its only caller; the reader's side is `reader.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import threading
import time
import weakref
from pathlib import Path
from typing import Literal

from flux.errors import SpoolError, SpoolFull, SpoolGone, Unconfirmed
from flux.spool import folder as folders
from flux.spool import positions as otlp
from flux.spool import reserve
from flux.spool.frames import (
    LARGEST,
    POSITION,
    POSITION_FORMAT,
    RESERVED,
    Place,
    frame,
    segment_path,
    segments,
)
from flux.spool.reserve import Reserve

log = logging.getLogger("flux.spool")

SEGMENT = 64 * 2**20
RESERVE = 8
"""One part in this many of the limit is added for executions already under way: only new ones are refused
at the limit.
"""

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_DRAINED_POLL = 0.002
LOOK = 1.0
"""Seconds between two looks whether the files are still where they belong."""
_COPIED = 2**20

Durability = Literal["spool", "fsync", "postgres"]


class Spool:
    """An open spool of this process. Appends may come from any thread; a forked child is refused.

    Attributes:
        node: its id. place: where the next record will stand. limit: most bytes of undrained records.
        appends, appended_bytes: what was written since the beginning.
        refusals: appends that were refused: at the `limit`, or by the `disk`.
        restored: how often its files were deleted or moved away, and made anew.
        missing: files that Postgres did not have wholly among those that could not be made anew.
    """

    def __init__(
        self,
        claim: folders.Claim,
        limit: int,
        segment_bytes: int,
        patience: float,
        otlp_limit: int | None = None,
    ) -> None:
        self._claim = claim
        self._otlp_limit = otlp_limit
        self.node = claim.meta.node
        self.durability: Durability = claim.meta.durability
        self.limit = limit
        self._segment_bytes = segment_bytes
        self._patience = patience
        self._older = 0
        """Bytes in segments before the current one, as last looked up."""
        self._segment = 0
        self._size = 0
        self._fd = -1
        self._synced: Place = (0, 0)
        self._sync: asyncio.Task[None] | None = None
        self._position = -1
        self._lock = threading.Lock()
        self.appends = self.appended_bytes = 0
        self.refusals = {"limit": 0, "disk": 0}
        self.restored = self.missing = 0
        self._gone = False
        self._look_at = time.monotonic() + LOOK
        try:
            self._begin_word((0, 0))
        except OSError as error:
            raise self._refused(error) from error
        self._next_segment()
        self._reserve = self._set_aside()
        here = weakref.WeakMethod(self._forked)
        os.register_at_fork(after_in_child=lambda: (forked := here()) is not None and forked())

    @classmethod
    def create(
        cls,
        parent: Path,
        node: str,
        *,
        limit: int,
        durability: Durability = "spool",
        patience: float = 10.0,
        segment_bytes: int | None = None,
        otlp_limit: int | None = None,
    ) -> Spool:
        """Make a new spool and hold it.

        Args:
            parent: the folder of all spools, `.flux/spool`.
            node: its id, 32 hex digits.
            limit: most bytes of undrained records; above it new executions are refused.
            durability: what `settle` waits for; patience: for how many seconds, where that is Postgres.
            segment_bytes: size at which a new file is begun; by default 64 MiB, or an eighth of a small
                limit.
            otlp_limit: most bytes kept for a collector alone, where spans are sent to one; else None.

        Raises:
            SpoolError: the folder can't be made.
        """
        least = limit if otlp_limit is None else min(limit, otlp_limit)
        size = segment_bytes or max(min(SEGMENT, least // 8), 64 * 1024)
        claim = folders.create(parent, node, now_ns=time.time_ns(), durability=durability)
        try:
            if otlp_limit is not None:
                otlp.begin(claim.folder, otlp_limit)
        except OSError as error:
            claim.release()
            raise SpoolError(f"The spool in {parent} can't be made: {error.strerror}.") from error
        return cls(claim, limit, size, patience, otlp_limit)

    @property
    def folder(self) -> Path:
        """Where its files lie."""
        return self._claim.folder

    @property
    def place(self) -> Place:
        """The place after the last record."""
        return self._segment, self._size

    def append(self, data: bytes, *, begins: bool = False) -> None:
        """Append one record.

        Args:
            data: the encoded event.
            begins: it begins an execution, so it is refused at the limit; others have a reserve above it.

        Raises:
            SpoolFull: no room, by the limit or on the disk. Nothing was written.
            SpoolGone: its files were deleted, and can't be made anew. Nothing was written.
            SpoolError: the disk refused for another reason, or the spool is closed. Nothing was written.
        """
        self.write(frame(data), begins=begins)

    def write(self, framed: bytes, *, begins: bool = False) -> None:
        """`append` for what is framed already: one record, or several that stand or fall together."""
        if self._fd < 0:
            raise SpoolError("The spool is closed.")
        length = len(framed)
        if length > LARGEST:
            raise SpoolFull(f"A record of {length} bytes is longer than the spool takes.")
        with self._lock:
            self._write(framed, length, begins)

    def whole(self) -> bool:
        """Whether its files are where they belong, as far as they can be put there now."""
        with self._lock:
            if self._fd >= 0 and not self._in_place():
                with contextlib.suppress(SpoolGone):
                    self._restore(self._size)
            return not self._gone

    def _write(self, framed: bytes, length: int, begins: bool) -> None:
        allowed = self.limit if begins else self.limit + self.limit // RESERVE
        if self._older + self._size + length > allowed:
            self._older = self._measure()
            if self._older + self._size + length > allowed:
                self.refusals["limit"] += 1
                raise SpoolFull(
                    f"The spool holds {self._older + self._size} bytes that Postgres does not have yet "
                    f"(limit {self.limit}).",
                    "See whether Postgres can be reached; `spool_limit` in flux.toml sets the limit.",
                )
        try:
            if begins and not self._reserve.fill():
                raise SpoolFull("The disk has room for what is under way only.", "Free some space.")
            try:
                self._put(framed, length, begins)
            except SpoolFull:
                if begins or not self._reserve.takes(length):
                    raise
                self._reserve.give()
                self._put(framed, length, begins)
        except SpoolError as error:
            self.refusals["disk"] += 1
            if isinstance(error, SpoolFull):
                self._leave_segment()
            raise
        self.appends += 1
        self.appended_bytes += length

    def _put(self, framed: bytes, length: int, begins: bool) -> None:
        if self._size and self._size + length > self._segment_bytes:
            if not self._in_place():
                self._restore(self._size)
            self._next_segment()
        try:
            written = os.write(self._fd, framed)
        except OSError as error:
            raise self._refused(error) from error
        if written != length:
            self._take_back()
            raise SpoolFull("The disk has no room for another record.", "Free some space.")
        # What begins may stand in a deleted file: nobody was answered yet, and the end of it looks.
        if (self._gone or not begins) and not self._there():
            try:
                self._restore(self._size + length)
            except SpoolGone:
                self._take_back()
                raise
        self._size += length

    def _there(self) -> bool:
        """Whether the segment has a name; now and then, whether that is its own."""
        if os.fstat(self._fd).st_nlink == 0:
            return False
        now = time.monotonic()
        if now < self._look_at and not self._gone:
            return True
        self._look_at = now + LOOK
        return self._in_place()

    def _in_place(self) -> bool:
        try:
            found = os.stat(segment_path(self.folder, self._segment))
        except OSError:
            return False
        return found.st_ino == os.fstat(self._fd).st_ino

    def _restore(self, size: int) -> None:
        """Make the files anew that were deleted or moved away. The current segment comes from its open file,
        `size` bytes of it, under the same name: every place in it stays what it was.

        Raises:
            SpoolGone: they can't be made. It is tried again at the next append.
        """
        self._gone = True
        path = segment_path(self.folder, self._segment)
        made = path.with_suffix(".new")
        try:
            drained = self.drained()
            folders.restore(self._claim)
            fd = os.open(made, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
            try:
                for at in range(0, size, _COPIED):
                    os.write(fd, os.pread(self._fd, min(_COPIED, size - at), at))
                if os.fstat(fd).st_size != size:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                self._begin_word(drained)
                if self._otlp_limit is not None and otlp.read(self.folder) is None:
                    otlp.begin(self.folder, self._otlp_limit)
                made.rename(path)
                if self.durability != "spool":
                    os.fsync(fd)
                    _fsync(os.open(self.folder, os.O_RDONLY))
            except OSError:
                os.close(fd)
                raise
        except OSError as error:
            raise SpoolGone(
                f"The spool's files in {self.folder} were deleted and can't be made anew: {error.strerror}.",
                "See who owns the folder above it, and whether the disk has room.",
            ) from error
        os.close(self._fd)
        self._fd, self._gone = fd, False
        there = set(segments(self.folder))
        lost = sum(number not in there for number in range(max(drained[0], 1), self._segment))
        self.restored += 1
        self.missing += lost
        self._reserve = self._set_aside()
        self._older = self._measure()
        log.error(
            "the files of the spool in %s were deleted or moved away, and are made anew%s",
            self.folder,
            f"; {lost} of them are lost, with records that Postgres may lack" if lost else "",
        )

    def _set_aside(self) -> Reserve:
        """The room that is kept for what is under way."""
        kept = Reserve(self.folder / RESERVED, min(self.limit // RESERVE, reserve.MOST))
        kept.fill()
        return kept

    def _begin_word(self, place: Place) -> None:
        """Make the drain's word, and keep it open. It is there from the first: on a full disk the drain could
        not make it.
        """
        if self._position >= 0:
            os.close(self._position)
            self._position = -1
        self._position = os.open(self.folder / POSITION, os.O_RDWR | os.O_CREAT, 0o600)
        if not os.fstat(self._position).st_size:
            os.pwrite(self._position, POSITION_FORMAT.pack(*place), 0)

    def _leave_segment(self) -> None:
        """The disk is full: begin another file, so that this one can be deleted once Postgres has it."""
        if self._size:
            with contextlib.suppress(SpoolError):
                self._next_segment()

    async def settle(self) -> None:
        """Wait until everything appended so far is as durable as the spool was asked to be.

        Raises:
            Unconfirmed: Postgres has not committed it in time. It stays in the spool, for the drain.
            SpoolError: fsync failed.
        """
        if self.durability == "spool":
            return
        here = self.place
        if self.durability == "fsync":
            while self._synced < here:
                await asyncio.shield(self._sync or self._begin_sync())
            return
        end = asyncio.get_running_loop().time() + self._patience
        while self.drained() < here:
            if asyncio.get_running_loop().time() >= end:
                raise Unconfirmed(
                    f"Postgres has not confirmed the record within {self._patience:g} s.",
                    "See whether it can be reached; `confirm_timeout_ms` in flux.toml sets the limit.",
                )
            await asyncio.sleep(_DRAINED_POLL)

    def drained(self) -> Place:
        """How far Postgres has it, as the drain left word."""
        if self._position < 0:
            return 0, 0
        data = os.pread(self._position, POSITION_FORMAT.size, 0)
        if len(data) < POSITION_FORMAT.size:
            return 0, 0
        segment, offset = POSITION_FORMAT.unpack(data)
        return segment, offset

    def close(self) -> None:
        """Let go: whoever comes next may drain it to its end. Idempotent."""
        self._close_files()
        self._claim.release()

    def _begin_sync(self) -> asyncio.Task[None]:
        """One fsync for all who wait: what is appended while it runs waits for the next."""
        self._sync = asyncio.get_running_loop().create_task(self._fsync_now())
        return self._sync

    async def _fsync_now(self) -> None:
        # All is told before the task is done: who asks in between must not find it finished and still
        # standing.
        place = self.place
        try:
            await asyncio.get_running_loop().run_in_executor(None, _fsync, os.dup(self._fd))
            self._synced = max(self._synced, place)
        except OSError as error:
            raise self._refused(error) from error
        finally:
            self._sync = None

    def _next_segment(self) -> None:
        """Begin the next file. The old one is left only once the new one is there."""
        path = segment_path(self.folder, self._segment + 1)
        try:
            if self._fd >= 0 and self.durability != "spool":
                os.fsync(self._fd)
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
            if self.durability != "spool":
                _fsync(os.open(self.folder, os.O_RDONLY))
        except OSError as error:
            raise self._refused(error) from error
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = fd
        self._segment += 1
        self._size = 0
        self._older = self._measure()

    def _measure(self) -> int:
        """Bytes before the current segment, but for those that a collector is awaited with: they have a
        limit of their own.
        """
        total = 0
        position = otlp.read(self.folder)
        elsewhere = set() if position is None else set(otlp.held(self.folder, position))
        for number in segments(self.folder):
            if number != self._segment and number not in elsewhere:
                try:
                    total += segment_path(self.folder, number).stat().st_size
                except FileNotFoundError:
                    continue
        return total

    def _take_back(self) -> None:
        try:
            os.ftruncate(self._fd, self._size)
        except OSError as error:
            self._close_files()
            raise SpoolError(
                f"The spool has half a record at its end and is closed: {error.strerror}."
            ) from error

    def _refused(self, error: OSError) -> SpoolError:
        if error.errno in _NO_ROOM:
            return SpoolFull(
                f"The disk has no room for another record: {error.strerror}.", "Free some space."
            )
        return SpoolError(f"The spool can't be written: {error.strerror}.")

    def _close_files(self) -> None:
        for fd in (self._fd, self._position):
            if fd >= 0:
                os.close(fd)
        self._fd = self._position = -1

    def _forked(self) -> None:
        """In a forked child: the files and the lock are the parent's. (Closing a copy of a flocked file
        releases nothing.)
        """
        self.close()


def _fsync(fd: int) -> None:
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
