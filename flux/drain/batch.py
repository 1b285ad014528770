"""A batch of assembled units into Postgres, within the caller's transaction. Called by the drain.

Everything is COPYed. If Postgres refuses the batch, it is halved until the one bad unit is alone.
That one is tried again without derived JSON, then put into the quarantine as it stands in the
spool.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import date
from typing import cast

import asyncpg

from flux.drain import records
from flux.drain.assemble import Assembled, Misfit, Single, Unit
from flux.drain.tables import Tables
from flux.record.call import Attempt
from flux.record.events import Deployed, Resource, Spans, Surroundings
from flux.spool.frames import HEAD, Place
from flux.store.sql import Queries
from flux_postgres_exporter import copying, rows, store

log = logging.getLogger(__name__)

Q = Queries("flux.drain")
Raw = Callable[[Place, int], bytes]


class Batches:
    """Stores units over one connection.

    Args:
        connection: of a role that may write flux.*.
        system_id: the database cluster's system identifier, for rolled-back mutations.
    """

    def __init__(self, connection: asyncpg.Connection, system_id: int) -> None:
        self.connection = connection
        self._system_id = system_id
        self._days: set[date] = set()

    async def ensure_days(self, units: Sequence[Unit], *, again: bool = False) -> None:
        """See that the units' partitions exist. Outside of the batch's transaction.

        Args:
            units: what is going to be stored.
            again: don't rely on what was seen before (a partition may have been dropped).
        """
        if again:
            self._days.clear()
        days = {day for unit in units for day in _days(unit)} - self._days
        if days:
            await store.ensure_partitions(self.connection, days)
            self._days |= days

    async def store(self, tables: Tables, node: str, raw: Raw) -> None:
        """COPY all of it; raises one of store.REFUSALS where Postgres does not take it."""
        for event in tables.events:
            if isinstance(event, Misfit):
                await self.quarantine(event, node, event.reason, raw)
            elif isinstance(event, Resource):
                await store.intern_resources(self.connection, {event.id: event.attributes})
            elif isinstance(event, Surroundings):
                await self.connection.execute(Q.surroundings, *records.surroundings(event))
            else:
                await self._deploy(event)
        await self._copy("executions", records.EXECUTION_COLUMNS, tables.executions)
        await self._copy("host_calls", records.CALL_COLUMNS, tables.calls)
        await self._copy("logs", records.LOG_COLUMNS, tables.logs)
        if spans := tables.spans:
            await store.copy(self.connection, spans)
        if tables.loose:  # after the executions: the parent of a span may be one of theirs
            found = await store.owners(self.connection, tables.loose)
            await store.copy(self.connection, tables.owned(found))
        if tables.attempts:
            undone = [
                records.rolled_back(request_id, on, attempt, self._system_id, plain=tables.plain)
                for request_id, on, attempt in await self._undone(tables.attempts)
            ]
            await self._copy("mutations", records.MUTATION_COLUMNS, undone)
            if undone:
                await self.connection.execute(
                    Q.file_attempts, list({row[0] for row in undone}), list({row[1] for row in undone})
                )

    async def store_each(self, units: Sequence[Unit], node: str, raw: Raw) -> None:
        """Store all units that Postgres takes, and put the rest into the quarantine."""
        try:
            async with self.connection.transaction():
                await self.store(_tables(units, node), node, raw)
            return
        except store.REFUSALS as error:
            reason = f"{type(error).__name__}: {error}"
        if len(units) > 1:
            half = len(units) // 2
            await self.store_each(units[:half], node, raw)
            await self.store_each(units[half:], node, raw)
            return
        try:
            async with self.connection.transaction():
                await self.store(_tables(units, node, plain=True), node, raw)
            log.warning("execution %s is stored without JSON for searching: %s", units[0].request_id, reason)
        except store.REFUSALS as error:
            await self.quarantine(units[0], node, f"{type(error).__name__}: {error}", raw)

    async def quarantine(self, unit: Unit, node: str, reason: str, raw: Raw) -> None:
        """Keep a unit raw, record by record."""
        log.warning("a record of spool %s goes to flux.quarantine: %s", node, reason)
        for (segment, offset), end in unit.where:
            data = unit.raw if isinstance(unit, Misfit) and unit.raw is not None else None
            if data is None:
                data = raw((segment, offset), end)[HEAD.size :]
            await self.connection.execute(
                Q.quarantine, unit.request_id, node, segment, offset, rows.text(reason), data
            )

    async def _deploy(self, event: Deployed) -> None:
        await self.connection.execute(Q.deployment, *records.deployment(event))
        await self.connection.execute(Q.function, *records.function(event))

    async def _undone(self, attempts: list[tuple[str, date, Attempt]]) -> list[tuple[str, date, Attempt]]:
        committed = await self.connection.fetch(
            Q.committed,
            list({request_id for request_id, _, _ in attempts}),
            list({on for _, on, _ in attempts}),
            [attempt.n for _, _, attempt in attempts],
        )
        there = {(n, xid) for n, xid in committed}
        return [found for found in attempts if (found[2].n, found[2].xid) not in there]

    async def _copy(self, table: str, columns: Sequence[str], found: list[records.Row]) -> None:
        if found:
            await copying.copy_records(self.connection, table, found, schema="flux", columns=columns)


def _tables(units: Sequence[Unit], node: str, *, plain: bool = False) -> Tables:
    tables = Tables(node, plain=plain)
    for unit in units:
        tables.add(unit)
    return tables


def _days(unit: Unit) -> list[date]:
    """The days that a unit's rows go to; [] where it names none that is a day."""
    try:
        if isinstance(unit, Assembled):
            return [records.day(unit.arrival.day)]
        if isinstance(unit, Single) and isinstance(unit.event, Spans):
            return list({rows.day_of(cast(int, row[rows.START_NS])) for row in unit.event.spans})
    except (ValueError, TypeError, OverflowError, IndexError):
        return []
    return []
