"""Rows of `flux.*` as shapes. Used by every question; pure.

jsonb arrives as text, exact payloads as bytes. What is in a column is taken as it is: a value of another kind
than Flux writes is shown where it can be and left out where not, and never raises.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from urllib.parse import parse_qsl

from asyncpg import Record

from flux.query.payload import parse, present
from flux.shapes.record import (
    CallFailure,
    Execution,
    Failure,
    HostCall,
    Json,
    LogLine,
    Mutation,
    Request,
    Span,
)

Row = Mapping[str, Any] | Record


def moment(value: datetime) -> str:
    """RFC 3339 with offset and microseconds."""
    return value.isoformat(timespec="microseconds")


def execution(row: Row) -> Execution:
    """An execution in a list (`tail`)."""
    return Execution(**execution_fields(row))


def execution_fields(row: Row) -> dict[str, Any]:
    """The values of an Execution."""
    return {
        "request_id": row["request_id"],
        "trace_id": row["trace_id"],
        "trigger": row["trigger"],
        "function": row["function"],
        "deployment": row["deployment"],
        "method": row["method"],
        "path": row["path"],
        "status": row["status"],
        "outcome": row["outcome"],
        "started_at": moment(row["started_at"]),
        "duration_ms": row["duration_ms"],
        "error": failure(parse(row["error"])),
        "replay_of": row["replay_of"],
        "parent_request_id": row["parent_request_id"],
        "job_id": row["job_id"],
        "job_attempt": row["job_attempt"],
        "count": row["count"],
        "route": row["route"],
        "warnings": [_text(warning) for warning in _list(parse(row["warnings"]))],
    }


def trace_fields(row: Row) -> dict[str, Any]:
    """The values of a Trace, but for its spans, calls, mutations, logs and children."""
    rejected = row["outcome"] == "rejected"
    received = present(row["body"])
    return execution_fields(row) | {
        "span_id": row["span_id"],
        "node": row["node"],
        "guest": row["guest"],
        "invocation": row["invocation"],
        "client": row["client"],
        "client_request_id": row["client_request_id"],
        "record": row["record"],
        "request": Request(
            method=row["method"],
            url=row["url"],
            headers=pairs(parse(row["request_headers"])),
            query=pairs(parse_qsl(row["query"] or "", keep_blank_values=True)),
            params=_object(parse(row["params"])),
            body=received,
        ),
        "input": None if rejected else received if row["input"] is None else present(row["input"]),
        "output": present(row["output"]),
        "output_kind": row["output_kind"],
        "answered_ms": row["answered_ms"],
        "response_headers": pairs(parse(row["response_headers"])),
        "body_size": _cut(row["body"], row["body_size"]),
        "output_size": _cut(row["output"], row["output_size"]),
    }


def failure(error: Json) -> Failure | None:
    """An execution's error."""
    if not isinstance(error, dict):
        return None
    line, column = error.get("line"), error.get("column")
    return Failure(
        type=_text(error.get("type")) or "error",
        message=_text(error.get("message")),
        file=_text(error.get("file")) or None,
        line=line if isinstance(line, int) else None,
        column=column if isinstance(column, int) else None,
        stack=_text(error.get("stack")) or None,
        fields=error.get("fields"),
    )


def call_failure(error: Json) -> CallFailure | None:
    """A host call's error."""
    if not isinstance(error, dict):
        return None
    return CallFailure(
        type=_text(error.get("type")) or "error",
        message=_text(error.get("message")),
        detail=_object(error.get("detail")),
    )


def pairs(listed: Json) -> dict[str, Json]:
    """[name, value] pairs (headers, a query) as an object; a name that came several times has the list of its
    values.
    """
    if isinstance(listed, dict):
        return listed
    found: dict[str, list[Json]] = {}
    for pair in _list(listed):
        if isinstance(pair, (list, tuple)) and len(pair) == 2:
            found.setdefault(_text(pair[0]), []).append(pair[1])
    return {name: values[0] if len(values) == 1 else values for name, values in found.items()}


