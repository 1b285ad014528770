"""Hears `NOTIFY flux_jobs` on a connection of its own and wakes the worker, which polls besides."""

from __future__ import annotations

import asyncio
import logging

import asyncpg
from opentelemetry.instrumentation.utils import suppress_instrumentation

from flux.host.jobs import CHANNEL, OUTAGE
from flux.store.database import Store

log = logging.getLogger("flux.queue")

SHORTEST_PAUSE, LONGEST_PAUSE = 0.1, 5.0
"""Seconds between attempts to connect again."""


class Listener:
    """Sets `heard` whenever jobs were pushed, and whenever it has (re)connected and may have missed some."""

    def __init__(self, store: Store, heard: asyncio.Event) -> None:
        self._store = store
        self._heard = heard

    async def run(self) -> None:
        """Listen until cancelled, reconnecting as often as it takes."""
        pause = SHORTEST_PAUSE
        with suppress_instrumentation():
            while True:
                try:
                    await self._listen()
                    pause = SHORTEST_PAUSE
                except OUTAGE as error:
                    if pause == SHORTEST_PAUSE:
                        log.warning("can't listen for pushed jobs (polling goes on): %s", error)
                await asyncio.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE)

    async def _listen(self) -> None:
        """Connect and listen until the connection is lost."""
        lost = asyncio.Event()
        connection = await asyncpg.connect(**self._store.connect_args)
        try:
            connection.add_termination_listener(lambda _: lost.set())
            await connection.add_listener(CHANNEL, lambda *_: self._heard.set())
            self._heard.set()
            await lost.wait()
        finally:
            if not connection.is_closed():
                await connection.close(timeout=1)
