"""What an expression can name of an execution, and how it is read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from flux.shapes.record import HostCall, Json, Span, Trace

Test = Callable[[Trace], Json]

_OF_EXECUTION: Final = (
    "function",
    "trigger",
    "method",
    "path",
    "route",
    "status",
    "outcome",
    "deployment",
    "request_id",
)
_OF_ERROR: Final = ("type", "message", "file", "line", "column")
_OF_SPAN: Final = ("duration", "count", "status", "attributes")
_OF_CALL: Final = ("count", "duration", "error")
ROOTS: Final = (
    *_OF_EXECUTION,
    "duration",
    "error",
    "input",
    "output",
    "params",
    "query",
    "headers",
    "body",
    "span",
    "call",
    "rows",
    "log",
    "warnings",
)

HINTS: Final = {
    "error": f"`error` has: {', '.join(_OF_ERROR)}.",
    "span": f"Write `span.NAME.` and one of: {', '.join(_OF_SPAN)}.",
    "call": f"Write `call.OP.` and one of: {', '.join(_OF_CALL)}; for example call.fetch.count.",
    "rows": "Write `rows.TABLE`.",
    "log": "Write `log.error`, `log.warn`, `log.info` or `log.debug`.",
}


def reader(root: str, steps: list[str | int]) -> Test | None:
    """What reads a path from a trace; None where it names nothing."""
    if root in _OF_EXECUTION and not steps:
        return lambda trace: getattr(trace, root)
    if root in ("duration", "duration_ms") and not steps:
        return lambda trace: trace.duration_ms
    if root == "warnings" and not steps:
        return lambda trace: len(trace.warnings)
    if root in ("input", "output"):
        return lambda trace: _at(getattr(trace, root), steps)
    if root in ("params", "query", "headers", "body"):
        named = [step.lower() if root == "headers" and isinstance(step, str) else step for step in steps]
        return lambda trace: _at(getattr(trace.request, root), named)
    names = [step for step in steps if isinstance(step, str)]
    if len(names) != len(steps):
        return None
    return _of_parts(root, names)


def _of_parts(root: str, names: list[str]) -> Test | None:
    match root, names:
        case "error", []:
            return lambda trace: None if trace.error is None else msgspec.to_builtins(trace.error)
        case "error", [field] if field in _OF_ERROR:
            return lambda trace: None if trace.error is None else getattr(trace.error, field)
        case "rows", [*table] if table:
            name = ".".join(table)
            return lambda trace: sum(row.table == name and not row.rolled_back for row in trace.mutations)
        case "log", [level]:
            return lambda trace: sum(line.level == level for line in trace.logs)
        case "span", [*name, member] if name and member in _OF_SPAN[:3]:
            return lambda trace: _of_spans(
                [span for span in trace.spans if span.name == ".".join(name)], member
            )
        case "span", [name, "attributes", *attribute] if attribute:
            return lambda trace: next(
                (span.attributes.get(".".join(attribute)) for span in trace.spans if span.name == name), None
            )
        case "call", [*op, member] if op and member in _OF_CALL:
            return lambda trace: _of_calls(
                [call for call in trace.host_calls if call.op == ".".join(op)], member
            )
    return None


def _of_spans(spans: Sequence[Span], member: str) -> Json:
    if member == "count":
        return len(spans)
    if member == "duration":
        return max((span.duration_ms for span in spans), default=None)
    return (
        "ERROR"
        if any(span.status == "ERROR" for span in spans)
        else next((span.status for span in spans), None)
    )


def _of_calls(calls: Sequence[HostCall], member: str) -> Json:
    if member == "count":
        return len(calls)
    if member == "duration":
        return max((call.duration_ms for call in calls if call.duration_ms is not None), default=None)
    return next((call.error.type for call in calls if call.error is not None), None)


def _at(value: Json, steps: Sequence[str | int]) -> Json:
    for step in steps:
        if isinstance(value, dict):
            value = value.get(str(step))
        elif (
            isinstance(value, list)
            and str(step).lstrip("-").isdigit()
            and -len(value) <= int(step) < len(value)
        ):
            value = value[int(step)]
        else:
            return None
    return value
