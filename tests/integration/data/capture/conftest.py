"""A user's database with capture installed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import orjson
import pytest

from flux.data.install import install
from flux.store.roles import ensure_app_role
from tests.integration.data.capture.owner import Owner


@pytest.fixture
async def owner(database_url: str) -> AsyncIterator[Owner]:
    connection = await asyncpg.connect(database_url, server_settings={"TimeZone": "UTC"})
    found = Owner(connection)

    def hear(_connection: Any, message: Any) -> None:
        if message.message.startswith("flux:"):
            said = orjson.loads(message.message.removeprefix("flux:"))
            if "a" in said and "lo" not in said:  # one row that is said whole
                [row] = said["a"]
                said |= {"cut": 0, "lo": row[0], "hi": row[0]}
            found.messages.append(said)

    await ensure_app_role(connection, None)
    await install(connection)
    connection.add_log_listener(hear)
    yield found
    connection.remove_log_listener(hear)
    await connection.close()
