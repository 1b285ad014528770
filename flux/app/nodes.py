"""What a node does for the database: its row in flux.nodes, the partitions of the days to come.

Called by the sidecar.
"""

from __future__ import annotations

import asyncio
import os
import platform
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

from flux import __version__
from flux.store.sql import Queries

Q = Queries("flux.app")

HEARTBEAT = 2.0
"""Seconds between two heartbeats."""
LOOK_AHEAD = 3600.0
"""Seconds between two looks at the partitions of the days to come."""


class Heart:
    """Beats for one node, and measures with each beat how far its clock is from the database's.

    Args:
        node: its id. pid: its process.
        clock: wall clock, ns.
    """

    def __init__(self, node: str, pid: int, *, clock: Callable[[], int] = time.time_ns) -> None:
        self._node = node
        self._pid = pid
        self._clock = clock
        self._offset: float | None = None

    async def beat(self, connection: Any) -> None:
        """Insert or refresh the node's row."""
        before = self._clock()
        row = (self._node, platform.node(), self._pid, __version__, self._offset)
        there = await connection.fetchval(Q["heartbeat"], *row)
        self._offset = offset_ms(before, there, self._clock())


def offset_ms(before_ns: int, there: datetime, after_ns: int) -> float:
    """How far this clock is ahead of another that said `there` between two readings of this one, ms.

    Half of what passed between the two is the most it can be wrong by.
    """
    return (before_ns + after_ns) / 2e6 - there.timestamp() * 1e3


async def look_ahead(connection: Any) -> int:
    """Make the partitions of the days to come; returns how many were missing."""
    made: int = await connection.fetchval(Q["partitions_ahead"])
    return made


async def stopped(connection: Any, node: str) -> None:
    """Mark the node as ended, in good order or not: its process is gone, its jobs may be taken over."""
    await connection.execute(Q["node_stopped"], node)


async def wait_or(stop: asyncio.Event, seconds: float) -> None:
    """Return when `stop` is set or `seconds` have passed."""
    try:
        await asyncio.wait_for(stop.wait(), seconds)
    except TimeoutError:
        return


def parent_pid() -> int:
    """The serving process's pid, as its child sees it."""
    return os.getppid()
