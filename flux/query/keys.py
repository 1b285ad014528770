"""The key of one row: what a person writes after `--id`, what a failing call names, what a mutation is filed
under.

A key is compared as Postgres compares it. Text is cast to the column's own type, and what that type's JSON
says is compared with what the capture wrote: digits are never read as a float, a number's scale makes no
difference, text that looks like a number stays text.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import AsyncIterator, Hashable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal

import asyncpg
from asyncpg import Connection

from flux.errors import UsageError
from flux.query.payload import exact, parse
from flux.query.queries import Q
from flux.query.rows import Table
from flux.shapes.record import Json
from flux.store.identifiers import quote

_NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][-+]?\d+)?")


@dataclass(frozen=True)
class Key:
    """A row's primary key.

    Attributes:
        text: `{column: value}` as jsonb reads it, every digit kept.
        shown: the same as a JSON value for people and programs.
        identity: equal where Postgres takes two keys for the same.
    """

    text: str = field(compare=False)
    shown: Json = field(compare=False)
    identity: Hashable

    @classmethod
    def of(cls, values: Mapping[str, Json]) -> Key:
        """A key of values that `payload.exact` read."""
        text = _dump(values)
        return cls(text, parse(text), _frozen(values))


@asynccontextmanager
async def canonical(
    connection: Connection[Any], *, isolation: Literal["read_committed", "repeatable_read"] | None = None
) -> AsyncIterator[None]:
    """A read-only transaction in which values are written as the capture writes them, whatever the session's
    time zone or output settings are.
    """
    async with connection.transaction(isolation=isolation, readonly=True):
        await connection.execute(Q.canonical)
        yield


async def read_key(connection: Connection[Any], table: Table, text: str) -> Key:
    """The key that a person wrote: `7` or `id=7` for one column; `order_id=7,line=2` or JSON for several.

    To be called inside `canonical`.

    Raises:
        UsageError: the table has no primary key, a column is missing or unknown, or a value is not of its
            type.
    """
    if not table.key:
        raise UsageError(
            f"`{table.shown}` has no primary key, so its rows can't be told apart.",
            f"See its changes: flux query \"select * from flux.mutations where table_name = '{table.name}'\"",
        )
    values = _as_object(table, text) or _split(table, text)
    if not table.exists:
        sample = table.sample or {}
        return Key.of({name: _like(sample.get(name), values[name]) for name in table.key})
    return await typed_key(connection, table, values)


async def typed_key(connection: Connection[Any], table: Table, values: Mapping[str, str]) -> Key:
    """The key whose columns Postgres reads from `values`. Where a row has it, it is written as in that row:
    types exist whose equal values look different.

    To be called inside `canonical`.

    Raises:
        UsageError: a value is not of its column's type.
    """
    given = [(f"${at}::text::{table.columns[name]}", name) for at, name in enumerate(table.key, 1)]
    casts = ", ".join(f"{_literal(name)}, to_jsonb({cast})" for cast, name in given)
    where = " AND ".join(f"t.{quote(name)} = {cast}" for cast, name in given)
    # A cast to varchar(3) or numeric(10,2) cuts what doesn't fit: another key, which was not asked for.
    whole = " AND ".join(
        f"{cast} = ${at}::text::{table.plain[name]}"
        for at, (cast, name) in enumerate(given, 1)
        if table.plain[name] != table.columns[name]
    )
    try:
        row = await connection.fetchrow(
            f"SELECT coalesce((SELECT {_key_of_row(table)} FROM {_source(table)} AS t WHERE {where}),"
            f" jsonb_build_object({casts}))::text AS key, {whole or 'true'} AS whole",
            *(values[name] for name in table.key),
        )
    except (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError) as error:
        raise UsageError(f"`{table.shown}`: {error}.", f"Its key is {describe_key(table)}.") from error
    assert row is not None
    if not row["whole"]:
        given_text = ", ".join(f"`{values[name]}`" for name in table.key)
        raise UsageError(
            f"`{table.shown}` can't hold {given_text} as its key.", f"Its key is {describe_key(table)}."
        )
    return _named(table, row["key"])


async def key_where(connection: Connection[Any], table: Table, values: Mapping[str, str]) -> Key | None:
    """The key of a row that holds `values` now; None where there is none, or a value or column doesn't fit
    the table.
    """
    if not table.exists or not table.key or any(name not in table.columns for name in values):
        return None
    where = " AND ".join(
        f"t.{quote(name)} = ${at}::text::{table.columns[name]}" for at, name in enumerate(values, 1)
    )
    try:
        text = await connection.fetchval(
            f"SELECT ({_key_of_row(table)})::text FROM {_source(table)} AS t WHERE {where} LIMIT 1",
            *values.values(),
        )
    except (asyncpg.DataError, asyncpg.UndefinedFunctionError):
        return None
    return None if text is None else _named(table, text)


async def current_row(connection: Connection[Any], table: Table, key: Key) -> dict[str, Json] | None:
    """The row as it stands in the user's table now, as the capture writes images; None where there is none.

    To be called inside `canonical`.
    """
    if not table.exists:
        return None
    columns = ", ".join(f"{quote(name)} {table.columns[name]}" for name in table.key)
    where = " AND ".join(f"t.{quote(name)} = k.{quote(name)}" for name in table.key)
    text = await connection.fetchval(
        f"SELECT to_jsonb(t.*)::text FROM jsonb_to_record($1::text::jsonb) AS k({columns})"
        f" JOIN {_source(table)} AS t ON {where}",
        key.text,
    )
    row = parse(text)
    return None if row is None else {name: row.get(name) for name in table.columns}


def as_text(value: Json) -> str | None:
    """A value of a call's arguments or rows as the text that Postgres reads; None where it has none."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float, Decimal)):
        return str(value)
    data = value.get("$bytea") if isinstance(value, dict) else None
    try:
        return None if not isinstance(data, str) else "\\x" + base64.b64decode(data, validate=True).hex()
    except ValueError:
        return None