def span(row: Row) -> Span:
    """One span; attributes, events and links arrive as JSON text."""
    return Span(
        span_id=row["span_id"],
        parent_span_id=row["parent_span_id"],
        name=row["name"],
        kind=row["kind"],
        start_time=moment(row["start_time"]),
        duration_ms=row["duration_ns"] / 1e6,
        status=row["status"],
        attributes=_object(parse(row["attributes"])),
        events=_list(parse(row["events"])),
        links=_list(parse(row["links"])),
        status_message=row["status_message"],
        trace_id=row["trace_id"],
        scope=row["scope"],
        start_ns=row["start_ns"],
    )


def host_call(row: Row) -> HostCall:
    """One host call; `arguments` and `result` are the exact bytes."""
    return HostCall(
        seq=row["seq"],
        op=row["op"],
        arguments=present(row["arguments"]),
        result=present(row["result"]),
        error=call_failure(parse(row["error"])),
        status=row["status"],
        started=row["started"],
        delivered=row["delivered"],
        at=moment(row["at"]),
        span_id=row["span_id"],
        xid=row["xid"],
        snapshot=row["snapshot"],
        duration_ms=row["duration_ms"],
        parent_span_id=row["parent_span_id"],
        tx=row["tx"],
        first_n=row["first_n"],
        last_n=row["last_n"],
        arguments_size=_cut(row["arguments"], row["arguments_size"]),
        result_size=_cut(row["result"], row["result_size"]),
    )


def mutation(row: Row, *, span_id: str | None, seq: int | None) -> Mutation:
    """One row changed.

    Args:
        row: of flux.mutations, images as JSON text.
        span_id, seq: of the host call that did it, where one is known.
    """
    before, after = parse(row["before"]), parse(row["after"])
    schema, table = row["schema_name"], row["table_name"]
    return Mutation(
        table=table if schema == "public" else f"{schema}.{table}",
        key=parse(row["key"]),
        op=row["op"],
        before=before,
        after=after,
        changed=changed(row["op"], before, after),
        at=moment(row["at"]),
        request_id=None if row["origin"] == "outside" else row["request_id"],
        span_id=span_id,
        rolled_back=row["rolled_back"],
        actor=row["actor"],
        application_name=row["application_name"],
        origin=row["origin"],
        xid=row["xid"],
        n=row["n"],
        seq=seq,
        not_recorded=row["cut"] or None,
    )


def changed(op: str, before: Json, after: Json) -> list[str]:
    """Names of the columns whose value a mutation changed: all of an inserted or a deleted row's."""
    if op == "UPDATE" and isinstance(before, dict) and isinstance(after, dict):
        names = list(after) + [name for name in before if name not in after]
        return [
            name
            for name in names
            if before.get(name) != after.get(name) or (name in before) != (name in after)
        ]
    image = after if isinstance(after, dict) else before if isinstance(before, dict) else {}
    return list(image)


def log_line(row: Row, *, request_id: str, trace_id: str | None, function: str | None) -> LogLine:
    """One line that a function of this execution logged."""
    return LogLine(
        seq=row["seq"],
        at=moment(row["at"]),
        level=row["level"],
        message=row["message"],
        fields=present(row["fields"]),
        span_id=row["span_id"],
        request_id=request_id,
        trace_id=trace_id,
        function=function,
    )


def _cut(data: bytes | None, size: int | None) -> int | None:
    """The full length in bytes, where not all of a payload was kept."""
    return None if size is None or size == len(data or b"") else size


def _text(value: Json) -> str:
    return "" if value is None else value if isinstance(value, str) else str(value)


def _object(value: Json) -> dict[str, Json]:
    return value if isinstance(value, dict) else {}


def _list(value: Json) -> list[Json]:
    return value if isinstance(value, list) else []
