"""What a node does for the database while it serves."""

from __future__ import annotations

from collections.abc import AsyncIterator

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
    await nodes.beat(connection, "n" * 32, 42)
    first = await connection.fetchrow("SELECT * FROM flux.nodes")
    await nodes.beat(connection, "n" * 32, 42)
    again = await connection.fetchrow("SELECT * FROM flux.nodes")
    assert first["started_at"] == again["started_at"]
    assert first["heartbeat_at"] < again["heartbeat_at"]
    assert again["stopped_at"] is None
    await nodes.stopped(connection, "n" * 32)
    assert await connection.fetchval("SELECT stopped_at IS NOT NULL FROM flux.nodes")
