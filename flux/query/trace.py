"""One execution with all that it did, and the executions that it invoked inside it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import date
from typing import Any

from asyncpg import Connection, Record

from flux.query import shapes
from flux.query.find import Found
from flux.query.queries import Q
from flux.query.shapes import Shape

MOST_CHILDREN = 200
"""Invoked executions that come with a trace, however deeply nested."""


async def load(connection: Connection[Any], found: Found) -> Shape:
    """The trace shape of an execution.

    Returns:
        An execution in full with `spans, host_calls, mutations, logs, warnings`; `children` holds the same
        for each execution that it invoked, in order of their start.
    """
    request_ids, days = [found.request_id], [found.day]
    calls = await connection.fetch(Q.host_calls, request_ids, days)
    if any(call["op"] in ("invoke", "queue.push") for call in calls):
        below = await connection.fetch(Q.descendants, found.request_id, found.day, MOST_CHILDREN)
        if below:
            request_ids += [row["request_id"] for row in below]
            days = _distinct([found.day, *(row["day"] for row in below)])
            calls = await connection.fetch(Q.host_calls, request_ids, days)
    executions = await connection.fetch(Q.execution, request_ids, days)
    spans = _by_request(await connection.fetch(Q.spans, request_ids, days))
    mutations = _by_request(await connection.fetch(Q.mutations, request_ids, days))
    logs = _by_request(await connection.fetch(Q.logs, request_ids, days))
    by_call = _by_request(calls)
    documents: dict[str, Shape] = {}
    for row in executions:
        request_id = row["request_id"]
        host_calls = [shapes.host_call(call) for call in by_call[request_id]]
        document = shapes.execution_in_full(row)
        warnings = document.pop("warnings")
        document |= {
            "spans": [shapes.span(span) for span in spans[request_id]],
            "host_calls": host_calls,
            "mutations": attribute(mutations[request_id], host_calls),
            "logs": [shapes.log(line) for line in logs[request_id]],
            "warnings": warnings,
            "children": [],
        }
        documents[request_id] = document
    for request_id, document in documents.items():
        parent = documents.get(document["parent_request_id"] or "")
        if parent is not None and request_id != found.request_id:
            parent["children"].append(document)
    return documents[found.request_id]


def attribute(rows: Iterable[Record], host_calls: list[Shape]) -> list[Shape]:
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


def _by_request(rows: Iterable[Record]) -> dict[str, list[Record]]:
    grouped: dict[str, list[Record]] = defaultdict(list)
    for row in rows:
        grouped[row["request_id"]].append(row)
    return grouped


def _distinct(days: list[date]) -> list[date]:
    return list(dict.fromkeys(days))
