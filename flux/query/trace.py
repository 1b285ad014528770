"""One execution with all that it did, and the executions that it invoked inside it."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from typing import Any

from asyncpg import Connection, Record

from flux.query import foreign, from_rows, silent
from flux.query.find import Found
from flux.query.partition import of_day
from flux.query.parts import Columns, Parts
from flux.query.queries import Q
from flux.record import ops
from flux.shapes.record import HostCall, Mutation, Trace

MOST_CHILDREN = 200
"""Invoked executions that come with a trace, however deeply nested."""
MOST_SPANS = 50_000
"""Spans of a trace that has no execution: nothing else bounds them."""


async def load(connection: Connection[Any], found: Found) -> Trace:
    """All of an execution; `children` holds those that it invoked and the jobs it pushed, whole as well."""
    if found.spans_alone:
        rows = await connection.fetch(Q.spans_of, found.request_id, MOST_SPANS + 1)
        spans = [from_rows.span(span) for span in Parts(rows).of(found.request_id, "span")]
        return foreign.trace(found.request_id, spans[:MOST_SPANS], more=len(spans) > MOST_SPANS)
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
    executions = parts.executions
    if found.unrecorded is not None and all(row["request_id"] != found.request_id for row in executions):
        executions.insert(0, silent.execution(found.unrecorded))
    documents = {row["request_id"]: _document(row, parts, found) for row in executions}
    for request_id, document in documents.items():
        parent = documents.get(document.parent_request_id or "")
        if parent is not None and request_id != found.request_id:
            parent.children.append(document)
    return documents[found.request_id]


def _document(row: Columns, parts: Parts, found: Found) -> Trace:
    """One execution out of the rows of several, its children still missing."""
    request_id = row["request_id"]
    fields = from_rows.trace_fields(row)
    if request_id == found.request_id:
        fields["warnings"] = [*_together(row["count"], found), *fields["warnings"]]
    host_calls = [from_rows.host_call(call) for call in parts.of(request_id, "host_call")]
    whose = {"request_id": request_id, "trace_id": row["trace_id"], "function": row["function"]}
    return Trace(
        **fields,
        spans=[from_rows.span(span) for span in parts.of(request_id, "span")],
        host_calls=host_calls,
        mutations=attribute(parts.of(request_id, "mutation"), host_calls),
        logs=[from_rows.log_line(line, **whose) for line in parts.of(request_id, "log")],
        children=[],
    )


def _together(count: int, found: Found) -> list[str]:
    """What is to be said of an execution that stands for several requests."""
    if count == 1:
        return []
    text = (
        f"{count} requests that were rejected alike are recorded together here; "
        "what is shown of a request came with the first."
    )
    if found.member is None:
        return [text]
    return [text, f"The one asked for is number {found.member} of them."]


def _by_day(rows: Iterable[Record]) -> dict[date, list[str]]:
    found: dict[date, list[str]] = {}
    for row in rows:
        found.setdefault(row["day"], []).append(row["request_id"])
    return found


def attribute(rows: Iterable[Columns], host_calls: list[HostCall]) -> list[Mutation]:
    """Mutations with the host call, and so the span, that made each.

    A row announced by a trigger carries its call's seq; a committed row belongs to the call whose order
    numbers enclose its own. Calls of concurrent transactions may enclose each other's numbers, so the
    transaction must be the same, too.
    """
    ranged = [
        (call.first_n, call.last_n, call)
        for call in host_calls
        if call.first_n is not None and call.last_n is not None
    ]
    spans = {call.seq: call.span_id for call in host_calls}
    found: list[Mutation] = []
    for row in rows:
        seq = row["seq"]
        if seq is None:
            seq = next(
                (
                    call.seq
                    for first, last, call in ranged
                    if first <= row["n"] <= last and call.xid in (None, row["xid"])
                ),
                None,
            )
        span_id = None if seq is None else spans.get(seq)
        found.append(from_rows.mutation(row, span_id=span_id, seq=seq))
    return found
