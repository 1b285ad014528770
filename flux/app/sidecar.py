"""The server's child process: it drains the spool, ticks, and keeps the node's heartbeat.

It is a process of its own so that the server keeps its interpreter for requests. Its stdin is a
pipe from the server: when that closes (a clean stop or a kill -9 alike) it drains what is left,
adopts the spool if its owner died, and ends. Run as `python -m flux.app.sidecar ROOT NODE`.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import sys
import time
from pathlib import Path

import uvloop

from flux.app import nodes
from flux.app.limit import Limit
from flux.config import Config, load
from flux.data.ticks import Ticker
from flux.drain import state as drain_state
from flux.drain.drain import AWAY, Drain
from flux.errors import FluxError
from flux.store.database import Store

log = logging.getLogger("flux.sidecar")

LAST_DRAIN = 10.0
"""Most seconds spent on what is left once the server is gone."""
LAST = 3.0
"""Seconds more in which it has to be over, whoever does not answer."""
PATIENCE = 60.0
"""Seconds that a heartbeat may take."""

TELL = 1.0
"""Seconds between two words on the drain."""


async def run(config: Config, node: str) -> None:
    """Drain, tick and beat until stdin closes."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin.buffer)
    gone = asyncio.create_task(_gone(reader))
    store = await Store.open(config, application_name="flux sidecar", pool_size=2, migrate=False)
    drain = Drain(store.connect_args, config.spool_dir, own=node)
    ticker = Ticker(store.connect_args, node)
    drain.on_records = ticker.touch
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(drain.run(stop))
            tasks.create_task(ticker.run(stop))
            tasks.create_task(_beat(store, node, stop))
            tasks.create_task(_tell(drain, config.spool_dir / node, stop))
            await gone
            stop.set()
        await _last(drain, store, node)
    finally:
        await store.close()


async def _beat(store: Store, node: str, stop: asyncio.Event) -> None:
    heart = nodes.Heart(node, nodes.parent_pid())
    looked = -nodes.LOOK_AHEAD
    while not stop.is_set():
        try:
            async with store.internal(patience=PATIENCE) as connection:
                await heart.beat(connection)
                if time.monotonic() - looked >= nodes.LOOK_AHEAD:
                    await nodes.look_ahead(connection)
                    looked = time.monotonic()
        except AWAY as error:
            log.warning("heartbeat failed: %s", error)
        await nodes.wait_or(stop, nodes.HEARTBEAT)


async def _tell(drain: Drain, folder: Path, stop: asyncio.Event) -> None:
    """Say each second how the drain is doing, for who looks from outside."""
    while not stop.is_set():
        drain_state.write(folder, drain.state())
        await nodes.wait_or(stop, TELL)


async def _last(drain: Drain, store: Store, node: str) -> None:
    try:
        async with asyncio.timeout(LAST_DRAIN):
            await drain.finish()
            async with store.internal() as connection:
                await nodes.stopped(connection, node)
    except (TimeoutError, *AWAY) as error:
        log.warning("the spool could not be drained to its end; the next start goes on: %s", error)
    await drain.close()


async def _gone(server: asyncio.StreamReader) -> None:
    """Wait for the server's end, and see that nothing that waits for Postgres outlives it for long: what is
    not stored by then stays in the spool, for the next start.
    """
    await server.read()
    Limit(LAST_DRAIN + LAST, "Postgres does not answer; the next start goes on with the spool").set()


def main() -> None:
    """Entry point: arguments are the project folder and the node's id."""
    logging.basicConfig(level=logging.WARNING, format="flux sidecar: %(message)s", stream=sys.stderr)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    # What a batch holds has no cycles; looking for them was a tenth of the drain's time.
    gc.freeze()
    gc.set_threshold(100_000, 20, 50)
    root, node = sys.argv[1:3]
    try:
        uvloop.run(run(load(Path(root)), node))
    except FluxError as error:
        log.error("%s", error.message)
        sys.exit(1)


if __name__ == "__main__":
    main()
