"""A user's table, as `state` commands are asked about it."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from asyncpg import Connection

from flux.errors import NotFound
from flux.query.payload import exact
from flux.query.queries import Q


@dataclass(frozen=True)
class Table:
    """A table as it is now, or, where it is gone, as its mutations remember it.

    Attributes:
        columns: name -> SQL type, in order; empty where the table is gone.
        plain: the same without length, precision and scale.
        key: names of the primary key's columns, in its order.
        sample: a recorded key, as `payload.exact` reads it, where the table is gone.
    """

    schema: str
    name: str
    columns: Mapping[str, str]
    plain: Mapping[str, str]
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
        plain = {row["name"]: row["plain_type"] for row in rows}
        return Table(schema, table, columns, plain, tuple(column for _, column in keyed))
    recorded = await connection.fetchval(Q.recorded_key, schema, table)
    if recorded is not None:
        sample = exact(recorded)
        return Table(schema, table, {}, {}, tuple(sample), sample)
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
