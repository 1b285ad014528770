"""Which failure in an execution's record is the one that ended it. Pure: works on a trace shape.

A function may try, catch, and go on; so not every failed call is a cause. The cause is the first failed host
call whose error is the one that surfaced (same type and message, or quoted in the error that did); where no
call failed so, the first failing span without a failing child whose error surfaced; where the handler itself
threw, the handler. A function that answered 400 or more itself did not fail, but refused: of that the cause
is the first failing span, in it or in what it invoked.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import dataclass, field
from typing import Any

from flux import semconv
from flux.shapes.record import CallFailure, Failure, HostCall, Span, Trace

ITSELF = "Response"
"""The type of a cause that is the answer alone: nothing before it failed."""
SHORTEST_QUOTE = 8
"""Characters a message must have before finding it inside another counts."""


@dataclass(frozen=True)
class Cause:
    """What ended an execution.

    Attributes:
        type, message: of the error itself.
        span_id: the span it happened in; None where none is recorded.
        document: the trace shape it happened in: the execution's, or an invoked one's.
        call: the host call it happened in, or None.
        chain: the spans from the root to the failing one; through invoked executions.
        earlier: failed calls that the function survived.
    """

    type: str
    message: str
    span_id: str | None
    document: Trace
    call: HostCall | None = None
    chain: list[Span] = field(default_factory=list)
    earlier: list[HostCall] = field(default_factory=list)


def find(document: Trace) -> Cause | None:
    """The cause of a trace shape's failure or refusal; None where it went well."""
    error = document.error
    failed = [call for call in document.host_calls if call.error is not None]
    if document.outcome == "ok":
        return _refusal(document, failed) if (document.status or 0) >= 400 else None
    if document.outcome in ("rejected", "interrupted"):
        return _outright(document, error, failed)
    surfaced = [call for call in failed if _surfaces(call.error, error)]
    if surfaced:
        call = min(surfaced, key=_finished)
        below = _in_child(document, call)
        chain = _chain_to(document, call)
        others = [other for other in failed if other.seq < call.seq and other not in surfaced]
        if below is not None:
            return Cause(
                below.type,
                below.message,
                below.span_id,
                below.document,
                below.call,
                chain + below.chain,
                others,
            )
        assert call.error is not None
        return Cause(call.error.type, call.error.message, call.span_id, document, call, chain, others)
    leaf = first_leaf(document.spans, error, {call.span_id for call in failed})
    if error is not None:
        span_id = leaf.span_id if leaf is not None else None
        return Cause(
            error.type,
            error.message,
            span_id,
            document,
            _call_of(document, leaf),
            _chain(document, span_id),
            failed,
        )
    return _at(document, leaf, failed) if leaf is not None else _itself(document, failed)


def _refusal(document: Trace, failed: list[HostCall]) -> Cause:
    leaf = first_leaf(document.spans)
    if leaf is not None:
        return _at(document, leaf, failed)
    for child in document.children:
        call = next((call for call in document.host_calls if call.span_id == child.span_id), None)
        if call is None or child.trigger == "job":
            continue
        below = find(child) or _refusal(child, [])
        if below.type != ITSELF:
            below.chain[:0] = _chain_to(document, call)
            return below
    return _itself(document, failed)


def _at(document: Trace, leaf: Span, failed: list[HostCall]) -> Cause:
    """A failing span as the cause, where no error surfaced."""
    kind, message = span_error(leaf)
    call = _call_of(document, leaf)
    others = [other for other in failed if other is not call]
    if call is not None and call.error is not None:
        kind, message = call.error.type, call.error.message
    elif call is not None and not message and isinstance(call.arguments, dict):
        url = call.arguments.get("url")
        message = f"{leaf.name} {url} answered {kind}." if url else ""
    return Cause(kind, message, leaf.span_id, document, call, _chain(document, leaf.span_id), others)


def _itself(document: Trace, failed: list[HostCall]) -> Cause:
    """Nothing in it failed, and yet it said so."""
    message = f"The function answered {document.status} itself." if document.status else "It failed."
    root = document.span_id
    return Cause(ITSELF, message, root, document, None, _chain(document, root), failed)


