"""Executions as a record would give them, for tests that need no database."""

from __future__ import annotations

import json
from typing import Any

from flux.record.call import CallError, HostCall
from flux.record.events import Failure
from flux.replay.record import Recorded, RecordedCall, RecordedLine, Surroundings
from flux.runtime.deployment import Deployment
from flux.runtime.request import Request

A, B = "a" * 32, "b" * 32


def answered(seq: int, op: str = "sleep", delivered: int | None = None, **more: Any) -> RecordedCall:
    """A call as it was; `arguments` is a value."""
    given = json.dumps(more.pop("arguments", {})).encode()
    made: dict[str, Any] = {
        "whole": True,
        "sha256": None,
        "result": b"{}",
        "error": None,
        "now_ns": seq,
        "tx": None,
        "span": None,
    }
    made.update(more)
    return RecordedCall(seq=seq, op=op, arguments=given, delivered=delivered, **made)


def recorded(*calls: RecordedCall, request_id: str = A, sent: int = 1, **more: Any) -> Recorded:
    """An execution that made those calls."""
    lines: list[RecordedLine] = more.pop("lines", [])
    made: dict[str, Any] = {
        "spans": [],
        "status": 200,
        "outcome": "ok",
        "output": b"{}",
        "whole": True,
        "sha256": None,
        "headers": [],
        "error": None,
        "cut_short": None,
    }
    made.update(more)
    return Recorded(
        request_id=request_id,
        trace_id="1" * 32,
        span_id="2" * 16,
        function_span="3" * 16,
        function="f",
        deployment=Deployment("d" * 64, "f", "typescript", "f/index.ts", {}, {}, {"timeout_ms": 1000}, {}),
        surroundings=Surroundings("s", {}, 0, 8, dev=False),
        node="n" * 32,
        guest="deno-1-2",
        invocation=1,
        sent=sent,
        seed=bytes(32),
        now_ns=1,
        request=Request("replay", "f"),
        calls={call.seq: call for call in calls},
        lines={line.seq: line for line in lines},
        **made,
    )


def call(n: int, op: str = "sleep", arguments: Any = None, **more: Any) -> HostCall:
    """What a guest asks."""
    return HostCall(op=op, arguments=json.dumps(arguments or {}).encode(), n=n, **more)


def line(n: int, message: str) -> HostCall:
    """A log line of a guest's."""
    return call(n, "log", {"level": "info", "message": message})


DEADLINE = Failure("DeadlineExceeded", "`f` did not answer within 1000 ms.")
REFUSED = CallError("unique_violation", "there already", {"sqlstate": "23505", "constraint": "c"})
