"""Traces made by hand, for comparing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flux.shapes.record import CallFailure, Failure, HostCall, LogLine, Mutation, Request, Span, Trace

AT = "2026-11-27T20:00:00.000000+00:00"


def trace(
    request_id: str = "a" * 32,
    *,
    input: Any = None,
    output: Any = None,
    status: int = 200,
    error: Failure | None = None,
    calls: Sequence[HostCall] = (),
    mutations: Sequence[Mutation] = (),
    logs: Sequence[str] = (),
    spans: Sequence[Span] = (),
    query: dict[str, Any] | None = None,
    params: dict[str, Any] | None = None,
    deployment: str = "d1",
    function: str = "orders",
) -> Trace:
    """An execution of `orders`."""
    return Trace(
        request_id=request_id,
        trace_id=request_id,
        trigger="http",
        function=function,
        deployment=deployment,
        method="POST",
        path="/orders",
        status=status,
        outcome="ok" if error is None else "error",
        started_at=AT,
        duration_ms=1.0,
        error=error,
        replay_of=None,
        parent_request_id=None,
        job_id=None,
        job_attempt=None,
        count=1,
        route="/orders",
        warnings=[],
        span_id=None,
        node=None,
        guest=None,
        invocation=1,
        client=None,
        client_request_id=None,
        record="all",
        request=Request(
            method="POST", url="/orders", headers={}, query=query or {}, params=params or {}, body=input
        ),
        input=input,
        output=output,
        output_kind="json",
        answered_ms=None,
        response_headers={},
        body_size=None,
        output_size=None,
        spans=list(spans),
        host_calls=list(calls),
        mutations=list(mutations),
        logs=[
            LogLine(
                seq=at,
                at=AT,
                level="info",
                message=message,
                fields=None,
                span_id=None,
                request_id=request_id,
                trace_id=None,
                function=function,
            )
            for at, message in enumerate(logs)
        ],
        children=[],
    )


def call(seq: int, op: str, arguments: Any, result: Any = None, error: CallFailure | None = None) -> HostCall:
    """A call that was answered."""
    return HostCall(
        seq=seq,
        op=op,
        arguments=arguments,
        result=result,
        error=error,
        status="done",
        started=seq,
        delivered=seq,
        at=AT,
        span_id=None,
        xid=None,
        snapshot=None,
        duration_ms=1.0,
        parent_span_id=None,
        tx=None,
        first_n=None,
        last_n=None,
        arguments_size=None,
        result_size=None,
    )


def insert(seq: int, table: str, data: dict[str, Any], row: dict[str, Any]) -> HostCall:
    """`db.query` of an INSERT that returned `row`."""
    arguments = {"table": table, "operation": "insert", "data": data}
    return call(seq, "db.query", arguments, {"rows": [row], "count": 1})


def sql(seq: int, text: str, params: list[Any] | None = None, rows: Any = None) -> HostCall:
    """`db.sql`."""
    return call(seq, "db.sql", {"text": text, "params": params or []}, {"rows": rows or []})


def row(seq: int, table: str, op: str, key: Any, before: Any, after: Any, n: int = 0) -> Mutation:
    """A row that call `seq` changed."""
    return Mutation(
        table=table,
        key=key,
        op=op,
        before=before,
        after=after,
        changed=[],
        at=AT,
        request_id="a" * 32,
        span_id=None,
        rolled_back=False,
        actor=None,
        application_name=None,
        origin="flux",
        xid="1",
        n=n or seq,
        seq=seq,
        not_recorded=None,
    )


def span(identity: str, parent: str | None, name: str, ms: float = 1.0, **attributes: Any) -> Span:
    """A span; spans start in the order of their ids."""
    return Span(
        span_id=identity,
        parent_span_id=parent,
        name=name,
        kind="INTERNAL",
        start_time=AT,
        duration_ms=ms,
        status="UNSET",
        attributes=attributes,
        events=[],
        links=[],
        status_message=None,
        trace_id="t",
        scope="s",
        start_ns=int(identity, 36),
    )
