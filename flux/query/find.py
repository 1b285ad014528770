"""Finds the execution that a person names: a request_id or a trace_id, whole or its first digits, or `last`.

Every command and API call that takes an id comes through `resolve`.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from asyncpg import Connection

from flux.errors import Ambiguous, NotFound, UsageError
from flux.query import silent
from flux.query.queries import Q
from flux.record.identity import member_of

SHORTEST_PREFIX = 4
LISTED = 10
"""Candidates that an ambiguous prefix names."""
PATIENCE = 0.5
"""Seconds within which an acknowledged execution has been drained, so how long a search waits before 'not
found'.
"""
TOGETHER = 2.0
"""Seconds more for an id of a request that may have been recorded together with others: they are those of
one second.
"""
LAG = 2.0
"""Seconds more that a search waits for what lies in the spools, before it says that there is nothing such.
All three together are less than Postgres has for a read over HTTP.
"""
INTERVAL = 0.025

_ID = re.compile(r"[0-9a-f]{4,32}")
_MEMBER = re.compile(r"[0-9a-f]{20}0{6}[0-9a-f]{6}")
_SEGMENT = re.compile(r"(\d+)\.seg")


@dataclass(frozen=True, slots=True)
class Found:
    """An execution's identity and the day whose partition holds its rows."""

    request_id: str
    day: date
    unrecorded: silent.Unrecorded | None = None
    """What is known of it without its record, where that lies in the spool of a silent node."""
    member: int | None = None
    """Which of the requests that it stands for was asked for, where it stands for several."""
    spans_alone: bool = False
    """There is no execution: `request_id` is the id of a trace whose spans came through an exporter."""


async def resolve(connection: Connection[Any], name: str, *, spool_dir: Path | None = None) -> Found:
    """The execution that `name` means.

    Waits half a second for a record that is still on its way from the spool, and some seconds more while the
    drain is behind.

    Args:
        name: 4 to 32 hex digits (a request_id, else a trace_id, or its beginning), or `last`.
        spool_dir: the project's spools, where this machine has them: what they hold is waited for.

    Raises:
        UsageError: `name` is none of these.
        NotFound: no execution has it.
        Ambiguous: a prefix names several.
    """
    wanted = name.strip().lower().replace("-", "")
    if wanted != "last" and not _ID.fullmatch(wanted):
        raise UsageError(
            f"`{name}` names no execution.",
            f"Give a request id or a trace id (or its first {SHORTEST_PREFIX} digits or more), or `last`.",
        )
    if wanted == "last" and spool_dir is not None:
        await _drained(connection, spool_dir, PATIENCE)
    waited = wanted == "last" or spool_dir is None
    loop = asyncio.get_running_loop()
    until = loop.time() + PATIENCE + (TOGETHER if _MEMBER.fullmatch(wanted) else 0)
    while True:
        found = await _latest(connection) if wanted == "last" else await _by_digits(connection, wanted)
        if found is not None:
            return found
        if loop.time() < until:
            await asyncio.sleep(INTERVAL)
        elif waited or spool_dir is None:
            break
        else:
            await _drained(connection, spool_dir, LAG)
            waited = True
    if wanted != "last":
        found = await _spans_alone(connection, wanted) or await _unrecorded(connection, wanted)
        if found is not None:
            return found
    if wanted == "last":
        raise NotFound(
            "Nothing has been recorded yet.", "Start the server with `flux dev` and send a request."
        )
    raise NotFound(
        f"No execution and no trace has an id that begins with `{wanted}`."
        if len(wanted) < 32
        else f"No execution and no trace is `{wanted}`.",
        "`flux tail` lists the latest ones.",
    )


async def _latest(connection: Connection[Any]) -> Found | None:
    row = await connection.fetchrow(Q.latest)
    return None if row is None else Found(row["request_id"], row["day"])