def span_error(span: Span) -> tuple[str, str]:
    """A failing span's error type and message, from its exception event, its attributes or its status."""
    attributes: dict[str, Any] = dict(span.attributes)
    for event in span.events:
        if isinstance(event, dict) and event.get("name") == "exception":
            said = event.get("attributes")
            attributes |= said if isinstance(said, dict) else {}
    kind = attributes.get(semconv.EXCEPTION_TYPE) or attributes.get(semconv.ERROR_TYPE) or "error"
    message = attributes.get(semconv.EXCEPTION_MESSAGE) or span.status_message or ""
    return str(kind), str(message)


def is_error(span: Span) -> bool:
    """Whether a span ended with an error status."""
    return str(span.status).upper() == "ERROR"


def _outright(document: Trace, error: Failure | None, failed: list[HostCall]) -> Cause:
    root = document.span_id
    if document.outcome == "interrupted":
        unknown = [call for call in document.host_calls if call.status == "unknown"]
        message = "The process that ran it ended before it did."
        call = unknown[-1] if unknown else None
        if error is not None and error.message:
            message = error.message
        return Cause("interrupted", message, call.span_id if call else root, document, call, [], failed)
    kind = error.type if error else "rejected"
    message = error.message if error else f"The request was answered {document.status}."
    return Cause(kind, message, root, document, None, _chain(document, root), failed)


def _surfaces(call_error: CallFailure | None, error: Failure | None) -> bool:
    """Whether the error that ended the execution is a call's: the same, or one that quotes it."""
    if error is None or call_error is None:
        return False
    message = call_error.message
    if call_error.type == error.type and (not message or message in error.message):
        return True
    if len(message) < SHORTEST_QUOTE:
        return False
    return message in error.message or message in (error.stack or "")


def _finished(call: HostCall) -> tuple[float, int]:
    delivered = call.delivered
    return (float("inf") if delivered is None else delivered, call.seq)


def _in_child(document: Trace, call: HostCall) -> Cause | None:
    """Where a failed call is an invoke: the cause inside the execution it invoked."""
    if call.op != "invoke" or call.error is None:
        return None
    request_id = call.error.detail.get("request_id")
    child = next((child for child in document.children if child.request_id == request_id), None)
    return None if child is None else find(child)


def first_leaf(
    spans: list[Span], error: Failure | None = None, survived: Container[str | None] = ()
) -> Span | None:
    """The earliest-ending failing span without a failing child.

    Where an error surfaced, spans of calls that the function survived don't count, nor do, if any carries the
    error that surfaced, those that don't carry it.
    """
    failing = [span for span in spans if is_error(span)]
    if error is not None:
        failing = [span for span in failing if span.span_id not in survived] or failing
    parents = {span.parent_span_id for span in failing}
    leaves = [span for span in failing if span.span_id not in parents]
    if error is not None:
        leaves = [leaf for leaf in leaves if span_error(leaf)[0] == error.type] or leaves
    return min(
        leaves,
        key=lambda span: (span.start_ns + int(span.duration_ms * 1e6), -span.start_ns),
        default=None,
    )


def _call_of(document: Trace, span: Span | None) -> HostCall | None:
    """The host call that a span is of."""
    if span is None:
        return None
    return next((call for call in document.host_calls if call.span_id == span.span_id), None)


def _chain_to(document: Trace, call: HostCall) -> list[Span]:
    """The spans from the root down to a call.

    An `invoke` has its span in the execution that it began; the end of a transaction is in the transaction's.
    """
    if call.span_id is None and call.tx is not None:
        begun = next((each for each in document.host_calls if each.seq == call.tx), None)
        if begun is not None and begun.span_id is not None:
            return _chain(document, begun.span_id)
    return _chain(document, call.span_id) or _chain(document, call.parent_span_id)


def _chain(document: Trace, span_id: str | None) -> list[Span]:
    """The spans from the root down to `span_id`."""
    by_id = {span.span_id: span for span in document.spans}
    chain: list[Span] = []
    while span_id in by_id and len(chain) < 100:
        span = by_id.pop(span_id)
        chain.append(span)
        span_id = span.parent_span_id
    return chain[::-1]


def every(document: Trace) -> Iterable[Trace]:
    """A trace shape and all executions invoked inside it; not the jobs it pushed, which run on their own."""
    yield document
    for child in document.children:
        if child.trigger != "job":
            yield from every(child)
