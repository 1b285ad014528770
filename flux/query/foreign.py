"""A trace of which there are only spans: a program that Flux does not run exported them. Pure."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl

from flux import semconv
from flux.query.cause import first_leaf, is_error, span_error
from flux.query.from_rows import pairs
from flux.shapes.record import Failure, Request, Span, Trace

ALONE = "spans"
"""What `record` says of such a trace."""


def trace(trace_id: str, spans: list[Span], *, more: bool = False) -> Trace:
    """The trace, told as far as its spans say it: there is no input, no host call, no change of a row.

    Its root is the earliest span whose parent is not there. It failed where a root did; also where any span
    did, unless the root says explicitly that all is well.

    Args:
        trace_id: of the trace, which stands in place of a request_id.
        spans: at least one, in order of their start.
        more: there are further ones.
    """
    tops = roots(spans)
    root, error = tops[0], _error(spans, tops)
    end = max(span.start_ns + int(span.duration_ms * 1e6) for span in spans)
    method, path = _said(root, semconv.HTTP_REQUEST_METHOD), _said(root, semconv.URL_PATH)
    status = root.attributes.get(semconv.HTTP_RESPONSE_STATUS_CODE)
    query = parse_qsl(_said(root, semconv.URL_QUERY) or "", keep_blank_values=True)
    return Trace(
        request_id=trace_id,
        trace_id=trace_id,
        trigger=None,
        function=None,
        deployment=None,
        method=method,
        path=path,
        status=status if isinstance(status, int) and not isinstance(status, bool) else None,
        outcome="ok" if error is None else "error",
        started_at=root.start_time,
        duration_ms=(end - root.start_ns) / 1e6,
        error=error,
        replay_of=None,
        parent_request_id=None,
        job_id=None,
        job_attempt=None,
        count=1,
        route=_said(root, semconv.HTTP_ROUTE),
        warnings=[f"Only its first {len(spans):,} spans are shown."] if more else [],
        span_id=root.span_id,
        node=None,
        guest=None,
        invocation=None,
        client=None,
        client_request_id=None,
        record=ALONE,
        request=Request(
            method=method,
            url=_said(root, semconv.URL_FULL),
            headers={},
            query=pairs(query),
            params={},
            body=None,
        ),
        input=None,
        output=None,
        output_kind=None,
        answered_ms=None,
        response_headers={},
        body_size=None,
        output_size=None,
        spans=spans,
        host_calls=[],
        mutations=[],
        logs=[],
        children=[],
    )


def roots(spans: list[Span]) -> list[Span]:
    """The spans whose parent is not among them, the earliest first; of a circle its earliest."""
    known = {span.span_id for span in spans}
    found = [span for span in spans if span.parent_span_id not in known]
    return found or spans[:1]


def _error(spans: list[Span], tops: list[Span]) -> Failure | None:
    """What the trace failed of; None where it did not."""
    failing = next((top for top in tops if is_error(top)), None)
    if failing is None and any(top.status.upper() == "OK" for top in tops):
        return None
    leaf = first_leaf(spans)
    if leaf is None:
        return None
    kind, message = span_error(leaf)
    return Failure(type=kind, message=message)


def _said(span: Span, name: str) -> str | None:
    value: Any = span.attributes.get(name)
    return value if isinstance(value, str) and value else None
