"""Who wrote the rows that a failure was about: the row that held the value first, the one that is gone, the
one that was read.

Only what can be determined is said: rows named by the constraint that a failing statement hit, rows whose
whole key a failing call's filters give, or, where the handler itself threw, the rows that its last read
returned.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

import asyncpg
from asyncpg import Connection

from flux.errors import FluxError
from flux.query import history
from flux.query.blame import blame
from flux.query.cause import Cause
from flux.query.encoding import to_json
from flux.query.keys import Key, as_text, canonical, key_where, typed_key
from flux.query.payload import exact
from flux.query.queries import Q
from flux.query.rows import Table, find_table
from flux.record import ops
from flux.shapes.debug import DebugStep
from flux.shapes.record import HostCall, Mutation, Trace
from flux.shapes.why import Writer

MOST_ROWS = 3
MOST = 12
TIMEOUT_MS = 1000
"""Looking for writers is an extra: it gives up after so long."""

_DETAIL = re.compile(
    r"Key \((?P<columns>.+?)\)=\((?P<values>.*)\) "
    r'(?:already exists|is not present in table "(?P<other>[^"]+)")'
)


async def load(connection: Connection[Any], cause: Cause) -> list[Writer]:
    """Who last wrote each column of the rows concerned.

    Returns an empty list where no row is named, or where finding out would take longer than a second.
    """
    try:
        async with canonical(connection):
            await connection.execute(f"SET LOCAL statement_timeout = {TIMEOUT_MS}")
            found: list[Writer] = []
            for table, key, columns in await _rows(connection, cause):
                found += await _writers(connection, table, key, columns, _moment(cause))
            return found[:MOST]
    except (FluxError, asyncpg.QueryCanceledError, asyncpg.InsufficientPrivilegeError):
        return []


async def of_step(connection: Connection[Any], step: DebugStep) -> list[Writer]:
    """Who had last written each column of the rows that a step changed or read, as of before it.

    Returns an empty list where no row is named, or where finding out would take longer than a second.
    """
    first: dict[tuple[str, str], Mutation] = {}
    for change in step.changes:
        if isinstance(change.key, dict) and change.before is not None:
            first.setdefault((change.table, to_json(change.key)), change)
    try:
        async with canonical(connection):
            await connection.execute(f"SET LOCAL statement_timeout = {TIMEOUT_MS}")
            found: list[Writer] = []
            for change in list(first.values())[:MOST_ROWS]:
                table = await find_table(connection, change.table)
                key = await _key_in(connection, table, change.before)
                if key is not None:
                    found += await _writers(connection, table, key, [], None, before=change.n)
            if not found and step.call is not None and _reads(step.call):
                for table, key, columns in await _read(connection, step.call):
                    until = datetime.fromisoformat(step.at)
                    found += await _writers(connection, table, key, columns, until)
            return found[: 2 * MOST]
    except (FluxError, asyncpg.QueryCanceledError, asyncpg.InsufficientPrivilegeError):
        return []


async def _rows(connection: Connection[Any], cause: Cause) -> list[tuple[Table, Key, list[str]]]:
    if cause.call is None or cause.call.error is None:
        return await _last_read(connection, cause.document)
    detail = cause.call.error.detail
    match = _DETAIL.match(detail.get("detail") or "")
    if match is not None and detail.get("table"):
        return await _named_by_constraint(connection, detail, match)
    arguments = cause.call.arguments
    if (
        cause.call.op == "db.query"
        and isinstance(arguments, dict)
        and isinstance(arguments.get("table"), str)
    ):
        table = await find_table(connection, arguments["table"])
        key = await _key_in(connection, table, arguments.get("filters"))
        return [(table, key, [])] if key is not None else []
    return []


async def _named_by_constraint(
    connection: Connection[Any], detail: dict[str, Any], match: re.Match[str]
) -> list[tuple[Table, Key, list[str]]]:
    """The row that already holds a unique value, or the one that a foreign key misses."""
    columns, texts = match["columns"].split(", "), match["values"].split(", ")
    if len(columns) != len(texts):
        return []
    schema = detail.get("schema") or "public"
    table = await find_table(connection, f"{schema}.{match['other'] or detail['table']}")
    if match["other"]:
        if len(columns) != len(table.key):
            return []
        columns = list(table.key)
    values = dict(zip(columns, texts, strict=True))
    key = await key_where(connection, table, values)
    if key is None and set(columns) == set(table.key):
        key = await typed_key(connection, table, values)
    if key is None and table.exists and all(name in table.columns for name in columns):
        key = await _remembered(connection, table, values)
    return [(table, key, columns)] if key is not None else []


async def _remembered(connection: Connection[Any], table: Table, values: dict[str, str]) -> Key | None:
    """The key of a row that held `values`, by the mutations: it may since have gone or changed."""
    pairs = ", ".join(
        f"${2 * at + 1}::text, to_jsonb(${2 * at + 2}::text::{table.columns[name]})"
        for at, name in enumerate(values)
    )
    flat = [part for pair in values.items() for part in pair]
    image = await connection.fetchval(f"SELECT jsonb_build_object({pairs})::text", *flat)
    text = await connection.fetchval(Q.row_by_columns, table.schema, table.name, image)
    return None if text is None else Key.of(exact(text))


async def _last_read(connection: Connection[Any], document: Trace) -> list[tuple[Table, Key, list[str]]]:
    """Rows that the last select before the throw returned, where they carry their whole key."""
    for call in reversed(document.host_calls):
        if _reads(call):
            return await _read(connection, call)
    return []


def _reads(call: HostCall) -> bool:
    """Whether a call is a select of one table."""
    asked = call.arguments
    return (
        call.op == ops.DB_QUERY
        and isinstance(asked, dict)
        and asked.get("operation", "select") == "select"
        and isinstance(asked.get("table"), str)
    )


async def _read(connection: Connection[Any], call: HostCall) -> list[tuple[Table, Key, list[str]]]:
    """The rows that a select returned; where it returned none, the one that it asked for."""
    table = await find_table(connection, call.arguments["table"])
    rows = call.result.get("rows") if isinstance(call.result, dict) else None
    keys = [await _key_in(connection, table, row) for row in (rows or [])[:MOST_ROWS]]
    if not rows:
        keys = [await _key_in(connection, table, call.arguments.get("filters"))]
    return [(table, key, []) for key in keys if key is not None]


async def _key_in(connection: Connection[Any], table: Table, values: Any) -> Key | None:
    """The table's whole key out of an object that names all its columns with plain values."""
    if not isinstance(values, dict) or not table.key or not table.exists:
        return None
    texts = {name: as_text(values.get(name)) for name in table.key}
    if any(text is None for text in texts.values()):
        return None
    return await typed_key(
        connection, table, {name: text for name, text in texts.items() if text is not None}
    )


async def _writers(
    connection: Connection[Any],
    table: Table,
    key: Key,
    columns: list[str],
    until: datetime | None,
    *,
    before: int | None = None,
) -> list[Writer]:
    """Who last wrote each of `columns` (all of them where empty), by `until` or before mutation `before`."""
    mutations = await history.load(connection, table, key)
    if before is not None:
        mutations = [m for m in mutations if m.n < before]
    if until is not None:
        mutations = [m for m in mutations if datetime.fromisoformat(m.at) <= until]
    committed = [m for m in mutations if not m.rolled_back]
    if not committed:
        return []
    state = committed[-1].after
    names = columns or [name for name in (state or committed[-1].before or {}) if name not in table.key]
    return [
        Writer(
            table=table.shown,
            key=key.shown,
            column=column,
            value=entry.value,
            request_id=entry.request_id,
            at=entry.at,
            op=entry.op,
            actor=entry.actor,
        )
        for column, entry in blame(mutations, names, state).items()
        if entry.at is not None
    ]


def _moment(cause: Cause) -> datetime | None:
    return None if cause.call is None else datetime.fromisoformat(cause.call.at)
