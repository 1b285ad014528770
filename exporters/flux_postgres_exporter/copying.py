"""COPY that ends when its connection does. Called by `store`, and by Flux's drain.

asyncpg lets a COPY wait until the socket takes more, and wakes it neither when the connection is lost
meanwhile nor when the command's time is over: nothing else would ever end it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable, Sequence
from contextlib import suppress
from typing import Any, cast

import asyncpg

PATIENCE = 120.0
"""Seconds without an end after which a statement's connection is given up. One that waits for a lock for
longer is begun again: nothing of it is stored.
"""


async def copy_records(
    connection: asyncpg.Connection,
    table: str,
    records: Iterable[Sequence[Any]],
    *,
    schema: str,
    columns: Sequence[str],
) -> None:
    """COPY tuples.

    Raises:
        asyncpg.ConnectionDoesNotExistError: the connection was lost, or is given up.
        asyncpg.PostgresError: what Postgres says.
    """
    await _lasting(
        connection,
        connection.copy_records_to_table(
            table, schema_name=schema, columns=columns, records=records, timeout=2 * PATIENCE
        ),
    )


async def copy_payload(
    connection: asyncpg.Connection, table: str, payload: bytes, *, schema: str | None, columns: Sequence[str]
) -> None:
    """COPY what is in COPY's binary format already. Raises what `copy_records` does."""
    await _lasting(
        connection,
        connection.copy_to_table(
            table,
            schema_name=schema,
            columns=columns,
            source=cast(Any, memoryview(payload)),  # any buffer, whatever its types say
            format="binary",
            timeout=2 * PATIENCE,
        ),
    )


async def _lasting(connection: asyncpg.Connection, copy: Coroutine[Any, Any, str]) -> None:
    """Await `copy` for as long as the connection lives, and at most PATIENCE."""
    limit = asyncio.timeout(PATIENCE)

    def lost(_: object) -> None:
        with suppress(RuntimeError):  # it has ended by itself
            limit.reschedule(0)

    connection.add_termination_listener(lost)
    try:
        async with limit:
            await copy
    except Exception as error:
        if not limit.expired():
            raise
        reason = "was lost" if connection.is_closed() else "is given up: Postgres does not answer"
        connection.terminate()
        raise asyncpg.ConnectionDoesNotExistError(f"the connection {reason} (in a COPY)") from error
    finally:
        connection.remove_termination_listener(lost)
