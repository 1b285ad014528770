"""What a node does for the database: its row in flux.nodes, the partitions of the days to come.

Called by the sidecar.
"""

from __future__ import annotations

import asyncio
import os
import platform
from typing import Any

from flux import __version__
from flux.store.sql import Queries

Q = Queries("flux.app")

HEARTBEAT = 2.0
"""Seconds between two heartbeats."""
LOOK_AHEAD = 3600.0
"""Seconds between two looks at the partitions of the days to come."""


async def beat(connection: Any, node: str, pid: int) -> None:
    """Insert or refresh the node's row."""
    await connection.execute(Q["heartbeat"], node, platform.node(), pid, __version__)


async def look_ahead(connection: Any) -> int:
    """Make the partitions of the days to come; returns how many were missing."""
    made: int = await connection.fetchval(Q["partitions_ahead"])
    return made


async def stopped(connection: Any, node: str) -> None:
    """Mark the node as ended in good order."""
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
