"""A span as a row: a cheap tuple while a request waits, a row for COPY later.

`encode` runs where the span ends (Flux: before the response leaves), so it only picks values up: ids as
hex, times as nanoseconds, attributes as a dict. What `flux.spans` takes is made of it where time is cheaper
(`binary.row`). The tuple holds nothing but str, int, float, bool, None, bytes, lists and dicts, so that
msgpack and JSON can carry it.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Any, cast

import orjson
from opentelemetry.attributes import BoundedAttributes
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan

SpanRow = tuple[Any, ...]
"""(span_id, trace_id, parent_span_id, name, kind, start_ns, duration_ns, status, status_message,
attributes, events, links, scope, resource_id, scope_version, scope_schema_url, trace_state, origin).

kind is 0..4 (internal, server, client, producer, consumer); status 0..2 (unset, ok, error); events are
[name, time_ns, attributes or None]; links are [trace_id, span_id, attributes or None, trace_state or None].
Foreign spans may lack a resource (None). The last four have no column: who sends the span on to others
needs them. `origin` is what the span's recorder says of its nearest remote ancestor (`origin_flags` of the
span), or None. Rows written by older versions end at the resource.
"""

SPAN_ID, TRACE_ID, PARENT, NAME, START_NS, ATTRIBUTES, RESOURCE, ORIGIN = 0, 1, 2, 3, 5, 9, 13, 17

COLUMNS = (
    "request_id",
    "day",
    "span_id",
    "trace_id",
    "parent_span_id",
    "name",
    "kind",
    "start_time",
    "start_ns",
    "duration_ns",
    "status",
    "status_message",
    "attributes",
    "events",
    "links",
    "scope",
    "resource_id",
)
KINDS = ("INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER")
STATUSES = ("UNSET", "OK", "ERROR")
NUL = "\u2400"
"""What stands for U+0000, which Postgres holds in no text: the visible symbol for it."""

_PROPERTIES = (
    *("attributes", "context", "end_time", "events", "instrumentation_scope", "kind", "links", "name"),
    *("parent", "resource", "start_time", "status"),
)
_COPYABLE = (BoundedAttributes, dict)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LONE = re.compile("[\ud800-\udfff]")
_PLAIN_CLASSES: dict[type[Any], bool] = {}
_interned: dict[int, tuple[Resource, str]] = {}


def encode(span: ReadableSpan) -> SpanRow:
    """The span as it stands now.

    A span that has not ended has a duration of 0, and so has one whose clock was set back before its end. The
    attributes of one that has ended may be the span's own: they are not to be changed. What a subclass's
    properties say is what counts; a redacting exporter hands on such spans.

    Raises:
        AttributeError, TypeError, ValueError: it is not as the SDK makes spans (`odd.encode` takes those).
    """
    if not _PLAIN_CLASSES.get(type(span)) and not _is_plain(type(span)):
        return _by_properties(span)
    # Past the properties: each is a call, and those of the last three wrap and copy.
    context: Any = span._context
    parent, status, scope = span._parent, span._status, span._instrumentation_scope
    start, end = span._start_time or 0, span._end_time
    state = context.trace_state
    attributes, events, links = span._attributes, span._events, span._links
    return (
        f"{context.span_id:016x}",
        f"{context.trace_id:032x}",
        None if parent is None else f"{parent.span_id:016x}",
        span._name,
        span._kind._value_,
        start,
        0 if end is None else max(end - start, 0),
        status.status_code._value_,
        status.description,
        attributes._dict
        if type(attributes) is BoundedAttributes and attributes._immutable
        else _plain(attributes),
        [[event.name, event.timestamp, _plain(event.attributes)] for event in span.events]
        if events
        else None,
        [
            [
                f"{link.context.trace_id:032x}",
                f"{link.context.span_id:016x}",
                _plain(link.attributes),
                link.context.trace_state.to_header() or None,
            ]
            for link in span.links
        ]
        if links
        else None,
        None if scope is None else scope.name,
        resource_id(span._resource),
        None if scope is None else scope.version or None,
        None if scope is None else scope.schema_url or None,
        state.to_header() if state else None,
        getattr(span, "origin_flags", None),
    )


def _by_properties(span: ReadableSpan) -> SpanRow:
    context, parent, status = span.context, span.parent, span.status
    scope, resource, start, end = span.instrumentation_scope, span.resource, span.start_time, span.end_time
    if context is None or start is None:
        raise ValueError("a span without its ids or its start")
    return (
        f"{context.span_id:016x}",
        f"{context.trace_id:032x}",
        None if parent is None else f"{parent.span_id:016x}",
        span.name,
        span.kind.value,
        start,
        0 if end is None else max(end - start, 0),
        status.status_code.value,
        status.description,
        dict(span.attributes or {}),
        [[event.name, event.timestamp, dict(event.attributes or {})] for event in span.events] or None,
        [
            [
                f"{link.context.trace_id:032x}",
                f"{link.context.span_id:016x}",
                dict(link.attributes or {}),
                link.context.trace_state.to_header() or None,
            ]
            for link in span.links
        ]
        or None,
        None if scope is None else scope.name,
        resource_id(resource),
        None if scope is None else scope.version or None,
        None if scope is None else scope.schema_url or None,
        context.trace_state.to_header() or None,
        getattr(span, "origin_flags", None),
    )


def _is_plain(kind: type[Any]) -> bool:
    """Whether the properties of a span's class are ReadableSpan's own, so say what the fields hold."""
    plain = (
        issubclass(kind, ReadableSpan)
        and all(getattr(kind, name) is getattr(ReadableSpan, name) for name in _PROPERTIES)
        and not hasattr(kind, "__getattr__")
        and kind.__getattribute__ is object.__getattribute__
    )
    if plain and len(_PLAIN_CLASSES) < 64:
        _PLAIN_CLASSES[kind] = True
    return plain


def resource_id(resource: Resource) -> str:
    """The md5 by which `flux.resources` knows a resource."""
    known = _interned.get(id(resource))
    if known is not None and known[0] is resource:
        return known[1]
    if len(_interned) >= 256:
        _interned.clear()
    identity = hashlib.md5(resource_json(resource.attributes).encode(), usedforsecurity=False).hexdigest()
    _interned[id(resource)] = (resource, identity)
    return identity


def resource_json(attributes: Mapping[str, Any]) -> str:
    """Canonical JSON of a resource's attributes: keys sorted."""
    return to_json(dict(sorted(attributes.items(), key=lambda item: str(item[0]))))


