"""Lines that functions logged: of one execution, the latest of all, and a stream of them."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from asyncpg import Connection, Record

from flux.errors import UsageError
from flux.query import from_rows
from flux.query.find import Found
from flux.query.queries import Q
from flux.shapes.record import LogLine

LEVELS = ("debug", "info", "warn", "error")
INTERVAL = 0.2
WINDOW = timedelta(seconds=35)
"""Lines are stored when their execution ends, so up to a function's usual deadline after they were logged."""
MOST = 5000
REMEMBERED = 100_000

Connect = Callable[[], AbstractAsyncContextManager[Any]]


@dataclass(frozen=True, slots=True)
class Filter:
    """Which lines are wanted: of `function`, of `level` or a more serious one, logged after `since`."""

    function: str | None = None
    level: str | None = None
    since: datetime | None = None

    @property
    def levels(self) -> list[str] | None:
        """The levels that pass; None means all."""
        if self.level is None:
            return None
        if self.level not in LEVELS:
            raise UsageError(f"There is no level `{self.level}`.", f"Levels: {', '.join(LEVELS)}.")
        return list(LEVELS[LEVELS.index(self.level) :])


async def of(connection: Connection[Any], found: Found, wanted: Filter) -> list[LogLine]:
    """The lines of one execution, in order."""
    return [
        line(row) for row in await connection.fetch(Q.logs_of, found.request_id, found.day, wanted.levels)
    ]


async def latest(connection: Connection[Any], wanted: Filter, limit: int) -> list[LogLine]:
    """The newest `limit` lines, oldest first."""
    return [line(row) for row in await _fetch(connection, wanted, wanted.since, limit)]


async def stream(connect: Connect, wanted: Filter, backlog: int) -> AsyncIterator[LogLine]:
    """`backlog` lines that are already there, then each further one as it is recorded. Ends only when
    closed.
    """
    seen: OrderedDict[tuple[str, int], None] = OrderedDict()
    async with connect() as connection:
        horizon: datetime = await connection.fetchval("SELECT now()")
        for row in await _fetch(connection, wanted, horizon - WINDOW, MOST):
            seen[row["request_id"], row["seq"]] = None
        shown = await _fetch(connection, wanted, wanted.since, backlog) if backlog > 0 else []
    for row in shown:
        seen[row["request_id"], row["seq"]] = None
        yield line(row)
    while True:
        await asyncio.sleep(INTERVAL)
        async with connect() as connection:
            rows = await _fetch(connection, wanted, horizon - WINDOW, MOST)
        for row in rows:
            identity = row["request_id"], row["seq"]
            if identity not in seen:
                seen[identity] = None
                horizon = max(horizon, row["at"])
                yield line(row)
        while len(seen) > REMEMBERED:
            seen.popitem(last=False)


def line(row: Record) -> LogLine:
    """A log line with the execution it belongs to."""
    return from_rows.log_line(
        row, request_id=row["request_id"], trace_id=row["trace_id"], function=row["function"]
    )


async def _fetch(
    connection: Connection[Any], wanted: Filter, since: datetime | None, limit: int
) -> list[Record]:
    rows = await connection.fetch(Q.latest_logs, wanted.function, wanted.levels, since, limit)
    return rows[::-1]
