"""Ticks: while there is traffic, and again after Postgres was away."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from flux.data.ticks import Ticker


async def _until(ticker: Ticker, count: int) -> None:
    while ticker.written < count:
        ticker.touch()
        await asyncio.sleep(0.005)


@pytest.mark.timeout(20)
async def test_ticks_are_written_while_touched_and_survive_a_lost_connection(database_url: str) -> None:
    ticker = Ticker({"dsn": database_url}, "node1", interval=0.01)
    stop = asyncio.Event()
    running = asyncio.create_task(ticker.run(stop))
    await _until(ticker, 2)
    connection = await asyncpg.connect(database_url)
    await connection.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE application_name = 'flux ticks' AND datname = current_database()"
    )
    await _until(ticker, 4)
    stop.set()
    await running
    rows = await connection.fetch("SELECT node, at, snapshot::text, n FROM flux.ticks ORDER BY at")
    await connection.close()
    assert len(rows) == ticker.written >= 4
    assert {row["node"] for row in rows} == {"node1"}


@pytest.mark.timeout(20)
async def test_without_traffic_nothing_is_written(database_url: str) -> None:
    ticker = Ticker({"dsn": database_url}, "node1", interval=0.01)
    stop = asyncio.Event()
    running = asyncio.create_task(ticker.run(stop))
    ticker.touch()
    await _until(ticker, 1)
    stop.set()
    await running
    assert ticker.written in (1, 2)


async def test_a_ticker_that_cannot_reach_postgres_stops_when_told(database_url: str) -> None:
    ticker = Ticker({"dsn": database_url + "_nowhere"}, "node1", interval=0.01)
    stop = asyncio.Event()
    running = asyncio.create_task(ticker.run(stop))
    ticker.touch()
    await asyncio.sleep(0)
    stop.set()
    await running
    assert ticker.written == 0