def timestamp(ns: int) -> datetime:
    """Nanoseconds since the epoch as a datetime in UTC, microseconds."""
    return _EPOCH + timedelta(microseconds=ns // 1000)


def day_of(ns: int) -> date:
    """The UTC day of a time in nanoseconds since the epoch."""
    return _day(ns // 86_400_000_000_000)


@lru_cache(maxsize=64)
def _day(days: int) -> date:
    return date(1970, 1, 1) + timedelta(days=days)


def text(value: str) -> str:
    """`value` as Postgres can hold it: U+0000 becomes U+2400, half a surrogate pair U+FFFD."""
    if value.isascii():
        return value.replace("\0", NUL) if "\0" in value else value
    return _LONE.sub("\ufffd", value.replace("\0", NUL))


def to_json(value: Any) -> str:
    """`json_bytes` as text."""
    return json_bytes(value).decode()


def json_bytes(value: Any) -> bytes:
    """JSON that jsonb takes: text cleaned as in `text`, NaN and infinities as strings, bytes as {"$bytea":
    base64}.
    """
    try:
        data = orjson.dumps(value, default=_default)
    except (TypeError, UnicodeEncodeError, RecursionError):
        return _careful(value)
    if (b"\\" in data and b"\\u0000" in data) or (b"null" in data and _has_no_json(value)):
        return _careful(value)
    return data


def _careful(value: Any) -> bytes:
    return json.dumps(clean(value), ensure_ascii=False, allow_nan=False).encode()


def _has_no_json(value: Any) -> bool:
    """Whether there is a NaN or an infinity in `value`, which orjson turns to null."""
    if isinstance(value, float):
        return not math.isfinite(value)
    if isinstance(value, Mapping):
        return any(_has_no_json(member) for member in value.values())
    return isinstance(value, list | tuple) and any(_has_no_json(member) for member in value)


def clean(value: Any, depth: int = 0) -> Any:
    """`value` with everything in it made fit for JSON and for jsonb; what has no JSON form becomes its
    text.
    """
    if isinstance(value, str):
        return text(value)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        # Decimal digits of a great one cost the square of their number, and Python refuses them.
        return value if abs(value) < 10**1000 else hex(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if depth > 200:
        return "[too deep]"
    if isinstance(value, Mapping):
        return {clean_key(key): clean(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [clean(item, depth + 1) for item in value]
    if isinstance(value, bytes | bytearray | memoryview):
        return {"$bytea": base64.b64encode(value).decode()}
    try:
        return text(str(value))
    except Exception:  # a foreign value may raise anything
        return f"[a {type(value).__name__} that can't be read]"


def clean_key(key: Any) -> str:
    """A member's name made fit for jsonb."""
    cleaned = clean(key, 200)
    return cleaned if isinstance(cleaned, str) else str(cleaned)


def _default(value: Any) -> Any:
    if isinstance(value, bytes | bytearray | memoryview):
        return {"$bytea": base64.b64encode(value).decode()}
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError


def _plain(attributes: Mapping[str, Any] | None) -> dict[str, Any]:
    if not attributes:
        return {}
    return cast(dict[str, Any], attributes.copy()) if isinstance(attributes, _COPYABLE) else dict(attributes)
