"""A database to write records into, and a Reader on it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest

from flux.query.reader import Reader
from tests.integration.query.recorded import OneConnection, Record


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator[Any]:
    opened = await asyncpg.connect(database_url)
    today = datetime.now(UTC).date()
    await opened.execute("SELECT flux.ensure_partitions($1::date - 1, $1::date)", today)
    yield opened
    await opened.close()


@pytest.fixture
def record(connection: Any) -> Record:
    return Record(connection)


@pytest.fixture
def reader(connection: Any) -> Reader:
    return Reader(OneConnection(connection))


@pytest.fixture
async def other(database_url: str, connection: Any) -> AsyncIterator[Record]:
    """Writes through a connection of its own, while the reader's is in use."""
    opened = await asyncpg.connect(database_url)
    yield Record(opened)
    await opened.close()
