"""The record as it is told: typed, frozen structs whose fields are the keys of the JSON.

The CLI, the HTTP API, the console and Python programs get these same objects; `flux.query.to_json` writes
them. The names are the public contract: fields may be added, never renamed. What stands here:

    Execution                       one line of `tail`
      Trace                         the whole of it
        Request, Span, HostCall, Mutation, LogLine, Trace (what it invoked)
    ColumnBlame                     one column of `state blame`

Times are RFC 3339 with microseconds and offset, durations are milliseconds, ids lowercase hex. What is the
user's own (an input, an output, arguments, row images) is a JSON value as `payload` reads it: a number that a
reader of JSON would round is given as its decimal string.
"""

from __future__ import annotations

from typing import Any

import msgspec

Json = Any
"""A JSON value: None, bool, int, float, Decimal, str, list, or dict with str keys."""


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """Why an execution failed.

    Attributes:
        type, message: of the error that was thrown, or of the refusal.
        file, line, column: where, relative to the project and from 1; None where that is not known.
        stack: as text.
        fields: of a refused input, what is wrong with each.
    """

    type: str
    message: str
    file: str | None = None
    line: int | None = None
    column: int | None = None
    stack: str | None = None
    fields: Json = None


class CallFailure(msgspec.Struct, frozen=True, kw_only=True):
    """Why a host call failed.

    Attributes:
        type, message: as the function saw them; for databases, `type` is Postgres' condition name.
        detail: what the other side said besides, by name (`sqlstate`, `constraint`, `status`...).
    """

    type: str
    message: str
    detail: dict[str, Json] = {}


class Execution(msgspec.Struct, frozen=True, kw_only=True):
    """One execution, as lists show it.

    Attributes:
        trigger: `http`, `job`, `cron`, `invoke` or `replay`; None where its record is not there (yet).
        outcome: `ok`, `error`, `rejected` or `interrupted`.
        status: the HTTP status it answered; None where it did not answer.
        duration_ms: None where it never ended.
        error: what it failed of; None where it did not.
        warnings: what is to be known about it, one sentence each.
        count: how many requests it stands for; more than 1 where many were rejected alike.
    """

    request_id: str
    trace_id: str | None
    trigger: str | None
    function: str | None
    deployment: str | None
    method: str | None
    path: str | None
    status: int | None
    outcome: str
    started_at: str
    duration_ms: float | None
    error: Failure | None
    replay_of: str | None
    parent_request_id: str | None
    job_id: str | None
    job_attempt: int | None
    count: int
    route: str | None
    warnings: list[str]


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """The HTTP request as it came.

    Attributes:
        headers, query: name -> value, or the list of values where a name came several times.
        params: what the route's placeholders matched.
        body: as received: JSON where it is JSON, else text, else `{"$bytea": base64}`.
    """

    method: str | None
    url: str | None
    headers: dict[str, Json]
    query: dict[str, Json]
    params: dict[str, Json]
    body: Json


class Span(msgspec.Struct, frozen=True, kw_only=True):
    """One OpenTelemetry span. `start_ns` is its exact start, nanoseconds since the epoch."""

    span_id: str
    parent_span_id: str | None
    name: str
    kind: str
    start_time: str
    duration_ms: float
    status: str
    attributes: dict[str, Json]
    events: list[Json]
    links: list[Json]
    status_message: str | None
    trace_id: str
    scope: str | None
    start_ns: int


class HostCall(msgspec.Struct, frozen=True, kw_only=True):
    """One effect that the function asked of the host.

    Attributes:
        seq: its number in the execution, from a series it shares with log lines.
        status: `done`, `unknown` (it was sent, its answer never seen) or `abandoned`.
        started, delivered: numbers of the node's one counter, so calls of all executions are in one order.
        tx: the `seq` of the `db.begin` it ran in.
        first_n, last_n: `n` of the first and the last row that it changed.
        arguments_size, result_size: full length in bytes where not all was kept, else None.
    """

    seq: int
    op: str
    arguments: Json
    result: Json
    error: CallFailure | None
    status: str
    started: int
    delivered: int | None
    at: str
    span_id: str | None
    xid: str | None
    snapshot: str | None
    duration_ms: float | None
    parent_span_id: str | None
    tx: int | None
    first_n: int | None
    last_n: int | None
    arguments_size: int | None
    result_size: int | None


class Mutation(msgspec.Struct, frozen=True, kw_only=True):
    """One row changed.

    Attributes:
        table: without `public.`.
        key: the primary key's columns and values; None where the table has none.
        op: `INSERT`, `UPDATE`, `DELETE` or `TRUNCATE`.
        before, after: the row's images; None where it was not there.
        changed: the columns whose value changed.
        request_id: None where it was done outside of Flux.
        span_id, seq: of the host call that did it, where one is known.
        rolled_back: True where it was undone.
        actor, application_name: the database user and program that did it.
        n: its place in the order of all of the database's mutations.
        not_recorded: how many further rows its statement changed that were too many to record, or None.
    """

    table: str
    key: Json
    op: str
    before: Json
    after: Json
    changed: list[str]
    at: str
    request_id: str | None
    span_id: str | None
    rolled_back: bool
    actor: str | None
    application_name: str | None
    origin: str
    xid: str | None
    n: int
    seq: int | None
    not_recorded: int | None


class LogLine(msgspec.Struct, frozen=True, kw_only=True):
    """One line that a function logged, with the execution it belongs to."""

    seq: int
    at: str
    level: str
    message: str
    fields: Json
    span_id: str | None
    request_id: str
    trace_id: str | None
    function: str | None


class Trace(Execution, frozen=True, kw_only=True):
    """One execution with all that it did.

    Attributes:
        span_id: of its root span.
        record: how much was recorded: `all`, `errors`, `none`; `spans` where there is no execution, only
            spans that a program exported.
        input, output: what the handler got and what it returned.
        output_kind: `json` or `response`.
        answered_ms: from its start to its answer, where it went on after that (ctx.waitUntil), else None.
        body_size, output_size: full length in bytes where not all was kept, else None.
        children: the executions that it invoked, and the jobs it pushed, in order of their start.
    """

    span_id: str | None
    node: str | None
    guest: str | None
    invocation: int | None
    client: str | None
    client_request_id: str | None
    record: str | None
    request: Request
    input: Json
    output: Json
    output_kind: str | None
    answered_ms: float | None
    response_headers: dict[str, Json]
    body_size: int | None
    output_size: int | None
    spans: list[Span]
    host_calls: list[HostCall]
    mutations: list[Mutation]
    logs: list[LogLine]
    children: list[Trace]

    @property
    def execution(self) -> Execution:
        """The same without what it did."""
        return Execution(**{name: getattr(self, name) for name in Execution.__struct_fields__})


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """A change of one column that was rolled back."""

    value: Json
    request_id: str | None
    at: str
    span_id: str | None


class ColumnBlame(msgspec.Struct, frozen=True, kw_only=True):
    """Who last set one column of a row.

    Attributes:
        value: as it is now; of a row that is gone, as it last was.
        request_id, at, span_id, actor, application_name, origin, op: of the mutation that set it. All are
            None where no recorded one explains the value: it is older than capture, or was written around
            the triggers.
        rolled_back_attempt: the latest attempt since then to set it that was undone.
        before_capture: True where no recorded mutation explains the value.
    """

    value: Json
    request_id: str | None
    at: str | None
    span_id: str | None
    rolled_back_attempt: Attempt | None
    actor: str | None
    application_name: str | None
    origin: str | None
    op: str | None
    before_capture: bool


Blame = dict[str, ColumnBlame]
"""`state blame`: by column, in the table's order."""
