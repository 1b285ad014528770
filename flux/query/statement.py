"""A person's own SELECT over the record: read-only, bounded in time and rows, its values safe for JSON.
Behind `flux query`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import asyncpg
from asyncpg import Connection

from flux.errors import FluxError, UsageError
from flux.query.payload import parse, printable

ROWS = 10_000
"""Most rows that one query returns."""
TIMEOUT_MS = 30_000

_JSON = {"json", "jsonb"}
_MOMENT = re.compile(r"\d{4,6}-\d\d-\d\d \d\d:")
_DECIMAL = {"int8", "numeric"}
_AS_TEXT = ("interval",)
_TIMES = ("timestamptz", "timestamp", "date", "time", "timetz")


class QueryError(FluxError):
    """Postgres refused the SQL, or it took too long."""


@dataclass(frozen=True, slots=True)
class Result:
    """What a query returned. `more` is True where it had further rows than were asked for."""

    columns: tuple[str, ...]
    types: tuple[str, ...]
    rows: list[dict[str, Any]]
    more: bool


async def run(
    connection: Connection[Any],
    text: str,
    *,
    limit: int = ROWS,
    timeout_ms: int = TIMEOUT_MS,
) -> Result:
    """Run one statement in a read-only transaction, as a role that may only read where the owner can become
    one.

    Args:
        text: one SQL statement.
        limit: most rows to return.
        timeout_ms: the statement is cancelled after so long.

    Raises:
        UsageError: no statement, or several.
        QueryError: Postgres' own message, with its hint.
    """
    if not text.strip().rstrip(";").strip():
        raise UsageError(
            "There is no SQL to run.",
            'flux query "select function, count(*) from flux.executions group by 1"',
        )
    try:
        async with connection.transaction(readonly=True):
            await connection.execute(f"SET LOCAL statement_timeout = {int(timeout_ms)}")
            if await connection.fetchval("SELECT rolsuper FROM pg_roles WHERE rolname = current_user"):
                # A superuser's COPY reaches programs and files even in a read-only transaction.
                await connection.execute("SET LOCAL ROLE pg_read_all_data")
            try:
                attributes, records = await _fetch(connection, text, limit + 1, _AS_TEXT)
            except (OverflowError, ValueError):
                # A time that Python has none for: the year 20000, 24:00, BC.
                attributes, records = await _fetch(connection, text, limit + 1, _AS_TEXT + _TIMES)
    except asyncpg.QueryCanceledError as error:
        raise QueryError(f"The query took longer than {timeout_ms / 1000:g} s and was cancelled.") from error
    except asyncpg.PostgresError as error:
        raise _refused(error) from error
    except asyncpg.InterfaceError as error:
        raise QueryError(str(error)) from error
    columns = _unique([attribute.name for attribute in attributes])
    types = tuple(attribute.type.name for attribute in attributes)
    rows = [
        {name: _value(value, kind) for name, kind, value in zip(columns, types, record.values(), strict=True)}
        for record in records[:limit]
    ]
    return Result(columns, types, rows, len(records) > limit)


async def _fetch(
    connection: Connection[Any], text: str, most: int, as_text: Sequence[str]
) -> tuple[Sequence[Any], list[asyncpg.Record]]:
    """The columns and the first rows; values of these types as Postgres' text."""
    for name in as_text:
        await connection.set_type_codec(name, schema="pg_catalog", encoder=str, decoder=_told, format="text")
    try:
        statement = await connection.prepare(text)
        cursor = await statement.cursor()
        return statement.get_attributes(), await cursor.fetch(most)
    finally:
        for name in as_text:
            await connection.reset_type_codec(name, schema="pg_catalog")


def _told(text: str) -> Any:
    """A moment in RFC 3339 where it can be; what else Postgres has as it writes it."""
    if not _MOMENT.match(text):
        return text
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return text.replace(" ", "T", 1)


def _value(value: Any, kind: str) -> Any:
    if value is None:
        return None
    if kind in _JSON:
        return parse(value) if isinstance(value, str) else printable(value)
    if kind in _DECIMAL:
        return (
            printable(value)
            if isinstance(value, str)
            else str(value)
            if isinstance(value, int)
            else format(value, "f")
        )
    if kind.endswith("[]") and kind[:-2] in _DECIMAL:
        return [_value(item, kind[:-2]) for item in value]
    return printable(value)


def _unique(names: list[str]) -> tuple[str, ...]:
    """Column names made distinct, so that a row object holds every column: `id, id` becomes `id, id_2`."""
    found: list[str] = []
    for name in names:
        candidate, number = name, 1
        while candidate in found:
            number += 1
            candidate = f"{name}_{number}"
        found.append(candidate)
    return tuple(found)


def _refused(error: asyncpg.PostgresError) -> FluxError:
    message = str(error).splitlines()[0] if str(error) else type(error).__name__
    hint = getattr(error, "hint", None)
    if getattr(error, "sqlstate", "") == "42601" and "multiple commands" in message:
        return UsageError("Only one statement can be run at a time.", "Leave out the second one.")
    if isinstance(error, asyncpg.ReadOnlySQLTransactionError):
        return QueryError(f"{message}: `flux query` only reads.", "Write with psql; Flux records that too.")
    return QueryError(message, hint)
