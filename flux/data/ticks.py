"""Notes in flux.ticks, ten times a second while there is traffic, which transactions are committed.

A tick (time, pg_current_snapshot) says what a reader at that time could see; replays of a window start from
the last one before it. The sidecar owns one Ticker; every execution touches it. It also completes what a
TRUNCATE could not see (flux.complete_truncations).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import asyncpg
from opentelemetry.instrumentation.utils import suppress_instrumentation

from flux.store.sql import Queries

INTERVAL = 0.1
"""Seconds between ticks."""

_Q = Queries("flux.data")
_RETRY = 0.5
_PATIENCE = 10.0


class Ticker:
    """Writes ticks while it is touched.

    Args:
        connect_args: for asyncpg.connect, as the owner.
        node: id of the serving process.
        interval: seconds between ticks.
    """

    def __init__(self, connect_args: Mapping[str, Any], node: str, *, interval: float = INTERVAL) -> None:
        self._connect_args = dict(connect_args)
        self._node = node
        self._interval = interval
        self._touched = False
        self._wake = asyncio.Event()
        self._connection: asyncpg.Connection | None = None
        self.written = 0
        """Ticks written so far."""

    def touch(self) -> None:
        """There is traffic. Called per execution, from the loop that `run` runs in."""
        if not self._touched:
            self._touched = True
            self._wake.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Tick until `stop` is set. While Postgres is away ticks are left out; it is tried twice a second."""
        stopping = asyncio.create_task(stop.wait())
        try:
            while not stop.is_set():
                waking = asyncio.create_task(self._wake.wait())
                await asyncio.wait({waking, stopping}, return_when=asyncio.FIRST_COMPLETED)
                waking.cancel()
                if stop.is_set():
                    return
                self._touched = False
                self._wake.clear()
                pause = self._interval if await self._tick() else _RETRY
                await asyncio.wait({stopping}, timeout=pause)
        finally:
            stopping.cancel()
            await self._drop()

    async def _tick(self) -> bool:
        try:
            with suppress_instrumentation():
                if self._connection is None:
                    self._connection = await self._connect()
                await self._connection.execute(_Q.tick, self._node)
                self.written += 1
                await self._connection.execute(_Q.complete_truncations)
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError):
            await self._drop()
            self.touch()
            return False
        return True

    async def _connect(self) -> asyncpg.Connection:
        settings = {
            **self._connect_args.get("server_settings", {}),
            "synchronous_commit": "off",
            "application_name": "flux ticks",
        }
        more = {"server_settings": settings, "command_timeout": _PATIENCE}
        return await asyncpg.connect(**{**self._connect_args, **more})

    async def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()
