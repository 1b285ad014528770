"""What a node does for the database while it serves."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import asyncpg
import pytest

from flux.app import nodes

LAST = "to_char((now() AT TIME ZONE 'UTC')::date + 7, 'YYYYMMDD')"


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    made = await asyncpg.connect(database_url)
    yield made
    await made.close()


async def test_partitions_are_made_a_week_ahead(connection: asyncpg.Connection) -> None:
    name = await connection.fetchval(f"SELECT 'flux.mutations_' || {LAST}")
    await connection.execute(f"DROP TABLE {name}")
    assert await nodes.look_ahead(connection) >= 1
    assert await connection.fetchval("SELECT to_regclass($1) IS NOT NULL", name)
    assert await nodes.look_ahead(connection) == 0


async def test_a_node_is_heard_of_until_it_stops(connection: asyncpg.Connection) -> None:
    heart = nodes.Heart("n" * 32, 42)
    await heart.beat(connection)
    first = await connection.fetchrow("SELECT * FROM flux.nodes")
    await heart.beat(connection)
    again = await connection.fetchrow("SELECT * FROM flux.nodes")
    assert first["started_at"] == again["started_at"]
    assert first["heartbeat_at"] < again["heartbeat_at"]
    assert again["stopped_at"] is None
    await nodes.stopped(connection, "n" * 32)
    assert await connection.fetchval("SELECT stopped_at IS NOT NULL FROM flux.nodes")


async def test_a_node_whose_clock_is_wrong_says_by_how_much(connection: asyncpg.Connection) -> None:
    heart = nodes.Heart("n" * 32, 42, clock=lambda: time.time_ns() - 3600 * 10**9)
    await heart.beat(connection)
    assert await connection.fetchval("SELECT clock_offset_ms FROM flux.nodes") is None
    await heart.beat(connection)
    offset = await connection.fetchval("SELECT clock_offset_ms FROM flux.nodes")
    assert offset == pytest.approx(-3_600_000, abs=30_000)


def test_an_offset_is_measured_from_the_middle_of_the_exchange() -> None:
    there = datetime(2026, 1, 1, tzinfo=UTC)
    began = int(there.timestamp()) * 10**9
    assert nodes.offset_ms(began, there, began + 4_000_000) == pytest.approx(2.0, abs=1e-3)
