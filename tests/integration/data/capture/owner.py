"""The owner of a captured database, and its log played backward and forward. Used by the tests beside it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import orjson

REQUEST = "c0ffee00" * 4

Rows = dict[str, Counter[str]]


def canonical(image: Any) -> str:
    return orjson.dumps(image, option=orjson.OPT_SORT_KEYS).decode()


@dataclass
class Owner:
    """The owner's connection, what it was told (INFO), and readers of the log."""

    connection: asyncpg.Connection
    messages: list[dict[str, Any]] = field(default_factory=list)

    async def run(self, *statements: str) -> None:
        for statement in statements:
            await self.connection.execute(statement)

    async def context(self, request: str = REQUEST) -> None:
        await self.connection.execute(
            "SELECT set_config('flux.ctx', $1 || '|' || to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD'),"
            " false)",
            request,
        )

    async def log(self, where: str = "true") -> list[asyncpg.Record]:
        """Mutations by n, images parsed."""
        rows = await self.connection.fetch(f"SELECT * FROM flux.mutations WHERE {where} ORDER BY n")
        return [_Parsed(row) for row in rows]

    async def brief(self, where: str = "true") -> list[tuple[str, str, Any, Any]]:
        """(table, op, before, after) by n."""
        return [(m["table_name"], m["op"], m["before"], m["after"]) for m in await self.log(where)]

    async def state(self, tables: Sequence[str]) -> Rows:
        found: Rows = {}
        for table in tables:
            images = await self.connection.fetch(f"SELECT to_jsonb(r.*)::text AS image FROM {table} r")
            found[table] = Counter(canonical(orjson.loads(row["image"])) for row in images)
        return found

    async def epochs(self) -> list[tuple[str, str]]:
        rows = await self.connection.fetch("SELECT table_name, reason FROM flux.epochs ORDER BY id")
        return [(row["table_name"], row["reason"]) for row in rows]


class _Parsed(dict[str, Any]):
    def __init__(self, row: asyncpg.Record) -> None:
        super().__init__(row)
        for column in ("key", "before", "after"):
            self[column] = None if row[column] is None else orjson.loads(row[column])


def backward(state: Rows, log: Sequence[Any]) -> Rows:
    """Undo a log, newest first. Fails where an image to undo isn't there: the order is then wrong."""
    return _play(state, reversed(log), "after", "before")


def forward(state: Rows, log: Sequence[Any]) -> Rows:
    """Redo a log, oldest first."""
    return _play(state, log, "before", "after")


def _play(state: Rows, log: Any, gone: str, come: str) -> Rows:
    rows = {table: Counter(images) for table, images in state.items()}
    for mutation in log:
        table = rows[mutation["table_name"]]
        if mutation[gone] is not None:
            image = canonical(mutation[gone])
            assert table[image] > 0, (mutation["n"], mutation["table_name"], mutation["op"], gone, image)
            table[image] -= 1
        if mutation[come] is not None:
            table[canonical(mutation[come])] += 1
    return {table: +images for table, images in rows.items()}


def by_key(state: Rows, log: Sequence[Any], table: str, column: str) -> Counter[str]:
    """A table before a log, as as-of reads find it: of each key the image before its first change, of the
    others what is there. A change of the key itself touches two."""
    first: dict[str, Any] = {}
    for mutation in log:
        if mutation["table_name"] != table:
            continue
        before, after = mutation["before"], mutation["after"]
        old = None if before is None else str(before[column])
        new = None if after is None else str(after[column])
        if old is not None:
            first.setdefault(old, before)
        if new is not None and new != old:
            first.setdefault(new, None)
    untouched = [image for image in state[table].elements() if str(orjson.loads(image)[column]) not in first]
    return Counter([*untouched, *(canonical(image) for image in first.values() if image is not None)])
