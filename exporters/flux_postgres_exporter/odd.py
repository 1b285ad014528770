"""Spans that are not as the SDK makes them: of another class, with odd times, names or values. Called by the
exporter; pure.

One such span must not take its batch along, nor be lost: what it says is stored as far as the columns can
hold it, and its attribute `flux.odd` says what could not be.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from flux_postgres_exporter import rows

ODD = "flux.odd"
"""The attribute that names what of a span was changed, and what it was."""
EARLIEST_NS = 946_684_800 * 10**9
"""The year 2000: no span is older. A time in seconds or milliseconds is taken for one in 1970."""
AHEAD_NS = 86_400 * 10**9
"""How far a span's clock may be ahead."""

_MOST = 2**63
_SHOWN = 80
"""Characters of an odd value that are told."""


def encode(span: Any, now_ns: int) -> rows.SpanRow | None:
    """A span's row, which `binary.row` takes whatever the span is; None where it has no ids.

    Args:
        span: what an exporter is handed: a ReadableSpan, or what behaves as one.
        now_ns: the time, nanoseconds since the epoch; in place of one that can't be.
    """
    try:
        row = rows.encode(span)
        if _is_sound(row, now_ns):
            return row
    except Exception:  # a foreign property may raise anything
        pass
    return _Mended(span, now_ns).row()


def _is_sound(row: rows.SpanRow, now_ns: int) -> bool:
    """Whether each column takes what the row has for it. JSON is made fit where it is written."""
    span_id, trace_id, parent, name, kind, start, duration, status, message, attributes = row[:10]
    scope, resource = row[12:14]
    return (
        type(start) is int
        and EARLIEST_NS <= start <= now_ns + AHEAD_NS
        and type(duration) is int
        and 0 <= duration < _MOST
        and type(name) is str
        and type(kind) is int
        and 0 <= kind < len(rows.KINDS)
        and type(status) is int
        and 0 <= status < len(rows.STATUSES)
        and (message is None or type(message) is str)
        and type(attributes) is dict
        and (scope is None or type(scope) is str)
        and (resource is None or type(resource) is str)
        and len(span_id) == 16
        and len(trace_id) == 32
        and int(span_id, 16) > 0
        and int(trace_id, 16) > 0
        and (parent is None or len(parent) == 16)
    )


class _Mended:
    """Reads a span one property after the other, and notes what is odd about each."""

    def __init__(self, span: Any, now_ns: int) -> None:
        self._span = span
        self._now = now_ns
        self._odd: list[str] = []

    def row(self) -> rows.SpanRow | None:
        """The row; None where there are no ids to store it under."""
        context = self._read("context") or _safely(self._span.get_span_context)
        trace_id, span_id = _hex(context, "trace_id", 32), _hex(context, "span_id", 16)
        if trace_id is None or span_id is None:
            return None
        parent = self._read("parent")
        parent_id = None if parent is None else _hex(parent, "span_id", 16)
        if parent is not None and parent_id is None:
            self._note("parent", parent)
        start, duration = self._times()
        status = self._read("status")
        code = self._number("status", getattr(status, "status_code", None), len(rows.STATUSES))
        message = getattr(status, "description", None)
        scope = self._read("instrumentation_scope")
        name = self._name()
        kind = self._number("kind", self._read("kind"), len(rows.KINDS))
        events = [event for event in map(self._event, self._list("events")) if event is not None]
        links = [link for link in map(self._link, self._list("links")) if link is not None]
        attributes = self._attributes("attributes", self._read("attributes"))
        resource = self._read("resource")
        if self._odd:
            attributes = {**attributes, ODD: "; ".join(self._odd)}
        return (
            span_id,
            trace_id,
            parent_id,
            name,
            kind,
            start,
            duration,
            code,
            None if message is None else _text(message),
            attributes,
            events or None,
            links or None,
            _member(scope, "name"),
            None if resource is None else _safely(lambda: rows.resource_id(resource)),
            _member(scope, "version"),
            _member(scope, "schema_url"),
            _state(context),
            None,
        )

    def _read(self, name: str) -> Any:
        try:
            return getattr(self._span, name, None)
        except Exception as error:
            self._odd.append(f"{name} can't be read: {_text(error)}")
            return None

    def _note(self, name: str, value: Any) -> None:
        self._odd.append(f"{name} was {_text(value)}")

    def _name(self) -> str:
        name = self._read("name")
        if isinstance(name, str):
            return str(name)
        self._note("name", name)
        return "unnamed" if name is None else _text(name)

    def _times(self) -> tuple[int, int]:
        """Start and duration in nanoseconds. A time that no span can have is the time of the export."""
        start, end = self._time("start_time"), self._time("end_time")
        if start is None or not EARLIEST_NS <= start <= self._now + AHEAD_NS:
            if start is not None:
                self._note("start_time", start)
            start = self._now if end is None or not EARLIEST_NS <= end <= self._now else end
        duration = 0 if end is None else max(end - start, 0)
        if duration >= _MOST:
            self._note("end_time", end)
            duration = 0
        return start, duration

    def _time(self, name: str) -> int | None:
        value = self._read(name)
        if type(value) is int or (value is None and name == "end_time"):
            return value
        self._note(name, value)
        if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
            return int(value)
        return None

    def _number(self, name: str, value: Any, count: int) -> int:
        """Which of `count` an enumeration's member is; 0 where it is none."""
        number = getattr(value, "value", value)
        if type(number) is int and 0 <= number < count:
            return number
        self._note(name, value)
        return 0

    def _list(self, name: str) -> list[Any]:
        value = self._read(name)
        if value is None:
            return []
        try:
            return list(value)
        except Exception:
            self._note(name, value)
            return []

    def _attributes(self, name: str, value: Any) -> dict[str, Any]:
        if value is None:
            return {}
        try:
            return {_text(key): item for key, item in dict(value).items()}
        except Exception:
            self._note(name, value)
            return {}

    def _event(self, event: Any) -> list[Any] | None:
        name, time = getattr(event, "name", None), getattr(event, "timestamp", None)
        if not isinstance(name, str) or type(time) is not int:
            self._note("an event", event)
            if name is None:
                return None
        return [
            _text(name),
            time,
            self._attributes("an event's attributes", getattr(event, "attributes", None)),
        ]

    def _link(self, link: Any) -> list[Any] | None:
        context = getattr(link, "context", None)
        trace_id, span_id = _hex(context, "trace_id", 32), _hex(context, "span_id", 16)
        if trace_id is None or span_id is None:
            self._note("a link", link)
            return None
        attributes = self._attributes("a link's attributes", getattr(link, "attributes", None))
        return [trace_id, span_id, attributes, _state(context)]


def _hex(context: Any, name: str, digits: int) -> str | None:
    value = getattr(context, name, None)
    return f"{value:0{digits}x}" if type(value) is int and 0 < value < 16**digits else None


def _state(context: Any) -> str | None:
    try:
        state = context.trace_state.to_header()
    except Exception:
        return None
    return state if isinstance(state, str) and state else None


def _member(value: Any, name: str) -> str | None:
    found = getattr(value, name, None)
    return None if not found else _text(found)


def _text(value: Any) -> str:
    """A value in a few words."""
    if isinstance(value, str):
        return str(value)
    try:
        text = str(value)
    except Exception:
        text = f"a {type(value).__name__} that can't be read"
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"


def _safely(read: Callable[[], Any]) -> Any:
    try:
        return read()
    except Exception:
        return None
