"""One execution with all that it did, and the executions that it invoked inside it."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from typing import Any

from asyncpg import Connection, Record

from flux.query import shapes, silent
from flux.query.find import Found
from flux.query.partition import of_day
from flux.query.parts import Columns, Parts
from flux.query.queries import Q
from flux.query.shapes import Shape
from flux.record import ops

MOST_CHILDREN = 200
"""Invoked executions that come with a trace, however deeply nested."""


async def load(connection: Connection[Any], found: Found) -> Shape:
    """The trace shape of an execution.

    Returns:
        An execution in full with `spans, host_calls, mutations, logs, warnings`; `children` holds the same
        for each execution that it invoked, in order of their start.
    """
    rows = await connection.fetch(of_day(Q.trace, found.day), found.request_id, found.day)
    parts = Parts(rows)
    if found.unrecorded is not None or any(
        call["op"] in ops.BEGETS for call in parts.of(found.request_id, "host_call")
    ):
        below = await connection.fetch(Q.descendants, found.request_id, found.day, MOST_CHILDREN)
        if below:
            for day, ids in _by_day(below).items():
                rows += await connection.fetchmany(of_day(Q.trace, day), [(each, day) for each in ids])
            parts = Parts(rows)
    documents: dict[str, Shape] = {}
    executions = parts.executions
    if found.unrecorded is not None and all(row["request_id"] != found.request_id for row in executions):
        executions.insert(0, silent.execution(found.unrecorded))
    for row in executions:
        request_id = row["request_id"]
        host_calls = [shapes.host_call(call) for call in parts.of(request_id, "host_call")]
        document = shapes.execution_in_full(row)
        warnings = document.pop("warnings")
        document |= {
            "spans": [shapes.span(span) for span in parts.of(request_id, "span")],
            "host_calls": host_calls,
            "mutations": attribute(parts.of(request_id, "mutation"), host_calls),
            "logs": [shapes.log(line) for line in parts.of(request_id, "log")],
            "warnings": warnings,
            "children": [],
        }
        documents[request_id] = document
    for request_id, document in documents.items():
        parent = documents.get(document["parent_request_id"] or "")
        if parent is not None and request_id != found.request_id:
            parent["children"].append(document)
    document = documents[found.request_id]
    document["warnings"] = _together(document, found) + document["warnings"]
    return document


def _together(document: Shape, found: Found) -> list[str]:
    """What is to be said of an execution that stands for several requests."""
    if document["count"] == 1:
        return []
    text = (
        f"{document['count']} requests that were rejected alike are recorded together here; "
        "what is shown of a request came with the first."
    )
    if found.member is None:
        return [text]
    return [f"The one asked for is number {found.member} of them.", text][::-1]


def _by_day(rows: Iterable[Record]) -> dict[date, list[str]]:
    found: dict[date, list[str]] = {}
    for row in rows:
        found.setdefault(row["day"], []).append(row["request_id"])
    return found


def attribute(rows: Iterable[Columns], host_calls: list[Shape]) -> list[Shape]:
    """Mutations with the host call, and so the span, that made each.

    A row announced by a trigger carries its call's seq; a committed row belongs to the call whose order
    numbers enclose its own. Calls of concurrent transactions may enclose each other's numbers, so the
    transaction must be the same, too.
    """
    ranged = [call for call in host_calls if call["first_n"] is not None and call["last_n"] is not None]
    spans = {call["seq"]: call["span_id"] for call in host_calls}
    found = []
    for row in rows:
        seq = row["seq"]
        if seq is None:
            seq = next(
                (
                    call["seq"]
                    for call in ranged
                    if call["first_n"] <= row["n"] <= call["last_n"] and call["xid"] in (None, row["xid"])
                ),
                None,
            )
        found.append(shapes.mutation(row, span_id=spans.get(seq), seq=seq))
    return found
