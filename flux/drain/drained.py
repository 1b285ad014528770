"""One spool on its way into Postgres: how far it is, what is open in it, which batch comes next.

If there is more than one batch, the next is read and encoded while Postgres stores this one: each
has a core.

Exactly once: a batch and the position after it are one transaction, and the position is compared
under a row lock first. So a batch is never stored again, even if its commit's answer was lost or
another drain has stored it.

The position never passes unstored data. Segments that contain an open execution are kept; after a
restart it is rebuilt from them.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from dataclasses import dataclass

from flux.drain import records
from flux.drain.assemble import Assembler, Unit
from flux.drain.batch import Batches, Q
from flux.drain.tables import Tables
from flux.spool import folder as folders
from flux.spool import positions as otlp
from flux.spool.folder import Claim
from flux.spool.frames import POSITION, POSITION_FORMAT, Place, segment_path, segments
from flux.spool.reader import SpoolReader
from flux_postgres_exporter.store import REFUSALS

log = logging.getLogger(__name__)

BATCH_ROWS = 2000
BATCH_BYTES = 8 * 2**20
LOOK = 1.0
"""Seconds between two looks, while nothing comes, at what another consumer may have passed."""
SLICE_BYTES = 2**15
"""Of the spool that are read and encoded at one go while the batch before is on its way: a millisecond."""


@dataclass(frozen=True, slots=True)
class _Batch:
    """What is stored in one transaction.

    Attributes:
        refusal: why one of the units can't be a row; then `tables` are not whole.
        end: the place behind it.
        finished: the spool ends there for good.
        more: it was cut off, so the next is there already.
    """

    units: list[Unit]
    tables: Tables
    refusal: Exception | None
    end: Place
    finished: bool
    more: bool


class Moved(Exception):
    """Somebody else has advanced the spool's position: what is in memory no longer fits it."""


