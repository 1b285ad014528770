"""Why an execution ended as it did: its cause, the line, the data it changed, who wrote what it tripped over,
what to do.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from asyncpg import Connection

from flux.query import cause as causes
from flux.query import provenance, trace
from flux.query.compare import differences
from flux.query.facts import Facts, Route
from flux.query.find import Found
from flux.query.queries import Q
from flux.query.shapes import Shape
from flux.query.source import locate
from flux.query.suggest import suggest

_EXECUTION = [
    *("request_id", "trace_id", "trigger", "function", "deployment", "method", "path", "status", "outcome"),
    *(
        "started_at",
        "duration_ms",
        "error",
        "replay_of",
        "parent_request_id",
        "job_id",
        "job_attempt",
        "route",
    ),
]
_SLOWEST = 5


async def load(connection: Connection[Any], found: Found) -> Shape:
    """The why shape of an execution.

    Returns:
        `execution, root_cause, location, input, data_changes, provenance, previous_success, first_difference,
        suggestions`, and beside them `failed`, `refused` (the function answered 400 or more itself),
        `output`, `chain` (the spans down to the failing one), `failing_call`, `survived` (failed calls that
        the function got over), `differences`, `slowest` (where the time went). On an execution that went
        well `root_cause`, `location`, `previous_success` and `first_difference` are null. A refusal has no
        suggestions: the function dealt with it.
    """
    document = await trace.load(connection, found)
    cause = causes.find(document)
    mutations = sorted(
        (mutation for each in causes.every(document) for mutation in each["mutations"]), key=lambda m: m["n"]
    )
    shape: Shape = {
        "execution": {key: document[key] for key in _EXECUTION},
        "root_cause": None,
        "location": None,
        "input": document["input"],
        "data_changes": mutations,
        "provenance": [],
        "previous_success": None,
        "first_difference": None,
        "suggestions": [],
        "failed": cause is not None,
        "refused": cause is not None and document["outcome"] == "ok",
        "output": document["output"],
        "request": document["request"],
        "chain": [],
        "failing_call": None,
        "survived": [],
        "differences": [],
        "slowest": slowest(document),
        "warnings": document["warnings"],
    }
    if cause is None:
        shape["survived"] = [call for call in document["host_calls"] if call["error"] is not None]
        return shape
    shape["root_cause"] = {
        "type": cause.type,
        "message": cause.message,
        "span_id": cause.span_id,
        "request_id": cause.document["request_id"],
    }
    shape["location"] = await _location(connection, cause.document)
    shape["chain"] = [
        {key: span[key] for key in ("span_id", "name", "kind", "status", "duration_ms")}
        for span in cause.chain
    ]
    shape["failing_call"] = cause.call
    shape["survived"] = cause.earlier
    shape["provenance"] = await provenance.load(connection, cause)
    if document["outcome"] != "rejected":
        await _compare(connection, document, shape)
    if shape["refused"]:
        return shape
    detail = ((cause.call or {}).get("error") or {}).get("detail") or {}
    routes = [Route(*row) for row in await connection.fetch(Q.routes)]
    shape["suggestions"] = suggest(Facts(cause, document, detail, routes))
    return shape


async def _location(connection: Connection[Any], document: Shape) -> Shape | None:
    error = document["error"]
    if not error or not error.get("file"):
        return None
    bundle = await connection.fetchval(Q.bundle, document["deployment"]) if document["deployment"] else None
    return locate(error, bundle)


async def _compare(connection: Connection[Any], document: Shape, shape: Shape) -> None:
    """Fill in the last success before this failure, and how they differ in what the one before it shared."""
    if not document["function"]:
        return
    rows = await connection.fetch(
        Q.previous_successes,
        document["function"],
        datetime.fromisoformat(document["started_at"]),
        document["request_id"],
    )
    if not rows:
        return
    success, *usual = [await trace.load(connection, Found(row["request_id"], row["day"])) for row in rows]
    shape["previous_success"] = success["request_id"]
    shape["differences"] = differences(success, document, next(iter(usual), None))
    shape["first_difference"] = next(iter(shape["differences"]), None)
    if success["deployment"] != document["deployment"]:
        shape["deployment_changed"] = {"a": success["deployment"], "b": document["deployment"]}


def slowest(document: Shape) -> list[Shape]:
    """The spans that took most of the time themselves, their children's taken off: `{name, span_id,
    duration_ms, self_ms, share}`.
    """
    total = document["duration_ms"] or 0.0
    inside: dict[str | None, float] = {}
    for span in document["spans"]:
        inside[span["parent_span_id"]] = inside.get(span["parent_span_id"], 0.0) + span["duration_ms"]
    found = [
        {
            "name": span["name"],
            "span_id": span["span_id"],
            "duration_ms": span["duration_ms"],
            "self_ms": max(0.0, span["duration_ms"] - inside.get(span["span_id"], 0.0)),
        }
        for span in document["spans"]
    ]
    found.sort(key=lambda part: -part["self_ms"])
    return [part | {"share": part["self_ms"] / total if total else 0.0} for part in found[:_SLOWEST]]
