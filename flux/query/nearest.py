"""The success that is nearest to a failure: what differs between those two explains most.

Nearest is the one whose input differs in the fewest places; among those alike, one of the same code, then the
one closest in time. Among the successes before and after it, LOOKED_AT of each are weighed.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import islice
from typing import Any, Final

from asyncpg import Connection, Record

from flux.compare.values import places
from flux.query import trace
from flux.query.find import Found
from flux.query.payload import parse, present
from flux.query.queries import Q
from flux.shapes.record import Json, Trace

LOOKED_AT: Final = 40
MOST_PLACES: Final = 50
"""Differences between two inputs that are counted; more are all as far."""


async def successes(connection: Connection[Any], document: Trace, count: int) -> list[Trace]:
    """The nearest successes of the same function, the nearest first; fewer than `count` where there are no
    more.

    Args:
        document: an execution of a function.
        count: how many.
    """
    rows = await connection.fetch(
        Q.successes_around,
        document.function,
        datetime.fromisoformat(document.started_at),
        document.request_id,
        LOOKED_AT,
    )
    ranked = sorted(rows, key=lambda row: _distance(row, document))
    return [
        await trace.load(connection, Found(row["request_id"], row["day"])) for row in islice(ranked, count)
    ]


def _distance(row: Record, document: Trace) -> tuple[int, bool, bool, timedelta]:
    began = datetime.fromisoformat(document.started_at)
    asked = sum(1 for _ in islice(places(_asked(row), _input(document)), MOST_PLACES))
    away = abs(row["started_at"] - began)
    return asked, row["deployment"] != document.deployment, row["started_at"] > began, away


def _asked(row: Record) -> Json:
    body = row["input"] if row["input"] is not None else row["body"]
    return [present(body), parse(row["params"]) or {}]


def _input(document: Trace) -> Json:
    return [document.input, document.request.params]
