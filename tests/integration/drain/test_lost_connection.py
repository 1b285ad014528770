"""The drain's connection is lost, or says nothing any more, in the middle of a COPY that Postgres does not
take yet: the drain goes on by itself with a new one, and every record is stored once.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from flux.drain.drain import Drain
from flux.recorder.recorder import Recorder
from flux_postgres_exporter import copying
from tests.integration.drain.recorded import complete, counts, recorder
from tests.line import Line

RECORDS = 60
BODY = bytes(range(256)) * 800
"""Together more than sockets on the way hold."""
WAITING = (
    "SELECT coalesce(array_agg(pid), '{}') FROM pg_stat_activity "
    "WHERE application_name = 'drain' AND wait_event_type = 'Lock'"
)


@contextlib.asynccontextmanager
async def running(line: Line, made: Recorder, spools: Path, **more: Any) -> AsyncIterator[Drain]:
    """A drain of that recorder's spool, over the line."""
    stop = asyncio.Event()
    settings = {"application_name": "drain"}
    drain = Drain({"dsn": line.url, "server_settings": settings, **more}, spools, own=made.node)
    task = asyncio.create_task(drain.run(stop))
    try:
        yield drain
    finally:
        stop.set()
        task.cancel()
        await asyncio.wait([task], timeout=10)
        await drain.close()
        made.close()
    assert task.done()


@contextlib.asynccontextmanager
async def held(database_url: str) -> AsyncIterator[None]:
    """Nobody can write into flux.executions, anybody can read it."""
    holder = await asyncpg.connect(database_url)
    try:
        async with holder.transaction():
            await holder.execute("LOCK TABLE flux.executions IN SHARE MODE")
            yield
    finally:
        await holder.close()


def held_up(drain: Drain) -> bool:
    """Whether asyncpg waits until it may write more."""
    batches = drain._batches
    if batches is None:
        return False
    transport = batches.connection._transport  # type: ignore[attr-defined]
    return bool(transport is not None and transport.get_write_buffer_size() > 2**16)


async def until(condition: Callable[[], Awaitable[object]], seconds: float = 30.0) -> None:
    async with asyncio.timeout(seconds):
        while not await condition():
            await asyncio.sleep(0.01)


async def _stored_once(connection: asyncpg.Connection, ids: set[str]) -> None:
    async def stored() -> bool:
        return bool(await connection.fetchval("SELECT count(*) FROM flux.executions") >= len(ids))

    await until(stored)
    found = [row[0] for row in await connection.fetch("SELECT request_id FROM flux.executions")]
    assert sorted(found) == sorted(ids)
    there = await counts(connection)
    assert (there["host_calls"], there["logs"], there["quarantine"]) == (2 * len(ids), len(ids), 0)


@pytest.mark.parametrize("end", ["terminated by Postgres", "lost"])
async def test_a_copy_that_waits_to_write_ends_with_its_connection(
    connection: asyncpg.Connection, database_url: str, spools: Path, end: str
) -> None:
    made = recorder(spools)
    ids = {complete(made, body=BODY).request_id for _ in range(RECORDS)}
    async with Line(database_url).laid() as line, running(line, made, spools) as drain:
        async with held(database_url):

            async def copying() -> bool:
                return held_up(drain) and bool(await connection.fetchval(WAITING))

            await until(copying)
            [first] = await connection.fetchval(WAITING)
            if end == "lost":
                line.cut()
            else:
                assert await connection.fetchval("SELECT pg_terminate_backend($1)", first)

            async def another() -> bool:
                return bool(set(await connection.fetchval(WAITING)) - {first})

            await until(another)
        await _stored_once(connection, ids)


@pytest.mark.parametrize("while_", ["it waits to write", "it waits for an answer"])
async def test_a_postgres_that_never_answers_is_given_up(
    connection: asyncpg.Connection,
    database_url: str,
    spools: Path,
    monkeypatch: pytest.MonkeyPatch,
    while_: str,
) -> None:
    monkeypatch.setattr(copying, "PATIENCE", 3.0)
    made = recorder(spools)
    body = BODY if while_ == "it waits to write" else b"{}"
    ids = {complete(made, body=body).request_id for _ in range(RECORDS)}
    async with Line(database_url).laid() as line, running(line, made, spools, timeout=1.0) as drain:
        async with held(database_url):

            async def copying_() -> bool:
                return bool(await connection.fetchval(WAITING)) and (body != BODY or held_up(drain))

            await until(copying_)
            line.silence()

            async def said() -> bool:
                return drain.state().error is not None

            await until(said)
        assert (await counts(connection))["executions"] == 0
        monkeypatch.undo()
        line.mend()
        await _stored_once(connection, ids)
