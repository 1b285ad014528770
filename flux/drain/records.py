"""Rows for COPY, of what comes out of the spool: one function per table. Pure; called by the drain.

Members are in the order of the table's columns. Exact bytes are kept. The jsonb beside them is
derived here, and null if Postgres can't hold the value. `plain` leaves every derived value out: the
last try before a record goes to the quarantine.
"""

from __future__ import annotations

import re
from datetime import date
from functools import lru_cache
from typing import Any

import msgspec
import orjson

from flux.drain.assemble import Assembled
from flux.record.call import Attempt
from flux.record.events import Answered, Call, Deployed, End, Intent, LogLine, Surroundings
from flux_postgres_exporter.rows import text, timestamp, to_json

Row = tuple[Any, ...]

LONGEST_JSON = 2**20
"""Bytes of a payload that get a searchable copy."""

EXECUTION_COLUMNS = (
    "request_id", "day", "trace_id", "span_id", "parent_request_id", "trigger", "function",
    "deployment", "node", "guest", "invocation", "method", "url", "path", "route", "query",
    "params", "request_headers", "client_request_id", "client", "body", "body_size", "input",
    "input_json", "output", "output_kind", "output_size", "output_json", "response_headers",
    "status", "outcome", "started_at", "answered_ms", "duration_ms", "error", "record", "replay_of", "job_id",
    "job_attempt", "warnings", "sealed", "count", "sent", "surroundings", "output_sha256", "params_exact",
    "error_exact",
)  # fmt: skip
CALL_COLUMNS = (
    "request_id", "day", "seq", "op", "arguments", "arguments_size", "arguments_json", "result",
    "result_size", "error", "status", "started", "delivered", "at", "duration_ms", "span_id",
    "parent_span_id", "tx", "xid", "snapshot", "first_n", "last_n", "sealed", "now_ns", "arguments_sha256",
    "result_sha256", "error_exact",
)  # fmt: skip
LOG_COLUMNS = (
    "request_id",
    "day",
    "seq",
    "at",
    "level",
    "message",
    "fields",
    "fields_json",
    "span_id",
    "sealed",
)
MUTATION_COLUMNS = (
    "request_id", "day", "n", "xid", "system_id", "schema_name", "table_name", "op", "key",
    "before", "after", "at", "origin", "rolled_back", "seq", "cut",
)  # fmt: skip

exact = msgspec.json.Encoder().encode
"""JSON that keeps what jsonb doesn't: the order of members, U+0000."""

_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")


@lru_cache(maxsize=64)
def day(value: str) -> date:
    """An event's day. Raises ValueError where it is none."""
    return date.fromisoformat(value)


def searchable(data: bytes | None) -> str | None:
    """JSON text as jsonb can take it, or None: no JSON, over 1 MiB, too deep, with U+0000 or half a
    surrogate pair in it.
    """
    if not data or len(data) > LONGEST_JSON:
        return None
    if b"\\u0000" in data and _NUL.search(data):
        return None
    try:
        orjson.loads(data)
    except orjson.JSONDecodeError:
        return None
    return data.decode()


