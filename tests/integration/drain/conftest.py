"""A connection to the fresh database, and a folder for spools."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from flux.drain.drain import Drain


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """Reads what was drained."""
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


@pytest.fixture
def spools(tmp_path: Path) -> Path:
    """The folder of all spools."""
    return tmp_path / "spool"


@pytest.fixture
async def drain(database_url: str, spools: Path) -> AsyncIterator[Drain]:
    """A drain of orphans."""
    drain = Drain({"dsn": database_url}, spools, own=None)
    yield drain
    await drain.close()
