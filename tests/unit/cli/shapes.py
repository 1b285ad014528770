"""Trace shapes made by hand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

Shape = dict[str, Any]
START = datetime(2026, 3, 4, 12, 0, 0, tzinfo=UTC)
NOW = START + timedelta(minutes=3)
NS = int(START.timestamp()) * 1_000_000_000


def at(ms: float) -> str:
    """A moment `ms` after the start."""
    return (START + timedelta(milliseconds=ms)).isoformat(timespec="microseconds")


def span(span_id: str, parent: str | None, name: str, at_ms: float, ms: float, **values: Any) -> Shape:
    """A span."""
    return {
        "span_id": span_id, "parent_span_id": parent, "name": name, "kind": "INTERNAL",
        "start_time": at(at_ms), "duration_ms": ms, "status": "UNSET", "attributes": {},
        "events": [], "links": [],
        "status_message": None,
        "trace_id": "t" * 32, "scope": None, "start_ns": NS + int(at_ms * 1e6),
    } | values  # fmt: skip


def call(seq: int, op: str, arguments: Any, result: Any = None, **values: Any) -> Shape:
    """A host call."""
    return {
        "seq": seq, "op": op, "arguments": arguments, "result": result, "error": None, "status": "done",
        "started": seq, "delivered": seq, "at": at(seq), "span_id": None, "xid": None, "snapshot": None,
        "duration_ms": 1.0, "parent_span_id": None, "tx": None, "first_n": None, "last_n": None,
    } | values  # fmt: skip


def mutation(op: str, key: Any, before: Any, after: Any, **values: Any) -> Shape:
    """A mutation."""
    changed = (
        [name for name in after if before.get(name) != after[name]]
        if op == "UPDATE"
        else list(after or before)
    )
    return {
        "table": "stock", "key": key, "op": op, "before": before, "after": after, "changed": changed,
        "at": at(3),
        "request_id": "9f3c2a1b" + "0" * 24, "span_id": None, "rolled_back": False, "actor": "flux_app",
        "application_name": None, "origin": "flux", "xid": "1", "n": 1, "seq": None,
    } | values  # fmt: skip


def trace(**values: Any) -> Shape:
    """An execution that went well and did nothing."""
    return {
        "request_id": "9f3c2a1b" + "0" * 24, "trace_id": "t" * 32, "trigger": "http", "function": "buy",
        "deployment": "4ac0f1d2" + "0" * 56, "method": "POST", "path": "/buy", "status": 200, "outcome": "ok",
        "started_at": at(0), "duration_ms": 10.0, "error": None, "replay_of": None, "parent_request_id": None,
        "job_id": None, "job_attempt": None, "count": 1, "span_id": "aa", "route": "/buy",
        "response_headers": {},
        "request": {"method": "POST", "url": "", "headers": {}, "query": {}, "params": {},
                    "body": {"item": 3}},
        "input": {"item": 3}, "output": {"ok": True}, "spans": [
            span("aa", None, "POST /buy", 0, 10, kind="SERVER"),
            span("bb", "aa", "buy", 1, 8, attributes={"faas.invocation_id": "x"}),
        ],
        "host_calls": [], "mutations": [], "logs": [], "warnings": [], "children": [],
    } | values  # fmt: skip
