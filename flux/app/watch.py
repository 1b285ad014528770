"""What Postgres says of the record, for metrics and readiness.

It is asked when they are, at most once a second, over a connection of its own that no load of the
server's can keep busy. What can't be known is None: nothing is carried over from a time when it
could. Nothing here takes longer than PATIENCE.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import asyncpg

from flux.app import nodes
from flux.data import install
from flux.store.sql import Queries
from flux.store.untraced import untraced

PATIENCE = 1.0
"""Seconds that Postgres gets to answer."""
FRESH = 1.0
"""Seconds for which an answer serves those who ask next."""
SLOW_FRESH = 5.0
"""The same for what takes longer to find out: whether every table is captured."""
SILENT = 10.0
"""Seconds without a heartbeat after which a node counts as silent; it beats every two."""

AWAY = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
Q = Queries("flux.app")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Seen:
    """What Postgres said.

    Attributes:
        jobs: by state: queued, delayed, running, stuck, failed. oldest: seconds that the longest due waited.
        quarantined: records in the quarantine. drained: units of this node's spool that are stored.
        live, silent: nodes. days_ahead: days for which the record has partitions, today included.
        clock_offset: this machine's clock minus the server's, seconds.
    """

    jobs: Mapping[str, int]
    oldest: float
    quarantined: int
    drained: int
    live: int
    silent: int
    days_ahead: int
    clock_offset: float


class Watch:
    """Asks Postgres for one node.

    Args:
        connect_args: for asyncpg.connect, as the owner.
        node: the node's id.
        ticks: monotonic clock, seconds. clock: wall clock, ns.
    """

    def __init__(
        self,
        connect_args: Mapping[str, Any],
        node: str,
        *,
        ticks: Callable[[], float] = time.monotonic,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self._connect_args = dict(connect_args)
        self._node = node
        self._ticks = ticks
        self._clock = clock
        self._connection: asyncpg.Connection | None = None
        self._turn = asyncio.Lock()
        self._seen: tuple[float, Seen | None] | None = None
        self._uncaptured: tuple[float, int | None] | None = None

    async def seen(self) -> Seen | None:
        """What Postgres says now, or said within the last second; None while it does not answer."""
        async with self._turn:
            if self._seen is None or self._ticks() - self._seen[0] >= FRESH:
                self._seen = (self._ticks(), await self._ask(self._look))
            return self._seen[1]

    async def uncaptured(self) -> int | None:
        """How many of the user's tables are not captured; None where that can't be known now."""
        async with self._turn:
            fresh = FRESH if self._uncaptured is not None and self._uncaptured[1] is None else SLOW_FRESH
            if self._uncaptured is None or self._ticks() - self._uncaptured[0] >= fresh:
                self._uncaptured = (self._ticks(), await self._ask(_uncaptured))
            return self._uncaptured[1]

    async def close(self) -> None:
        """Let go of the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(*AWAY):
                await connection.close(timeout=PATIENCE)

    async def _ask(self, ask: Callable[[asyncpg.Connection], Awaitable[T]]) -> T | None:
        try:
            with untraced():
                async with asyncio.timeout(PATIENCE):
                    if self._connection is None or self._connection.is_closed():
                        self._connection = await asyncpg.connect(**self._connect_args)
                    return await ask(self._connection)
        except AWAY:
            connection, self._connection = self._connection, None
            if connection is not None:
                connection.terminate()
            return None

    async def _look(self, connection: asyncpg.Connection) -> Seen:
        offset = await clock_offset(connection, self._clock)
        jobs = await connection.fetchrow(Q.jobs)
        found = await connection.fetch(Q.nodes, SILENT)
        assert jobs is not None
        silent = sum(row["silent"] is not None for row in found)
        return Seen(
            jobs={state: jobs[state] for state in ("queued", "delayed", "running", "stuck", "failed")},
            oldest=jobs["oldest"],
            quarantined=await connection.fetchval(Q.quarantined_records),
            drained=await connection.fetchval(Q.drained_records, self._node),
            live=len(found) - silent,
            silent=silent,
            days_ahead=await connection.fetchval(Q.days_ahead),
            clock_offset=offset,
        )


async def clock_offset(connection: Any, clock: Callable[[], int] = time.time_ns) -> float:
    """How far this machine's clock is ahead of the server's, seconds: the best of three exchanges."""
    best: tuple[int, float] | None = None
    for _ in range(3):
        before = clock()
        there = await connection.fetchval(Q.clock)
        after = clock()
        if best is None or after - before < best[0]:
            best = (after - before, nodes.offset_ms(before, there, after) / 1e3)
    assert best is not None
    return best[1]


async def _uncaptured(connection: asyncpg.Connection) -> int:
    return sum(not table.lasting for table in (await install.status(connection)).uncaptured)
