"""Two cohorts of executions out of a window, and what separates them."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from asyncpg import Connection

from flux.compare.cohorts import separate
from flux.errors import NotFound
from flux.expression import Expression
from flux.query import tail, trace
from flux.query.find import Found
from flux.shapes.diff import Cohorts
from flux.shapes.record import Trace

MOST: Final = 500
"""Executions that are read, the newest first."""


async def load(
    connection: Connection[Any],
    *,
    bad: Expression | None,
    good: Expression | None,
    function: str | None,
    since: datetime | None,
    limit: int = MOST,
) -> Cohorts:
    """What separates the executions of which `bad` holds from those of which `good` does. Without one of the
    two, it is the rest. An execution of which both hold is bad.

    Raises:
        NotFound: one of the cohorts is empty.
    """
    rows = await tail.latest(connection, tail.Filter(function), limit, since)
    failing: list[Trace] = []
    passing: list[Trace] = []
    for row in rows:
        document = await trace.load(connection, Found(row["request_id"], row["day"]))
        if bad.holds(document) if bad is not None else good is not None and not good.holds(document):
            failing.append(document)
        elif good is None or good.holds(document):
            passing.append(document)
    if not failing or not passing:
        which = "bad" if not failing else "good"
        raise NotFound(
            f"None of the {len(rows)} executions looked at is {which}.",
            "Widen the window (--since, --limit), or the expression.",
        )
    return separate(failing, passing)
