"""The spans a function opens itself (`ctx.trace.span`), made real and nested by the guest's own numbers.

One per execution, owned by Recording.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import orjson
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, Status, StatusCode, Tracer

from flux import semconv

MOST_SPANS = 10_000
"""Spans that one execution's function may open; further ones are counted."""
_PLAIN = (str, bool, int, float)


class Place(NamedTuple):
    """Where in the trace something happens: the context to start spans in, and the id of its span."""

    context: Context
    span_id: str | None


class GuestSpans:
    """Guest spans of one execution.

    Args:
        context: holds the function span, parent of what the guest opens outermost.
        tracer: makes the spans.

    Attributes:
        left_out: spans beyond MOST_SPANS, which are not made; what happens in one belongs to the function
            span.
    """

    __slots__ = ("_context", "_full_at", "_open", "_places", "_root", "_tracer", "left_out")

    def __init__(self, context: Context, tracer: Tracer) -> None:
        self._tracer = tracer
        self._context = context
        self._root: Place | None = None
        self._places: dict[int, Place] = {}
        self._open: dict[int, Span] = {}
        self._full_at: int | None = None
        self.left_out = 0

    def at(self, n: int | None) -> Place:
        """The place of the guest span numbered `n`; of the function span where `n` is None or unknown.

        A span that has ended remains the place of what the guest still does in its name.
        """
        found = None if n is None else self._places.get(n)
        if found is None:
            found = self._root = self._root or _place(self._context)
        return found

    def start(
        self, n: int, parent: int | None, name: str, attributes: Mapping[str, Any] | None
    ) -> str | None:
        """Open span `n` inside span `parent`; gives its id, or None where there are too many."""
        if len(self._places) >= MOST_SPANS:
            self._full_at = self._full_at or n
            self.left_out += 1
            return None
        context = self.at(parent).context
        span = self._tracer.start_span(
            name, context, attributes=_attributes(attributes) if attributes else None
        )
        place = self._places[n] = _place(trace.set_span_in_context(span, context))
        self._open[n] = span
        return place.span_id

    def end(self, n: int, error_type: str | None = None, message: str = "") -> bool:
        """End span `n`, in error if `error_type` is given. False: no such span is open."""
        span = self._open.pop(n, None)
        if span is None:
            return self._full_at is not None and n >= self._full_at
        if error_type is not None:
            span.set_status(Status(StatusCode.ERROR, message))
            span.set_attribute(semconv.ERROR_TYPE, error_type)
            span.add_event(
                "exception", {semconv.EXCEPTION_TYPE: error_type, semconv.EXCEPTION_MESSAGE: message}
            )
        span.end()
        return True


def _place(context: Context) -> Place:
    where = trace.get_current_span(context).get_span_context()
    return Place(context, format(where.span_id, "016x") if where.is_valid else None)


def _attributes(given: Mapping[str, Any]) -> dict[str, Any]:
    """Values OpenTelemetry can't hold become their JSON; nulls are left out."""
    kept: dict[str, Any] = {}
    for key, value in given.items():
        if isinstance(value, _PLAIN):
            kept[key] = value
        elif isinstance(value, list) and value and all(type(item) is type(value[0]) for item in value):
            kept[key] = value if isinstance(value[0], _PLAIN) else _json(value)
        elif value is not None:
            kept[key] = _json(value)
    return kept


def _json(value: Any) -> str:
    """JSON text; orjson refuses integers beyond 64 bits and nesting beyond some 250 levels."""
    try:
        return orjson.dumps(value).decode()
    except TypeError:
        try:
            return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        except RecursionError:
            return "[nested too deeply]"
