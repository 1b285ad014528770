"""Traces made by hand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from flux.query import CallFailure, Failure, HostCall, LogLine, Mutation, Request, Span, Trace

START = datetime(2026, 3, 4, 12, 0, 0, tzinfo=UTC)
NOW = START + timedelta(minutes=3)
NS = int(START.timestamp()) * 1_000_000_000
ID = "9f3c2a1b" + "0" * 24


def at(ms: float) -> str:
    """A moment `ms` after the start."""
    return (START + timedelta(milliseconds=ms)).isoformat(timespec="microseconds")


def span(span_id: str, parent: str | None, name: str, at_ms: float, ms: float, **values: Any) -> Span:
    """A span."""
    given: dict[str, Any] = {
        "kind": "INTERNAL", "status": "UNSET", "attributes": {}, "events": [], "links": [],
        "status_message": None, "trace_id": "t" * 32, "scope": None,
    } | values  # fmt: skip
    return Span(
        span_id=span_id,
        parent_span_id=parent,
        name=name,
        start_time=at(at_ms),
        duration_ms=ms,
        start_ns=NS + int(at_ms * 1e6),
        **given,
    )


def error(kind: str, message: str, **detail: Any) -> CallFailure:
    """A failed call's error."""
    return CallFailure(type=kind, message=message, detail=detail)


def failure(kind: str, message: str, **values: Any) -> Failure:
    """An execution's error."""
    return Failure(type=kind, message=message, **values)


def call(seq: int, op: str, arguments: Any, result: Any = None, **values: Any) -> HostCall:
    """A host call."""
    given: dict[str, Any] = {
        "error": None, "status": "done", "started": seq, "delivered": seq, "at": at(seq), "span_id": None,
        "xid": None, "snapshot": None, "duration_ms": 1.0, "parent_span_id": None, "tx": None,
        "first_n": None, "last_n": None, "arguments_size": None, "result_size": None,
    } | values  # fmt: skip
    return HostCall(seq=seq, op=op, arguments=arguments, result=result, **given)


def mutation(op: str, key: Any, before: Any, after: Any, **values: Any) -> Mutation:
    """A mutation."""
    changed = (
        [name for name in after if before.get(name) != after[name]]
        if op == "UPDATE"
        else list(after or before)
    )
    given: dict[str, Any] = {
        "table": "stock", "changed": changed, "at": at(3), "request_id": ID, "span_id": None,
        "rolled_back": False, "actor": "flux_app", "application_name": None, "origin": "flux", "xid": "1",
        "n": 1, "seq": None, "not_recorded": None,
    } | values  # fmt: skip
    return Mutation(op=op, key=key, before=before, after=after, **given)


def log(seq: int, at_ms: float, level: str, message: str, fields: Any = None, **values: Any) -> LogLine:
    """A log line."""
    given: dict[str, Any] = {
        "span_id": None, "request_id": ID, "trace_id": "t" * 32, "function": "buy",
    } | values  # fmt: skip
    return LogLine(seq=seq, at=at(at_ms), level=level, message=message, fields=fields, **given)


def request(**values: Any) -> Request:
    """The request of `trace`."""
    given: dict[str, Any] = {
        "method": "POST", "url": "", "headers": {}, "query": {}, "params": {}, "body": {"item": 3},
    } | values  # fmt: skip
    return Request(**given)


def trace(**values: Any) -> Trace:
    """An execution that went well and did nothing."""
    given: dict[str, Any] = {
        "request_id": ID, "trace_id": "t" * 32, "trigger": "http", "function": "buy",
        "deployment": "4ac0f1d2" + "0" * 56, "method": "POST", "path": "/buy", "status": 200, "outcome": "ok",
        "started_at": at(0), "duration_ms": 10.0, "error": None, "replay_of": None, "parent_request_id": None,
        "job_id": None, "job_attempt": None, "count": 1, "route": "/buy", "warnings": [], "span_id": "aa",
        "node": "n1", "guest": None, "invocation": None, "client": None, "client_request_id": None,
        "record": "all", "request": request(), "input": {"item": 3}, "output": {"ok": True},
        "output_kind": "json", "answered_ms": None, "response_headers": {}, "body_size": None,
        "output_size": None,
        "spans": [
            span("aa", None, "POST /buy", 0, 10, kind="SERVER"),
            span("bb", "aa", "buy", 1, 8, attributes={"faas.invocation_id": "x"}),
        ],
        "host_calls": [], "mutations": [], "logs": [], "children": [],
    } | values  # fmt: skip
    return Trace(**given)
