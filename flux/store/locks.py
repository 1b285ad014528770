"""What one process at a time may do to a database: migrate it, put up capture, apply schema files.

Each such transaction holds a table of Flux's, which no SQL of a function can lock. It never waits long
in one go, since whoever comes behind would wait for what it waits for; it says what is in the way, and
gives up in the end. Used by flux.store.migrate, flux.data.install and flux.data.schema_files.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from flux.errors import StoreError
from flux.store.sql import Queries

PATIENCE = 60.0
"""Seconds after which a transaction that can't have its locks is given up."""
_WAIT_MS = 1000
_PAUSE = 0.2
_Q = Queries("flux.store")
_log = logging.getLogger(__name__)
_T = TypeVar("_T")

Connection = asyncpg.Connection | PoolConnectionProxy


async def alone(
    connection: Connection,
    table: str,
    doing: str,
    work: Callable[[], Awaitable[_T]],
    *,
    patience: float = PATIENCE,
) -> _T:
    """Do `work` in a transaction that no other process does the same in; again from its beginning where
    a lock was not to be had.

    Args:
        connection: of the owner, in no transaction; `work` uses it.
        table: in the schema `flux`, which stands for what is done.
        doing: what is done, for people: `applying schema files`.
        work: may be called several times; all that it did before was rolled back.
        patience: seconds to try.

    Returns:
        What `work` returned.

    Raises:
        StoreError: a lock was not to be had: who holds it, since when, and how to end that.
        asyncpg.PostgresError: what `work` raised.
    """
    loop = asyncio.get_running_loop()
    until = loop.time() + patience
    told = ""
    while True:
        try:
            async with connection.transaction():
                await connection.execute(f"SET LOCAL lock_timeout = {_WAIT_MS}")
                await connection.execute(f"LOCK TABLE flux.{table} IN SHARE ROW EXCLUSIVE MODE")
                return await work()
        except asyncpg.LockNotAvailableError as error:
            way = await in_the_way(connection)
            what = "; ".join(way) or "another session, which has gone meanwhile"
            if loop.time() >= until:
                hint = "End it: SELECT pg_terminate_backend(PID); or wait for it, and try again."
                raise StoreError(
                    f"Flux gave up {doing} after {patience:g} s: it waited for {what}.", hint
                ) from error
            if what != told:
                _log.warning("%s waits for %s", doing, what)
                told = what
            await asyncio.sleep(_PAUSE)


async def in_the_way(connection: Connection, *, older_than: float = 0.0) -> list[str]:
    """Who holds locks on tables or waits with Flux's own in this database, the longest transaction
    first: a few lines for people, of other sessions."""
    return [row["told"] for row in await connection.fetch(_Q.holders, older_than)]