class DrainedSpool:
    """The drain's view of one spool. After any exception it is done for: make a new one, which begins at
    the stored position.

    Args:
        reader: on the spool's folder.
        claim: the spool's lock where its writer is gone, else None.
        batches: where to store.

    Attributes:
        finished: all of it is stored, and its writer is gone.
        behind: the last batch was cut off: more was there already.
    """

    def __init__(self, reader: SpoolReader, claim: Claim | None, batches: Batches) -> None:
        self._reader = reader
        self._folder = reader.folder
        self.node = reader.folder.name
        self._batches = batches
        self._assembler = Assembler()
        self._committed: Place = (0, 0)
        self._word = -1
        self._ahead: _Batch | None = None
        self.claim = claim
        self.finished = False
        self.behind = False
        self._ticks = time.monotonic
        self._looked = 0.0

    async def load(self) -> None:
        """Find the stored position, and rebuild what was open there."""
        connection = self._batches.connection
        await connection.execute(Q.begin_position, self.node)
        row = await connection.fetchrow(Q.position, self.node)
        if row is None:
            raise Moved(self.node)
        self._committed = self._reader.place = (row["segment"], row["offset"])
        self.finished = row["finished"]
        if self.finished or self._committed == (0, 0):
            return
        before = SpoolReader(self._folder, final=True)
        try:
            while before.place < self._committed and (found := before.read()):
                for record in found:
                    if record.place < self._committed:
                        self._assembler.feed(record)
        finally:
            before.close()
        waiting = self._assembler.open
        if waiting:
            days = []
            for execution in waiting.values():
                try:
                    days.append(records.day(execution.arrival.day))
                except ValueError:
                    continue
            there = await connection.fetch(Q.already_there, list(waiting), days, self.node)
            for row in there:
                del waiting[row["request_id"]]

    async def next_batch(self) -> int:
        """Store what has come since, at most about BATCH_ROWS rows; how many units that was. 0: nothing is
        there.

        A segment that was left for an empty one is passed, so that it can be deleted: on a full disk that is
        what makes room.

        Where the writer is gone and the end is reached, what is open is stored as interrupted and the spool
        is finished.

        Raises:
            Moved: another drain was quicker.
        """
        batch, self._ahead = self._ahead or await self._gather(), None
        passed = batch.end[0] > self._committed[0] > 0
        if not batch.units and not batch.finished and not passed:
            if self._ticks() - self._looked >= LOOK:
                self._looked = self._ticks()
                await self._delete_segments()
            return 0
        storing = asyncio.ensure_future(self._store(batch))
        try:
            if batch.more:
                self._ahead = await self._gather()
        except BaseException:
            storing.cancel()
            await asyncio.wait([storing])
            raise
        await storing
        self._committed, self.finished, self.behind = batch.end, batch.finished, batch.more
        if not batch.finished:
            self._leave_word()
            await self._delete_segments()
        return len(batch.units)

    async def remove(self) -> None:
        """Delete a finished spool, where no other consumer needs it; the last one that does will."""
        self.close()
        if self.claim is not None:
            if await self._batches.connection.fetchval(Q.other_consumers, self.node) is not None:
                self.claim.release()
            elif otlp.needed(self._folder) is not None:
                self.claim.release()
                folders.mark_drained(self._folder)
            else:
                self.claim.delete()
            self.claim = None

    def close(self) -> None:
        """Close the files; the claim stays the caller's. Idempotent."""
        self._reader.close()
        if self._word >= 0:
            os.close(self._word)
            self._word = -1

    async def _gather(self) -> _Batch:
        """Read and encode what comes next. Where Postgres is storing the batch before, it gets its turns."""
        units: list[Unit] = []
        tables, refusal = Tables(self.node), None
        rows, size, fed, ended = 0, 0, 0, False
        self._reader.final = self.claim is not None
        while rows < BATCH_ROWS and size < BATCH_BYTES:
            found = self._reader.read()
            if not found:
                ended = True
                break
            size += found[-1].end - found[0].place[1]
            for record in found:
                fed += record.end - record.place[1]
                if fed > SLICE_BYTES:
                    fed = 0
                    await asyncio.sleep(0)
                unit = self._assembler.feed(record)
                if unit is None:
                    continue
                units.append(unit)
                rows += unit.size
                if refusal is None:
                    refusal = _add(tables, unit)
        finished = ended and self.claim is not None
        if finished:
            for unit in self._assembler.interrupted():
                units.append(unit)
                refusal = refusal or _add(tables, unit)
        return _Batch(units, tables, refusal, self._reader.place, finished, more=not ended)

    async def _store(self, batch: _Batch) -> None:
        batches, units, raw = self._batches, batch.units, self._reader.raw
        await batches.ensure_days(units)
        try:
            if batch.refusal is not None:
                raise batch.refusal
            async with batches.connection.transaction():
                await self._advance(batch)
                await batches.store(batch.tables, self.node, raw)
        except REFUSALS as error:
            log.info("a batch of spool %s is refused, its units go one by one: %s", self.node, error)
            await batches.ensure_days(units, again=True)
            async with batches.connection.transaction():
                await self._advance(batch)
                await batches.store_each(units, self.node, raw)

    async def _advance(self, batch: _Batch) -> None:
        moved = await self._batches.connection.fetchval(
            Q.advance, self.node, *self._committed, *batch.end, batch.finished, len(batch.units)
        )
        if moved is None:
            raise Moved(self.node)
        if batch.finished:
            await self._batches.connection.execute(Q.node_ended, self.node)

    def _leave_word(self) -> None:
        """Tell the writer how far Postgres has it."""
        if self._word >= 0 and not os.fstat(self._word).st_nlink:
            os.close(self._word)  # the writer made its files anew
            self._word = -1
        if self._word < 0:
            self._word = os.open(self._folder / POSITION, os.O_RDWR | os.O_CREAT, 0o600)
        os.pwrite(self._word, POSITION_FORMAT.pack(*self._committed), 0)

    async def _delete_segments(self) -> None:
        """Delete the segments that every consumer has passed and in which nothing is open."""
        passed = [number for number in segments(self._folder) if number < self._committed[0]]
        if not passed:
            return
        kept = self._assembler.segments()
        if self._ahead is not None:
            kept |= {place[0] for unit in self._ahead.units for place, _ in unit.where}
        stored = await self._batches.connection.fetchval(Q.other_consumers, self.node)
        needed = min(
            (least for least in (stored, otlp.needed(self._folder)) if least is not None), default=None
        )
        for number in passed:
            if number not in kept and (needed is None or number < needed):
                segment_path(self._folder, number).unlink(missing_ok=True)


def _add(tables: Tables, unit: Unit) -> Exception | None:
    """Add `unit`; why it can't be a row, if so."""
    try:
        tables.add(unit)
    except REFUSALS as error:
        return error
    return None
