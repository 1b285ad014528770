"""Executions whose record lies in the spool of a silent node: what Postgres can tell of them meanwhile.

They are shown as `interrupted`, made of the rows they changed and the jobs they pushed. Nothing of this is
stored, so the record takes its place as soon as it is drained. Used by `find`, `trace` and `tail`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from asyncpg import Connection, Record

from flux.query.parts import Columns, empty
from flux.query.queries import Q

SILENT = 10.0
"""Seconds without a heartbeat (there is one every 2 s) after which a node counts as silent."""

Unrecorded = Mapping[str, Any] | Record
"""A row of the queries in silent.sql."""


async def by_digits(connection: Connection[Any], first: str, after: str, most: int) -> list[Record]:
    """Unrecorded executions whose id lies between two strings, those of nodes that live among them."""
    found: list[Record] = await connection.fetch(Q.unrecorded, first, after, most, SILENT)
    return found


async def nodes(connection: Connection[Any], since: datetime | None = None) -> list[str]:
    """Silent nodes that have something undrained, heard of after `since`. Mostly there are none."""
    return [row["id"] for row in await connection.fetch(Q.silent_nodes, SILENT, since)]


async def of(
    connection: Connection[Any], silent: list[str], since: datetime | None, limit: int
) -> list[Columns]:
    """The newest unrecorded executions of silent nodes, as rows of flux.executions."""
    if not silent:
        return []
    return [execution(row) for row in await connection.fetch(Q.unrecorded_of, silent, since, limit)]


def execution(row: Unrecorded) -> Columns:
    """An unrecorded execution as a row of flux.executions: null where nothing is known."""
    return empty("execution") | {
        "request_id": row["request_id"],
        "day": row["day"],
        "node": row["node"],
        "outcome": "interrupted",
        "count": 1,
        "started_at": row["at"],
        "error": json.dumps({"type": "NodeSilent", "message": describe(row)}),
        "warnings": json.dumps(
            ["Only what had reached Postgres is shown: rows changed, jobs pushed. It began before the first."]
        ),
    }


def describe(row: Unrecorded) -> str:
    """Why there is no record, and what brings it."""
    where = f"node {row['node']} on {row['host']}"
    if row["drained"]:
        return f"The spool of {where} has been drained and holds no record of it; see flux.quarantine."
    if row["stopped_at"] is not None:
        what = f"has ended ({row['stopped_at']:%Y-%m-%d %H:%M:%S} UTC)"
    else:
        what = f"has been silent since {row['heartbeat_at']:%Y-%m-%d %H:%M:%S} UTC"
    return (
        f"The {where} {what} and its spool is not drained: how this execution ended is not known yet. "
        f"Any Flux process or command in the project whose .flux/spool holds {row['node']} drains it."
    )
