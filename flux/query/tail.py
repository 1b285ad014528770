"""Executions as they are recorded, newest last: a list of the latest, then a stream.

Executions are stored when they end, so not in the order in which they began: each look goes back a little
behind the newest start it has seen, and now and then far back for those that took long.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from asyncpg import Connection, Record

from flux.query import from_rows, silent
from flux.query.from_rows import Row
from flux.query.parts import Columns
from flux.query.queries import Q
from flux.shapes.record import Execution

INTERVAL = 0.2
"""Seconds between two looks."""
WINDOW = timedelta(seconds=3)
"""How far behind the newest start each look goes."""
FAR = timedelta(minutes=15)
"""How far back long executions are looked for."""
EVERY = 10
"""Looks between two that go far back."""
MOST = 2000
"""Executions that one look shows; what came beside them in the same moment is left out."""
REMEMBERED = 50_000

Connect = Callable[[], AbstractAsyncContextManager[Any]]


@dataclass(frozen=True, slots=True)
class Filter:
    """Which executions are wanted.

    Attributes:
        function: of this name.
        status: a status, or a class of them as `5xx` or `4xx`.
        failed: True keeps what did not end well (an error, a rejection, an interruption, a status of 500 or
            more).
    """

    function: str | None = None
    status: str | None = None
    failed: bool = False

    @property
    def fits_unrecorded(self) -> bool:
        """Whether executions are wanted of which neither function nor status are known."""
        return self.function is None and self.status is None

    @property
    def pattern(self) -> str | None:
        """`status` as a LIKE pattern."""
        return None if self.status is None else self.status.lower().replace("x", "_")


async def latest(
    connection: Connection[Any], wanted: Filter, limit: int, since: datetime | None = None
) -> list[Record]:
    """The newest `limit` executions begun after `since`, oldest first."""
    rows = await connection.fetch(
        Q.latest_executions, wanted.function, wanted.pattern, wanted.failed, since, limit
    )
    return rows[::-1]


async def newest(
    connection: Connection[Any], wanted: Filter, limit: int, since: datetime | None = None
) -> list[Row]:
    """The same with those among them whose record lies with a silent node."""
    rows: list[Row] = list(await latest(connection, wanted, limit, since))
    if wanted.fits_unrecorded:
        back = since if len(rows) < limit else rows[0]["started_at"]
        rows += await silent.of(connection, await silent.nodes(connection, back), back, limit)
        rows.sort(key=lambda row: row["started_at"])
    return rows[-limit:] if limit else []


async def stream(connect: Connect, wanted: Filter, backlog: int) -> AsyncIterator[Execution]:
    """`backlog` executions that are already there, then each further one as it is recorded. Ends only when
    closed.
    """
    seen: OrderedDict[str, None] = OrderedDict()
    async with connect() as connection:
        now: datetime = await connection.fetchval("SELECT now()")
        for row in await latest(connection, wanted, MOST, now - WINDOW):
            seen[row["request_id"]] = None
        horizon = now
        known = set(await silent.nodes(connection))
        shown = await newest(connection, wanted, backlog)
    told: set[str] = set()
    for each in shown:
        # Not `seen` where it has no record yet: that is news when it comes.
        if each["trigger"] is None:
            told.add(each["request_id"])
        else:
            seen[each["request_id"]] = None
        yield from_rows.execution(each)
    look = 0
    while True:
        await asyncio.sleep(INTERVAL)
        look += 1
        async with connect() as connection:
            rows = await latest(connection, wanted, MOST, horizon - WINDOW)
            lost: list[Columns] = []
            if look % EVERY == 0:
                rows = await _late(connection, wanted, now, horizon) + rows
                if wanted.fits_unrecorded:
                    fallen = set(await silent.nodes(connection, horizon - FAR)) - known
                    lost = await silent.of(connection, list(fallen), horizon - FAR, MOST)
                    known |= fallen
        for unrecorded in reversed(lost):
            if unrecorded["request_id"] not in told:
                yield from_rows.execution(unrecorded)
        for row in rows:
            if row["request_id"] in seen:
                continue
            seen[row["request_id"]] = None
            horizon = max(horizon, row["started_at"])
            yield from_rows.execution(row)
        while len(seen) > REMEMBERED:
            seen.popitem(last=False)


async def _late(
    connection: Connection[Any], wanted: Filter, began: datetime, horizon: datetime
) -> list[Record]:
    rows = await connection.fetch(
        Q.late_executions,
        wanted.function,
        wanted.pattern,
        wanted.failed,
        horizon - FAR,
        horizon - WINDOW,
        WINDOW.total_seconds() * 1000 / 2,
        MOST,
    )
    # What had ended before the stream began is no news.
    return [row for row in rows[::-1] if row["duration_ms"] is None or _ended(row) > began]


def _ended(row: Record) -> datetime:
    ended: datetime = row["started_at"] + timedelta(milliseconds=row["duration_ms"])
    return ended