def execution(done: Assembled, node: str, *, plain: bool = False) -> Row:
    """The row of an execution; without an End it is `interrupted` (its answer may be known), or rejected
    where it stands for rejections.
    """
    a, end, answered = done.arrival, done.end, done.answered
    if end is None and a.rejection is not None:
        end = End(a.request_id, a.rejection.status, "rejected", 0, error=a.rejection.error)
    derive = _nothing if plain else searchable
    said: End | Answered | None = answered if end is None else end
    ran: End | Answered | Intent | None = done.intent if said is None else said
    sealed = (a.sealed, answered.sealed if answered else None, end.sealed if end else None)
    seals = [blob for blob in sealed if blob is not None]
    output = None if said is None else said.output
    body = a.body or None
    return (
        a.request_id,
        day(a.day),
        a.trace_id,
        a.span_id,
        a.parent_request_id,
        a.trigger,
        _text(a.function),
        a.deployment,
        node,
        ran.guest if ran and ran.guest else a.guest,
        None if ran is None else ran.invocation,
        _text(a.method),
        _text(a.url),
        _text(a.path),
        _text(a.route),
        _text(a.query),
        to_json(a.params) if a.params and not plain else None,
        to_json(a.headers) if a.headers and not plain else None,
        _text(a.client_request_id),
        _text(a.client),
        body,
        len(a.body) if a.body_size is None else a.body_size,
        a.input,
        derive(a.body if a.input is None else a.input),
        output,
        None if said is None else said.output_kind,
        None
        if said is None
        else said.output_size
        if said.output_size is not None or output is None
        else len(output),
        derive(output),
        to_json(said.response_headers) if said and said.response_headers and not plain else None,
        None if said is None else said.status,
        "interrupted" if end is None else end.outcome,
        timestamp(a.started_ns),
        None if answered is None else answered.duration_ns / 1e6,
        None if end is None else end.duration_ns / 1e6,
        to_json(msgspec.to_builtins(said.error)) if said and said.error and not plain else None,
        a.record,
        a.replay_of,
        _text(a.job_id),
        a.job_attempt,
        to_json(said.warnings) if said and said.warnings and not plain else "[]",
        seals or None,
        done.count,
        None if ran is None else ran.sent,
        a.surroundings,
        None if said is None else said.output_sha256,
        exact(a.params) if a.params else None,
        exact(said.error) if said and said.error else None,
    )


def call(request_id: str, on: date, c: Call, *, plain: bool = False) -> Row:
    """The row of a host call."""
    derive = _nothing if plain else searchable
    return (
        request_id,
        on,
        c.seq,
        c.op,
        c.arguments,
        c.arguments_size,
        derive(c.arguments),
        c.result,
        c.result_size,
        None if c.error is None or plain else to_json(msgspec.to_builtins(c.error)),
        c.status,
        c.started,
        c.delivered,
        timestamp(c.at_ns),
        None if c.duration_ns is None else c.duration_ns / 1e6,
        c.span_id,
        c.parent_span_id,
        c.tx,
        c.xid,
        None if c.snapshot is None else snapshot(c.snapshot),
        c.first_n,
        c.last_n,
        c.sealed,
        c.now_ns,
        c.arguments_sha256,
        c.result_sha256,
        None if c.error is None else exact(c.error),
    )


def log(request_id: str, on: date, line: LogLine, *, plain: bool = False) -> Row:
    """The row of a log line."""
    return (
        request_id,
        on,
        line.seq,
        timestamp(line.at_ns),
        line.level,
        text(line.message),
        line.fields,
        None if plain else searchable(line.fields),
        line.span_id,
        line.sealed,
    )


def rolled_back(request_id: str, on: date, a: Attempt, system_id: int, *, plain: bool = False) -> Row:
    """The row of a mutation that was attempted and not committed."""
    derive = _nothing if plain else searchable
    return (
        request_id,
        on,
        a.n,
        a.xid,
        system_id,
        text(a.schema),
        text(a.table),
        a.op,
        derive(a.key),
        derive(a.before),
        derive(a.after),
        timestamp(a.at_ns),
        "flux",
        True,
        a.seq,
        a.cut or None,
    )


def deployment(event: Deployed) -> Row:
    """The parameters of the query `deployment`."""
    return (
        event.deployment,
        event.function,
        timestamp(event.at_ns),
        event.runtime,
        event.entry,
        to_json(event.config),
        to_json(event.manifest),
        event.bundle,
        to_json(event.engine),
        event.git_commit,
        event.git_dirty,
    )


def surroundings(event: Surroundings) -> Row:
    """The parameters of the query `surroundings`."""
    return event.id, to_json(event.bounds), to_json(event.env_names), event.sealed


def function(event: Deployed) -> Row:
    """The parameters of the query `function`."""
    return (
        event.function,
        event.deployment,
        event.runtime,
        event.route,
        event.method,
        to_json(event.config),
        timestamp(event.at_ns),
    )


def snapshot(value: str) -> tuple[int, int, list[int]]:
    """A pg_snapshot's text (`xmin:xmax:xip,xip`) as asyncpg sends it. Raises ValueError where it is none."""
    xmin, xmax, running = value.split(":")
    return int(xmin), int(xmax), [int(xid) for xid in running.split(",") if xid]


def _text(value: str | None) -> str | None:
    return None if value is None else text(value)


def _nothing(data: bytes | None) -> str | None:
    return None
