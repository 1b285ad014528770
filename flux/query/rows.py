"""A user's table and the key of one row in it: what `state` commands are asked about, and what a failing call
names.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import asyncpg
from asyncpg import Connection

from flux.errors import NotFound, UsageError
from flux.query.payload import parse
from flux.query.queries import Q
from flux.store.identifiers import quote


@dataclass(frozen=True)
class Table:
    """A table as it is now, or, where it is gone, as its mutations remember it.

    Attributes:
        columns: name -> SQL type, in order; empty where the table is gone.
        key: names of the primary key's columns, in its order.
        sample: a recorded key, where the table is gone.
    """

    schema: str
    name: str
    columns: Mapping[str, str]
    key: tuple[str, ...]
    sample: Mapping[str, Any] | None = None

    @property
    def shown(self) -> str:
        """The name as people write it: without `public.`."""
        return self.name if self.schema == "public" else f"{self.schema}.{self.name}"

    @property
    def exists(self) -> bool:
        """Whether the table is there now."""
        return bool(self.columns)


Key = dict[str, Any]


async def find_table(connection: Connection[Any], name: str) -> Table:
    """The table called `name` (`table` or `schema.table`).

    Raises:
        NotFound: there is none, and no mutation of one is recorded.
    """
    schema, dot, table = name.partition(".")
    if not dot:
        schema, table = "public", name
    rows = await connection.fetch(Q.table_columns, schema, table)
    if rows:
        keyed = sorted((row["key_position"], row["name"]) for row in rows if row["key_position"] is not None)
        columns = {row["name"]: row["type"] for row in rows}
        return Table(schema, table, columns, tuple(column for _, column in keyed))
    sample = parse(await connection.fetchval(Q.recorded_key, schema, table))
    if isinstance(sample, dict):
        return Table(schema, table, {}, tuple(sample), sample)
    known = [row["name"] for row in await connection.fetch(Q.tables)]
    close = difflib.get_close_matches(name, known, n=1)
    raise NotFound(
        f"There is no table `{name}`.",
        f"Did you mean `{close[0]}`?"
        if close
        else f"Tables: {', '.join(known[:12])}."
        if known
        else "There are no tables yet.",
    )


async def read_key(connection: Connection[Any], table: Table, text: str) -> Key:
    """The key that a person wrote: `7` for a key of one column, `order_id=7,line=2` for any.

    Raises:
        UsageError: the table has no primary key, a column is missing or unknown, or a value is not of its
        type.
    """
    if not table.key:
        raise UsageError(
            f"`{table.shown}` has no primary key, so its rows can't be told apart.",
            f"See its changes: flux query \"select * from flux.mutations where table_name = '{table.name}'\"",
        )
    values = _split(table, text)
    if not table.exists:
        return {name: _like((table.sample or {}).get(name), values[name]) for name in table.key}
    return await typed_key(connection, table, values)


async def typed_key(connection: Connection[Any], table: Table, values: Mapping[str, str]) -> Key:
    """`values` (text, as Postgres reads it) of the key's columns as the JSON that a mutation's `key`
    holds.
    """
    casts = ", ".join(
        f"{_literal_name(name)}, to_jsonb(${at}::text::{table.columns[name]})"
        for at, name in enumerate(table.key, 1)
    )
    try:
        text = await connection.fetchval(
            f"SELECT jsonb_build_object({casts})::text", *(values[name] for name in table.key)
        )
    except asyncpg.DataError as error:
        raise UsageError(f"`{table.shown}`: {error}.", f"Its key is {describe_key(table)}.") from error
    key = parse(text)
    return {name: key[name] for name in table.key}


async def key_where(connection: Connection[Any], table: Table, values: Mapping[str, str]) -> Key | None:
    """The key of a row that holds `values` now; None where there is none, or a value or column doesn't fit
    the table.
    """
    if not table.exists or not table.key or any(name not in table.columns for name in values):
        return None
    where = " AND ".join(
        f"t.{quote(name)} = ${at}::text::{table.columns[name]}" for at, name in enumerate(values, 1)
    )
    fields = ", ".join(f"{_literal_name(name)}, to_jsonb(t.{quote(name)})" for name in table.key)
    source = f"{quote(table.schema)}.{quote(table.name)}"
    try:
        text = await connection.fetchval(
            f"SELECT jsonb_build_object({fields})::text FROM {source} AS t WHERE {where} LIMIT 1",
            *values.values(),
        )
    except (asyncpg.DataError, asyncpg.UndefinedFunctionError):
        return None
    key = parse(text)
    return None if key is None else {name: key[name] for name in table.key}


async def current_row(connection: Connection[Any], table: Table, key: Key) -> dict[str, Any] | None:
    """The row as it stands in the user's table now, as the capture writes images; None where there is
    none.
    """
    if not table.exists:
        return None
    where = " AND ".join(
        f"t.{quote(name)} = ${at}::text::{table.columns[name]}" for at, name in enumerate(table.key, 1)
    )
    source = f"{quote(table.schema)}.{quote(table.name)}"
    text = await connection.fetchval(
        f"SELECT to_jsonb(t.*)::text FROM {source} AS t WHERE {where}",
        *(as_text(key[name]) for name in table.key),
    )
    row = parse(text)
    return None if row is None else {name: row.get(name) for name in table.columns}


def as_text(value: Any) -> str | None:
    """A JSON value of a key as the text that Postgres reads back."""
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value)


def describe_key(table: Table) -> str:
    """`id (bigint)`: the key's columns and their types, for people."""
    return ", ".join(f"{name} ({table.columns[name]})" if table.exists else name for name in table.key)


def _split(table: Table, text: str) -> dict[str, str]:
    names = "|".join(re.escape(name) for name in table.key)
    if re.match(rf"(?:{names})=", text):
        parts = re.split(rf",(?=(?:{names})=)", text)
        values = dict(part.split("=", 1) for part in parts)
    elif len(table.key) == 1:
        values = {table.key[0]: text}
    else:
        values = {}
    missing = [name for name in table.key if name not in values]
    if missing:
        example = ",".join(f"{name}=..." for name in table.key)
        raise UsageError(
            f"`{text}` is not a whole key of `{table.shown}`: {', '.join(missing)} is missing.",
            f"Write --id {example}",
        )
    return values


def _like(sample: Any, text: str) -> Any:
    """`text` as the JSON kind of `sample`, where it can be."""
    if isinstance(sample, str) or sample is None:
        return text
    try:
        return json.loads(text)
    except ValueError:
        return text


def _literal_name(name: str) -> str:
    return "'" + name.replace("'", "''") + "'"
