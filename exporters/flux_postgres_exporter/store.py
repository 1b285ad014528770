"""Span rows into Postgres: partitions, resources, owners and COPY. Called by the exporter, and by Flux's
drain for its spans.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from pathlib import Path

import asyncpg

from flux_postgres_exporter import binary, copying, rows

log = logging.getLogger(__name__)

_HERE = Path(__file__).parent
SCHEMA = (_HERE / "schema.sql").read_text(encoding="utf-8")
_QUERIES = {
    name: body.strip().rstrip(";")
    for name, body in re.findall(
        r"^-- name: (\w+)\n(.*?)(?=^-- name: |\Z)", (_HERE / "queries.sql").read_text(), re.M | re.S
    )
}

Owner = tuple[str, date]
"""A request_id and its day."""

_REFUSED = (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError, asyncpg.ProgramLimitExceededError)
REFUSALS = (*_REFUSED, ValueError, TypeError, ArithmeticError, LookupError, AttributeError, RecursionError)
"""What a row that can't be stored raises, from the server, from asyncpg's encoding, or where the row is of
another shape than it should be; everything else is the connection's or the schema's fault.
"""


async def prepare(connection: asyncpg.Connection) -> bool:
    """Make the tables where there are none. A database that Flux has migrated is left as it is.

    Returns:
        Whether it holds executions, so is a Flux database.
    """
    if not await connection.fetchval(_QUERIES["prepared"]):
        async with connection.transaction():
            await connection.execute(_QUERIES["lock"])
            if not await connection.fetchval(_QUERIES["prepared"]):
                await connection.execute(SCHEMA)
    return bool(await connection.fetchval(_QUERIES["has_executions"]))


async def ensure_partitions(connection: asyncpg.Connection, days: Iterable[date]) -> None:
    """See that the partitions of these days exist, in ascending order so that two sessions can't deadlock."""
    for day in sorted(days):
        await connection.fetchval(_QUERIES["ensure_partitions"], day, day)


async def intern_resources(connection: asyncpg.Connection, resources: Mapping[str, str]) -> None:
    """Store resources, id -> canonical JSON, that the database lacks."""
    if resources:
        await connection.execute(_QUERIES["intern_resources"], list(resources), list(resources.values()))


async def owners(
    connection: asyncpg.Connection, spans: Sequence[rows.SpanRow], *, executions: bool = True
) -> list[Owner]:
    """To which execution each span belongs.

    A span takes the owner of its parent, whether that is among `spans` or in the database; one whose
    line ends in nothing known takes its trace_id, and the UTC day it starts on.

    Args:
        connection: to the database that they are going to be stored in.
        spans: as `rows.encode` made them.
        executions: whether that database holds executions (`prepare` says it).
    """
    here = {(row[rows.TRACE_ID], row[rows.SPAN_ID]): row for row in spans}
    wanted = {
        (row[rows.TRACE_ID], row[rows.PARENT])
        for row in spans
        if row[rows.PARENT] is not None and (row[rows.TRACE_ID], row[rows.PARENT]) not in here
    }
    known: dict[tuple[str, str], Owner] = {}
    if wanted:
        found = await connection.fetch(
            _QUERIES["owners" if executions else "owners_alone"],
            list({trace for trace, _ in wanted}),
            [span for _, span in wanted],
        )
        known = {(trace, span): (request, day) for trace, span, request, day in found}
    for row in spans:
        path = []
        at: rows.SpanRow | None = row
        owner: Owner | None = None
        while at is not None and owner is None:
            key = (at[rows.TRACE_ID], at[rows.SPAN_ID])
            if key in path:
                break
            path.append(key)
            parent = (at[rows.TRACE_ID], at[rows.PARENT])
            owner = known.get(key) or known.get(parent)
            last, at = at, here.get(parent)
        if owner is None:
            owner = (last[rows.TRACE_ID], rows.day_of(last[rows.START_NS]))
        for key in path:
            known[key] = owner
    return [known[(row[rows.TRACE_ID], row[rows.SPAN_ID])] for row in spans]


async def copy(connection: asyncpg.Connection, encoded: Iterable[bytes]) -> None:
    """COPY rows of `binary.row` into flux.spans. Raises what Postgres says; UniqueViolationError where one is
    there.
    """
    await _copy(connection, encoded, "spans", "flux")


async def copy_once(connection: asyncpg.Connection, encoded: Sequence[bytes]) -> None:
    """COPY rows of which some may be there already: those are left as they are."""
    try:
        async with connection.transaction():
            await copy(connection, encoded)
    except asyncpg.UniqueViolationError:
        async with connection.transaction():
            await connection.execute(_QUERIES["staging"])
            await _copy(connection, encoded, "flux_staged_spans", None)
            await connection.execute(_QUERIES["unstage"])


async def copy_each(
    connection: asyncpg.Connection, spans: Sequence[rows.SpanRow], owned: Sequence[Owner]
) -> None:
    """Store spans once, each under its owner. Where Postgres refuses one, halves until it is alone: then its
    JSON is left out, visibly. One that is refused even so is left out with a warning.
    """
    if not spans:
        return
    try:
        await copy_once(
            connection,
            [binary.row(span, binary.owner(*owner)) for span, owner in zip(spans, owned, strict=True)],
        )
    except REFUSALS as error:
        if len(spans) > 1:
            half = len(spans) // 2
            await copy_each(connection, spans[:half], owned[:half])
            await copy_each(connection, spans[half:], owned[half:])
        else:
            try:
                without = binary.row(binary.refused(spans[0], str(error)), binary.owner(*owned[0]))
                await copy_once(connection, [without])
            except REFUSALS as again:
                log.warning("A span was left out, Postgres refuses it even without its JSON: %s", again)


async def _copy(
    connection: asyncpg.Connection, encoded: Iterable[bytes], table: str, schema: str | None
) -> None:
    payload = binary.payload(encoded)
    await copying.copy_payload(connection, table, payload, schema=schema, columns=rows.COLUMNS)
