"""One spool on its way into Postgres: how far it is, what is open in it, and the batch that comes next.

Exactly once: a batch and the position after it are one transaction, and the position is compared under a
row lock before, so a batch whose commit's answer was lost, or that another drain has stored, is never
stored again.

What was open at the position is rebuilt after a restart from the segments still there: those are kept in
which an open execution has a record.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence

from flux.recorder import records
from flux.recorder.assemble import Assembler, Unit
from flux.recorder.batch import Batches, Q
from flux.recorder.folder import Claim
from flux.recorder.frames import POSITION, POSITION_FORMAT, Place, segment_path, segments
from flux.recorder.reader import SpoolReader
from flux_postgres_exporter.store import REFUSALS

log = logging.getLogger(__name__)

BATCH_ROWS = 2000
BATCH_BYTES = 8 * 2**20


class Moved(Exception):
    """Somebody else has advanced the spool's position: what is in memory no longer fits it."""


class DrainedSpool:
    """The drain's view of one spool. After any exception it is done for: make a new one, which begins at
    the stored position.

    Args:
        reader: on the spool's folder.
        claim: the spool's lock where its writer is gone, else None.
        batches: where to store.
    """

    def __init__(self, reader: SpoolReader, claim: Claim | None, batches: Batches) -> None:
        self._reader = reader
        self._folder = reader.folder
        self.node = reader.folder.name
        self._batches = batches
        self._assembler = Assembler()
        self._committed: Place = (0, 0)
        self._word = -1
        self.claim = claim
        self.finished = False

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

        Where the writer is gone and the end is reached, what is open is stored as interrupted and the spool
        is finished.

        Raises:
            Moved: another drain was quicker.
        """
        units: list[Unit] = []
        rows, size, ended = 0, 0, False
        self._reader.final = self.claim is not None
        while rows < BATCH_ROWS and size < BATCH_BYTES:
            found = self._reader.read()
            if not found:
                ended = True
                break
            size += found[-1].end - found[0].place[1]
            for record in found:
                unit = self._assembler.feed(record)
                if unit is not None:
                    units.append(unit)
                    rows += unit.size
        finished = ended and self.claim is not None
        if finished:
            units.extend(self._assembler.interrupted())
        if units or finished:
            await self._store(units, finished)
        return len(units)

    async def remove(self) -> None:
        """Delete a finished spool, where no other consumer needs it."""
        self.close()
        if self.claim is not None:
            if await self._batches.connection.fetchval(Q.other_consumers, self.node) is None:
                self.claim.delete()
            else:
                self.claim.release()
            self.claim = None

    def close(self) -> None:
        """Close the files; the claim stays the caller's. Idempotent."""
        self._reader.close()
        if self._word >= 0:
            os.close(self._word)
            self._word = -1

    async def _store(self, units: Sequence[Unit], finished: bool) -> None:
        batches, raw = self._batches, self._reader.raw
        await batches.ensure_days(units)
        try:
            async with batches.connection.transaction():
                await self._advance(len(units), finished)
                await batches.store(units, self.node, raw)
        except REFUSALS as error:
            log.info("a batch of spool %s is refused, its units go one by one: %s", self.node, error)
            await batches.ensure_days(units, again=True)
            async with batches.connection.transaction():
                await self._advance(len(units), finished)
                await batches.store_each(units, self.node, raw)
        self._committed = self._reader.place
        self.finished = finished
        if not finished:
            self._leave_word()
            await self._delete_segments()

    async def _advance(self, units: int, finished: bool) -> None:
        connection = self._batches.connection
        row = await connection.fetchrow(Q.lock_position, self.node)
        if row is None or (row["segment"], row["offset"]) != self._committed or row["finished"]:
            raise Moved(self.node)
        await connection.execute(Q.advance, self.node, *self._reader.place, finished, units)
        if finished:
            await connection.execute(Q.node_ended, self.node)

    def _leave_word(self) -> None:
        """Tell the writer how far Postgres has it."""
        if self._word < 0:
            self._word = os.open(self._folder / POSITION, os.O_RDWR | os.O_CREAT, 0o600)
        os.pwrite(self._word, POSITION_FORMAT.pack(*self._committed), 0)

    async def _delete_segments(self) -> None:
        """Delete the segments that every consumer has passed and in which nothing is open."""
        passed = [number for number in segments(self._folder) if number < self._committed[0]]
        if not passed:
            return
        kept = self._assembler.segments()
        needed = await self._batches.connection.fetchval(Q.other_consumers, self.node)
        for number in passed:
            if number not in kept and (needed is None or number < needed):
                segment_path(self._folder, number).unlink(missing_ok=True)
