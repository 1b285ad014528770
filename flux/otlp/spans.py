"""Rows of the spool made into the spans that the official exporters take: as they were ended, cut to the
limits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util import BoundedList
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from flux.otlp.limits import Limits
from flux.recorder.tracer import REMOTE_PARENT
from flux_postgres_exporter import rows

_KINDS = tuple(SpanKind)
_STATUSES = tuple(StatusCode)
_SAMPLED = TraceFlags(TraceFlags.SAMPLED)
_NO_STATE = TraceState()
_UINT64 = 2**64 - 1
_WIDTH = rows.ORIGIN + 1


class KnownResource(Resource):
    """A resource that is grouped by identity: the encoder hashes one for every span."""

    def __hash__(self) -> int:
        return id(self)

    def __eq__(self, other: object) -> bool:
        return self is other


_UNKNOWN = KnownResource({})


class Spans:
    """Makes spans of rows. One for all spools: equal resources and scopes are one object.

    Args:
        limits: what is left of each span.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._resources: dict[str, KnownResource] = {}
        self._scopes: dict[tuple[str | None, ...], InstrumentationScope] = {}

    def learn(self, identity: str, attributes: str) -> bool:
        """A resource, as the event of that name holds it. False: it is none."""
        if identity not in self._resources:
            try:
                self._resources[identity] = KnownResource(orjson.loads(attributes))
            except (orjson.JSONDecodeError, AttributeError, TypeError):
                return False
        return True

    def span(self, row: Sequence[Any]) -> ReadableSpan:
        """The span of a row.

        Raises:
            ValueError, TypeError, LookupError, AttributeError, ArithmeticError: it is no row of a span.
        """
        limits = self._limits
        (
            span_id, trace_id, parent_id, name, kind, start, duration, status, message, attributes, events,
            links, scope, resource, version, schema_url, state, origin,
        ) = (*row, *(None,) * (_WIDTH - len(row)))[:_WIDTH]  # fmt: skip
        trace = int(trace_id, 16)
        parent = None
        if parent_id is not None:
            remote = origin is not None and bool(origin & REMOTE_PARENT)
            parent = SpanContext(trace, int(parent_id, 16), remote, _SAMPLED)
        trace_state = TraceState.from_header([state]) if state else _NO_STATE
        return ReadableSpan(
            name=name,
            context=SpanContext(trace, int(span_id, 16), False, _SAMPLED, trace_state),
            parent=parent,
            resource=self._resource(resource),
            attributes=limits.cut(attributes, limits.attributes),
            events=_first(events, limits.events, self._event),
            links=_first(links, limits.links, self._link),
            kind=_KINDS[kind],
            status=Status(_STATUSES[status], message if _STATUSES[status] is StatusCode.ERROR else None),
            start_time=_time(start),
            end_time=_time(start + duration),
            instrumentation_scope=self._scope(scope, version, schema_url),
        )

    def _event(self, event: Sequence[Any]) -> Event:
        name, at, attributes = event
        return Event(name, self._limits.cut(attributes, self._limits.event_attributes), _time(at))

    def _link(self, link: Sequence[Any]) -> Link:
        trace_id, span_id, attributes, state = link
        where = SpanContext(
            int(trace_id, 16),
            int(span_id, 16),
            True,
            _SAMPLED,
            TraceState.from_header([state]) if state else _NO_STATE,
        )
        return Link(where, self._limits.cut(attributes, self._limits.link_attributes))

    def _resource(self, identity: str) -> KnownResource:
        """The resource; one that is not known (a spool whose first file was lost) has no attributes."""
        return self._resources.get(identity, _UNKNOWN)

    def _scope(
        self, name: str | None, version: str | None, schema_url: str | None
    ) -> InstrumentationScope | None:
        if name is None:
            return None
        key = (name, version, schema_url)
        found = self._scopes.get(key)
        if found is None:
            found = self._scopes[key] = InstrumentationScope(name, version, schema_url)
        return found


def _first(items: Sequence[Any] | None, count: int | None, make: Any) -> Sequence[Any]:
    if not items:
        return ()
    kept = items if count is None else items[:count]
    made = BoundedList.from_seq(None, [make(item) for item in kept])
    made.dropped = len(items) - len(kept)
    return made


def _time(ns: int) -> int:
    return min(max(ns, 0), _UINT64)
