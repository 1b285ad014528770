"""Executions made up for the recorder's tests, and a recorder to write them with."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import asyncpg

from flux.record.call import HostCall, Outcome
from flux.record.events import Arrival
from flux.record.identity import day_of, new_id
from flux.recorder.execution import Execution
from flux.recorder.recorder import Recorder
from flux.recorder.redaction import Redaction
from flux.recorder.seal import Sealer
from flux.spool.writer import Spool

MASTER = bytes(range(32))


def recorder(folder: Path, *, redaction: Redaction | None = None, **spool: Any) -> Recorder:
    """A recorder over a new spool in `folder`."""
    spool.setdefault("limit", 2**30)
    return Recorder(Spool.create(folder, new_id(), **spool), Sealer(MASTER), redaction or Redaction())


def arrival(**changes: Any) -> Arrival:
    """An HTTP request that has just come."""
    now = time.time_ns()
    given: dict[str, Any] = {
        "request_id": new_id(),
        "day": day_of(now),
        "trace_id": new_id(),
        "span_id": new_id()[:16],
        "parent_span_id": None,
        "parent_request_id": None,
        "trigger": "http",
        "function": "hello",
        "deployment": "d" * 64,
        "started_ns": now,
        "record": "all",
        "method": "POST",
        "url": "http://localhost:4000/hello?name=ada",
        "path": "/hello",
        "route": "/hello",
        "query": "name=ada",
        "params": {"id": "7"},
        "headers": [("content-type", "application/json")],
        "body": b'{"name": "ada"}',
    }
    return Arrival(**{**given, **changes})


def opened(recorder: Recorder, **changes: Any) -> Execution:
    """An execution that has begun."""
    return recorder.open(arrival(**changes), seed=b"s" * 32, now_ns=1)


def called(
    execution: Execution, op: str, arguments: bytes, *, n: int, intend: bool = False, **outcome: Any
) -> HostCall:
    """A host call from its start to its answer."""
    call = HostCall(op, arguments, n)
    execution.start(call, None)
    if intend:
        execution.intend(call)
    execution.finish(call, Outcome(**outcome))
    return call


def complete(recorder: Recorder, **changes: Any) -> Execution:
    """An execution from its beginning to its end, with two host calls and a log line."""
    execution = opened(recorder, **changes)
    called(execution, "db.query", b'{"table":"users"}', n=1, result=b'{"rows":[]}')
    called(execution, "fetch", b'{"url":"http://a/"}', n=2, intend=True, result=b'{"status":200}')
    execution.log(HostCall("log", b"{}", 3), "info", "done", b'{"a":1}', None)
    execution.end(status=200, outcome="ok", output=b'{"hello":"ada"}')
    return execution


async def counts(connection: asyncpg.Connection) -> dict[str, int]:
    """Rows in each table of the record."""
    tables = ("executions", "host_calls", "logs", "spans", "mutations", "quarantine")
    return {table: await connection.fetchval(f"SELECT count(*) FROM flux.{table}") for table in tables}
