"""Rows of `flux.*` as the JSON shapes that the CLI, the HTTP API and the Python API share.

The names here are the public contract: keys may be added, never renamed.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from urllib.parse import parse_qsl

from asyncpg import Record

from flux.query.payload import parse, present

Row = Mapping[str, Any] | Record
Shape = dict[str, Any]


def moment(value: datetime | None) -> str | None:
    """RFC 3339 with offset and microseconds."""
    return None if value is None else value.isoformat(timespec="microseconds")


def execution(row: Row) -> Shape:
    """The keys of an execution in a list (`tail`); `row` has error as JSON text."""
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
    }


def failure(error: Any) -> Shape | None:
    """An execution's error with its fixed keys first."""
    if not isinstance(error, dict):
        return None
    fixed = {key: error.get(key) for key in ("type", "message", "file", "line", "column")}
    return fixed | {key: value for key, value in error.items() if key not in fixed and value is not None}


def execution_in_full(row: Row) -> Shape:
    """An execution with what came in and what went out, without its spans, calls, mutations and logs."""
    rejected = row["outcome"] == "rejected"
    received = present(row["body"])
    shape = execution(row)
    shape |= {
        "span_id": row["span_id"],
        "route": row["route"],
        "node": row["node"],
        "guest": row["guest"],
        "invocation": row["invocation"],
        "client": row["client"],
        "client_request_id": row["client_request_id"],
        "record": row["record"],
        "request": {
            "method": row["method"],
            "url": row["url"],
            "headers": pairs(parse(row["request_headers"])),
            "query": pairs(parse_qsl(row["query"] or "", keep_blank_values=True)),
            "params": parse(row["params"]) or {},
            "body": received,
        },
        "input": None if rejected else received if row["input"] is None else present(row["input"]),
        "output": present(row["output"]),
        "output_kind": row["output_kind"],
        "response_headers": pairs(parse(row["response_headers"])),
        "warnings": parse(row["warnings"]) or [],
    }
    shape |= _cut("body", row["body"], row["body_size"])
    shape |= _cut("output", row["output"], row["output_size"])
    return shape


def pairs(listed: Any) -> Shape:
    """[name, value] pairs (headers, a query) as an object; a name that came several times has the list of its
    values.
    """
    if isinstance(listed, dict):
        return listed
    found: Shape = {}
    for name, value in listed or []:
        if name not in found:
            found[name] = value
        elif isinstance(found[name], list):
            found[name].append(value)
        else:
            found[name] = [found[name], value]
    return found


def span(row: Row) -> Shape:
    """One span; attributes, events and links arrive as JSON text."""
    return {
        "span_id": row["span_id"],
        "parent_span_id": row["parent_span_id"],
        "name": row["name"],
        "kind": row["kind"],
        "start_time": moment(row["start_time"]),
        "duration_ms": row["duration_ns"] / 1e6,
        "status": row["status"],
        "attributes": parse(row["attributes"]) or {},
        "events": parse(row["events"]) or [],
        "links": parse(row["links"]) or [],
        "status_message": row["status_message"],
        "trace_id": row["trace_id"],
        "scope": row["scope"],
        "start_ns": row["start_ns"],
    }


def host_call(row: Row) -> Shape:
    """One host call; `arguments` and `result` are the exact bytes."""
    shape = {
        "seq": row["seq"],
        "op": row["op"],
        "arguments": present(row["arguments"]),
        "result": present(row["result"]),
        "error": parse(row["error"]),
        "status": row["status"],
        "started": row["started"],
        "delivered": row["delivered"],
        "at": moment(row["at"]),
        "span_id": row["span_id"],
        "xid": row["xid"],
        "snapshot": row["snapshot"],
        "duration_ms": row["duration_ms"],
        "parent_span_id": row["parent_span_id"],
        "tx": row["tx"],
        "first_n": row["first_n"],
        "last_n": row["last_n"],
    }
    shape |= _cut("arguments", row["arguments"], row["arguments_size"])
    shape |= _cut("result", row["result"], row["result_size"])
    return shape


def mutation(row: Row, *, span_id: str | None, seq: int | None) -> Shape:
    """One row changed.

    Args:
        row: of flux.mutations, images as JSON text.
        span_id, seq: of the host call that did it, where one is known.
    """
    outside = row["origin"] == "outside"
    before, after = parse(row["before"]), parse(row["after"])
    schema, table = row["schema_name"], row["table_name"]
    shape = {
        "table": table if schema == "public" else f"{schema}.{table}",
        "key": parse(row["key"]),
        "op": row["op"],
        "before": before,
        "after": after,
        "changed": changed(row["op"], before, after),
        "at": moment(row["at"]),
        "request_id": None if outside else row["request_id"],
        "span_id": span_id,
        "rolled_back": row["rolled_back"],
        "actor": row["actor"],
        "application_name": row["application_name"],
        "origin": row["origin"],
        "xid": row["xid"],
        "n": row["n"],
        "seq": seq,
    }
    if row["cut"]:
        shape["not_recorded"] = row["cut"]
    return shape


def changed(op: str, before: Any, after: Any) -> list[str]:
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


def log(row: Row) -> Shape:
    """One line that a function logged."""
    return {
        "seq": row["seq"],
        "at": moment(row["at"]),
        "level": row["level"],
        "message": row["message"],
        "fields": present(row["fields"]),
        "span_id": row["span_id"],
    }


def _cut(name: str, data: bytes | None, size: int | None) -> Shape:
    """`<name>_size`, the full length in bytes, where not all of a payload was kept."""
    return {} if size is None or size == len(data or b"") else {f"{name}_size": size}