async def _by_digits(connection: Connection[Any], digits: str) -> Found | None:
    rows = await connection.fetch(Q.by_prefix, digits, _after(digits), LISTED + 1)
    if not rows:
        rows = await connection.fetch(Q.by_trace, digits, _after(digits), LISTED + 1)
    if not rows and len(digits) == 32:
        together, number = member_of(digits)
        row = await connection.fetchrow(Q.by_member, together, number)
        return None if row is None else Found(row["request_id"], row["day"], member=number)
    if not rows:
        return None
    if len(rows) > 1:
        many = f"more than {LISTED}" if len(rows) > LISTED else str(len(rows))
        raise Ambiguous(
            f"`{digits}` names {many} executions.",
            [describe(row) for row in sorted(rows[:LISTED], key=lambda row: row["started_at"])],
            "Give more digits.",
        )
    return Found(rows[0]["request_id"], rows[0]["day"])


async def _spans_alone(connection: Connection[Any], digits: str) -> Found | None:
    """A trace of which there are only spans.

    Raises:
        Ambiguous: there are several.
    """
    rows = await connection.fetch(Q.spans_alone, digits, _after(digits), LISTED + 1)
    if len(rows) > 1:
        raise Ambiguous(
            f"`{digits}` names several traces.",
            [
                f"{row['request_id'][:16]}  {row['started_at']:%Y-%m-%d %H:%M:%S}  {row['spans']} spans"
                for row in rows[:LISTED]
            ],
            "Give more digits.",
        )
    return Found(rows[0]["request_id"], rows[0]["day"], spans_alone=True) if rows else None


async def _unrecorded(connection: Connection[Any], digits: str) -> Found | None:
    """One that left its doings but no record: its node is silent.

    Raises:
        NotFound: its node lives, so it has not ended.
        Ambiguous: there are several.
    """
    rows = await silent.by_digits(connection, digits, _after(digits), LISTED + 1)
    if not rows:
        return None
    if len({row["request_id"] for row in rows}) > 1:
        raise Ambiguous(
            f"`{digits}` names several executions that have no record yet.",
            [f"{row['request_id'][:16]}  {row['at']:%Y-%m-%d %H:%M:%S}" for row in rows[:LISTED]],
            "Give more digits.",
        )
    row = rows[0]
    if not row["silent"]:
        raise NotFound(
            f"Execution `{row['request_id']}` has not ended: it runs on node {row['node']} ({row['host']}).",
            "Ask again when it has; its changes so far: flux query "
            f"\"select * from flux.mutations where request_id = '{row['request_id']}'\"",
        )
    return Found(row["request_id"], row["day"], row)


def describe(row: Mapping[str, Any]) -> str:
    """One line that tells an execution from its neighbours: id, time, what it was, how it ended."""
    what = row["function"] or f"{row['method'] or ''} {row['path'] or ''}".strip() or "-"
    ended = row["outcome"] if row["status"] is None else f"{row['status']} {row['outcome']}"
    return f"{row['request_id'][:16]}  {row['started_at']:%Y-%m-%d %H:%M:%S}  {what}  {ended}"


def _after(digits: str) -> str:
    """The first string, in the C collation, after every id that begins with `digits`."""
    return digits + "g"


async def _drained(connection: Connection[Any], spool_dir: Path, seconds: float) -> None:
    """Wait, at most so long, until what stands in the spools now has been stored."""
    ends = {spool.name: end for spool in _folders(spool_dir) if (end := _end(spool)) is not None}
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    while ends and loop.time() < until:
        for row in await connection.fetch(Q.drained, list(ends)):
            if (row["segment"], row["offset"]) >= ends[row["spool_id"]]:
                del ends[row["spool_id"]]
        if ends:
            await asyncio.sleep(INTERVAL)


def _folders(spool_dir: Path) -> list[Path]:
    try:
        return [folder for folder in spool_dir.iterdir() if folder.is_dir()]
    except OSError:
        return []


def _end(spool: Path) -> tuple[int, int] | None:
    """Segment and offset of the last byte, or None for a spool without any."""
    try:
        numbers = [int(match[1]) for entry in spool.iterdir() if (match := _SEGMENT.fullmatch(entry.name))]
        if not numbers:
            return None
        last = max(numbers)
        size = (
            next(e for e in spool.iterdir() if _SEGMENT.fullmatch(e.name) and int(e.stem) == last)
            .stat()
            .st_size
        )
    except (OSError, StopIteration):
        return None
    return (last, size) if size else None