def describe_key(table: Table) -> str:
    """`id (bigint)`: the key's columns and their types, for people."""
    return ", ".join(f"{name} ({table.columns[name]})" if table.exists else name for name in table.key)


def _named(table: Table, text: str) -> Key:
    """A key out of jsonb's text, its columns in the table's order."""
    values = exact(text)
    return Key.of({name: values[name] for name in table.key})


def _as_object(table: Table, text: str) -> dict[str, str] | None:
    """The values in `{"a": 7, "b": "x,y"}`, where that is what was written."""
    if len(table.key) < 2 or not text.lstrip().startswith("{"):
        return None
    try:
        values = exact(text)
    except ValueError:
        return None
    if not isinstance(values, dict) or set(values) != set(table.key):
        return None
    texts = {name: as_text(value) for name, value in values.items()}
    found = {name: value for name, value in texts.items() if value is not None}
    return found if len(found) == len(texts) else None


def _split(table: Table, text: str) -> dict[str, str]:
    names = "|".join(re.escape(name) for name in sorted(table.key, key=len, reverse=True))
    values: dict[str, str] = {}
    if re.match(rf"(?:{names})=", text):
        for part in re.split(rf",(?=(?:{names})=)", text):
            name, _, value = part.partition("=")
            if name in values:
                raise UsageError(
                    f"`{text}` gives {name} twice.",
                    f"Where a value itself holds `,{name}=`, write the key as JSON: --id '{_example(table)}'",
                )
            values[name] = value
    elif len(table.key) == 1:
        values = {table.key[0]: text}
    missing = [name for name in table.key if name not in values]
    if missing:
        raise UsageError(
            f"`{text}` is not a whole key of `{table.shown}`: {', '.join(missing)} is missing.",
            f"Write --id {','.join(f'{name}=...' for name in table.key)}",
        )
    return values


def _example(table: Table) -> str:
    return "{" + ", ".join(f'"{name}": "..."' for name in table.key) + "}"


def _like(sample: Json, text: str) -> Json:
    """`text` as the JSON kind of `sample`, where it can be."""
    if isinstance(sample, bool):
        return {"true": True, "t": True, "false": False, "f": False}.get(text.lower(), text)
    if isinstance(sample, Decimal) and _NUMBER.fullmatch(text):
        return Decimal(text)
    return text


def _key_of_row(table: Table) -> str:
    fields = ", ".join(f"{_literal(name)}, to_jsonb(t.{quote(name)})" for name in table.key)
    return f"jsonb_build_object({fields})"


def _source(table: Table) -> str:
    return f"{quote(table.schema)}.{quote(table.name)}"


def _literal(name: str) -> str:
    return "'" + name.replace("'", "''") + "'"


def _dump(value: Json) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(name)}: {_dump(item)}" for name, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_dump, value)) + "]"
    return str(value) if isinstance(value, Decimal) else json.dumps(value)


def _frozen(value: Json) -> Hashable:
    if isinstance(value, Mapping):
        return frozenset((name, _frozen(item)) for name, item in value.items())
    if isinstance(value, list):
        return tuple(map(_frozen, value))
    return ("bool", value) if isinstance(value, bool) else value
