"""Every kind of connection to a Postgres elsewhere has its socket watched over, under both event loops."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

import asyncpg
import pytest
import uvloop

from flux.config import Config
from flux.data import install
from flux.data.database import UserDatabase
from flux.store.database import Store
from flux.store.keepalive import IDLE, INTERVAL, PROBES, UNACKNOWLEDGED
from tests.line import Line


def watch(connection: Any) -> list[int]:
    """What its socket is set to."""
    given = connection._transport.get_extra_info("socket")
    with socket.socket(fileno=os.dup(given.fileno())) as own:
        names = ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT", "TCP_USER_TIMEOUT")
        tcp = [own.getsockopt(socket.IPPROTO_TCP, getattr(socket, name)) for name in names]
        return [own.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE), *tcp]


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_a_vanished_host_is_noticed_on_every_connection(
    store_config: Config, run: Callable[[Coroutine[Any, Any, None]], None]
) -> None:
    wanted = [1, IDLE, INTERVAL, PROBES, UNACKNOWLEDGED]
    assert IDLE + INTERVAL * PROBES <= 60

    async def main() -> None:
        assert store_config.database_url is not None
        async with Line(store_config.database_url).laid() as line:
            config = replace(store_config, database_url=line.url)
            async with await Store.open(config, application_name="st_test") as store:
                async with store.internal() as connection:
                    assert watch(connection) == wanted
                    await install.install(connection)
                single = await asyncpg.connect(**store.connect_args)  # as drain, ticks and listeners do
                assert watch(single) == wanted
                await single.close()
                database = await UserDatabase.open(store, size=1, pooler="session", program="test")
                functions = await database.pool.acquire(None)
                assert watch(functions) == wanted
                database.pool.release(functions)
                await database.close()

    run(main())
