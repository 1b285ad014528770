"""Everything that was done to one row, oldest first, across changes of its primary key. Behind `state
history` and blame.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from asyncpg import Connection, Record

from flux.query import from_rows
from flux.query.keys import Key
from flux.query.payload import exact
from flux.query.queries import Q
from flux.query.rows import Table
from flux.shapes.record import Mutation

MOST_KEYS = 64
"""Primary keys that one row's history follows."""


@dataclass
class _Stretch:
    """The part of a key's mutations, by order number, that belong to the row asked about."""

    first: float = float("-inf")
    last: float = float("inf")

    def holds(self, n: int) -> bool:
        return self.first <= n <= self.last


async def load(connection: Connection[Any], table: Table, key: Key) -> list[Mutation]:
    """All mutations of the row that has, or had, `key`; rolled-back attempts among them, marked.

    Where an update changed the primary key, the row's life under its earlier key (until then) and under its
    later key (from then on) belong to it too.
    """
    stretches = {key: _Stretch()}
    asked: set[Key] = set()
    rows: dict[tuple[str, int], Record] = {}
    while (new := [each for each in stretches if each not in asked]) and len(asked) < MOST_KEYS:
        asked.update(new)
        where = (table.schema, table.name, [each.text for each in new], list(table.key))
        found = await connection.fetch(Q.mutations_of_keys, *where)
        found += await connection.fetch(Q.moves_of_keys, *where)
        for row in found:
            rows[row["request_id"], row["n"]] = row
        _follow(rows, stretches)
    kept = [row for row in rows.values() if _belongs(row, stretches)]
    kept.sort(key=lambda row: row["n"])
    return [from_rows.mutation(row, span_id=row["span_id"], seq=row["seq"]) for row in kept]


def select(
    mutations: list[Mutation],
    *,
    column: str | None = None,
    since: datetime | None = None,
    limit: int | None = None,
) -> list[Mutation]:
    """Of a history, what concerns `column`, happened at or after `since`, and at most the newest `limit`;
    oldest first.
    """
    if column is not None:
        mutations = [m for m in mutations if column in m.changed or m.op == "TRUNCATE"]
    if since is not None:
        mutations = [m for m in mutations if datetime.fromisoformat(m.at) >= since]
    return mutations[-limit:] if limit is not None and limit > 0 else mutations


def _follow(rows: dict[tuple[str, int], Record], stretches: dict[Key, _Stretch]) -> None:
    """Widen `stretches` by each committed move that begins or ends in one, until nothing changes."""
    moves = []
    for row in rows.values():
        if row["op"] == "UPDATE" and not row["rolled_back"]:
            old, new = _keys(row)
            if old is not None and new is not None and old != new:
                moves.append((row["n"], old, new))
    moves.sort(key=lambda move: move[0])
    grew = True
    while grew:
        grew = False
        for n, old, new in moves:
            source, target = stretches.get(old), stretches.get(new)
            if target is not None and target.holds(n):
                grew |= _widen(stretches, old, last=n)
            if source is not None and source.holds(n):
                grew |= _widen(stretches, new, first=n)


def _widen(
    stretches: dict[Key, _Stretch], key: Key, first: float = float("-inf"), last: float = float("inf")
) -> bool:
    known = stretches.get(key)
    if known is None:
        stretches[key] = _Stretch(first, last)
        return True
    if known.first <= first and known.last >= last:
        return False
    known.first, known.last = min(known.first, first), max(known.last, last)
    return True


def _belongs(row: Record, stretches: dict[Key, _Stretch]) -> bool:
    for key in _keys(row):
        stretch = stretches.get(key) if key is not None else None
        if stretch is not None and stretch.holds(row["n"]):
            return True
    return False


def _keys(row: Record) -> tuple[Key | None, Key | None]:
    """The row's key before and after the mutation, by its images."""
    if row["old_key"] is None and row["new_key"] is None:
        filed = Key.of(exact(row["key"]))
        return filed, filed
    before, after = (
        None if text is None else Key.of(exact(text)) for text in (row["old_key"], row["new_key"])
    )
    return before, after
