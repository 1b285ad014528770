"""The tracer of the record: the SDK's own spans, made without what the record never uses.

The SDK's `start_span` asks a sampler that always says yes, checks limits that are unlimited, counts
for metrics that nobody reads, and cleans each attribute in a recursive function. That is half of
what recording a request costs. This tracer copies a prototype that the SDK made, sets what differs,
and hands plain attributes over as they are. What it doesn't know (odd attribute values, links)
takes the SDK's way.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from threading import Lock
from time import time_ns
from typing import Any, cast

from opentelemetry import trace as api
from opentelemetry.attributes import BoundedAttributes
from opentelemetry.context import Context, attach, detach, get_current
from opentelemetry.sdk.trace import Span, Tracer
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags
from opentelemetry.util import types

from flux.recorder.context import SPAN_KEY, now_in

_PLAIN = frozenset({str, int, float, bool})
_RECORDED = TraceFlags(TraceFlags.SAMPLED | TraceFlags.RANDOM_TRACE_ID)
_SAMPLED = TraceFlags(TraceFlags.SAMPLED)
_NO_STATE = api.TraceState()
_UNSET = Status(StatusCode.UNSET)
_RANDOM = int(TraceFlags.RANDOM_TRACE_ID)
_UNBOUNDED = dict(BoundedAttributes(immutable=False).__dict__)
_identity: Any = tuple.__new__
"""Makes a SpanContext of its members and its validity, which is known here."""


REMOTE_PARENT = 0x100
"""In `origin_flags`: the span's own parent is the remote one."""


class RecordedSpan(Span):
    """An SDK span; only its making and its ending are shorter.

    Attributes:
        origin_flags: the trace flags of the nearest remote ancestor, with REMOTE_PARENT where that is the
            parent; None where the trace began here. Everything is recorded; who exports may have been asked
            to follow the caller's sampling.
    """

    origin_flags: int | None = None

    def set_attribute(self, key: str, value: Any) -> None:
        """As the SDK's; a plain value is not cleaned again."""
        attributes: Any = self._attributes
        if type(value) in _PLAIN and self._end_time is None and not attributes._immutable:
            attributes._dict[key] = value
        else:
            super().set_attribute(key, value)

    def set_attributes(self, attributes: Mapping[str, Any]) -> None:
        """Likewise."""
        for key, value in attributes.items():
            self.set_attribute(key, value)

    def end(self, end_time: int | None = None) -> None:
        """As the SDK's; the processor gets this span and not a copy, unless others listen."""
        processor: Any = self._span_processor
        if self._end_time is not None or processor._span_processors:
            super().end(self._now() if end_time is None else end_time)
            return
        self._end_time = self._now() if end_time is None else end_time
        attributes: Any = self._attributes
        attributes._immutable = True
        processor.on_end(self)

    def add_event(self, name: str, attributes: types.Attributes = None, timestamp: int | None = None) -> None:
        """As the SDK's, in the execution's time."""
        super().add_event(name, attributes, self._now() if timestamp is None else timestamp)

    def _now(self) -> int:
        execution = self.__dict__.get("flux_execution")
        return time_ns() if execution is None else execution.now()


class RecordingTracer(Tracer):
    """Makes RecordedSpans, for whoever asks the provider for a tracer.

    Args:
        tracer: the SDK's, of a provider whose sampler always records and whose limits are unset.
    """

    def __init__(self, tracer: Tracer) -> None:
        self.__dict__.update(tracer.__dict__)
        self._prototype: dict[str, Any] | None = None

    def start_span(
        self,
        name: str,
        context: Context | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Mapping[str, Any] | None = None,
        links: Sequence[Link] | None = None,
        start_time: int | None = None,
        record_exception: bool = True,
        set_status_on_exception: bool = True,
    ) -> api.Span:
        """Start a span; see `Tracer.start_span`. A dict of plain attributes is taken over, not copied."""
        within = get_current() if context is None else context
        around: Any = within.get(SPAN_KEY)
        if type(around) is not RecordedSpan:
            around = api.get_current_span(within)
        if start_time is None:
            start_time = now_in(within)
        if links or (attributes and not _PLAIN.issuperset(map(type, attributes.values()))):
            made = super().start_span(
                name, context, kind, attributes, links, start_time, record_exception, set_status_on_exception
            )
            made.__dict__["origin_flags"] = _origin(around, around.get_span_context())
            if isinstance(made, Span):
                made.__class__ = RecordedSpan  # it ends in its execution's time as the others do
            return made
        origin: int | None = None
        parent: SpanContext | None = around.get_span_context()
        if parent is None or not parent.is_valid:
            parent = None
            trace_id, flags, state = random.getrandbits(128) or 1, _RECORDED, _NO_STATE
        else:
            origin = _origin(around, parent)
            trace_id, flags, state = parent.trace_id, parent.trace_flags, parent.trace_state
            flags = _RECORDED if flags & _RANDOM else _SAMPLED
        identity = trace_id, random.getrandbits(64) or 1, False, flags, state, True
        span: Any = object.__new__(RecordedSpan)
        span.__dict__ = {
            **(self._prototype or self._make_prototype()),
            "origin_flags": origin,
            "_name": name,
            "_context": _identity(SpanContext, identity),
            "_parent": parent,
            "_kind": kind,
            "_lock": Lock(),
            "_attributes": _bounded({} if attributes is None else attributes),
            "_events": [],
            "_links": [],
            "_record_exception": record_exception,
            "_set_status_on_exception": set_status_on_exception,
            "_start_time": start_time,
        }
        processor: Any = self.span_processor
        processor.on_start(span, parent_context=within)
        return span  # type: ignore[no-any-return]

    def start_as_current_span(
        self,
        name: str,
        context: Context | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Mapping[str, Any] | None = None,
        links: Sequence[Link] | None = None,
        start_time: int | None = None,
        record_exception: bool = True,
        set_status_on_exception: bool = True,
        end_on_exit: bool = True,
    ) -> Any:
        """As the SDK's, without the generators that its context manager is made of."""
        given = (
            name,
            context,
            kind,
            attributes,
            links,
            start_time,
            record_exception,
            set_status_on_exception,
        )
        return _Current(self, given, end_on_exit)

    def _make_prototype(self) -> dict[str, Any]:
        """What all spans of this tracer have in common, from a span that the SDK made and no one sees."""
        made = cast(Any, Span).__new__(RecordedSpan)
        tracer = cast(Any, self)
        made.__init__(
            name="",
            context=None,
            resource=tracer.resource,
            sampler=tracer.sampler,
            span_processor=tracer.span_processor,
            instrumentation_info=tracer.instrumentation_info,
            limits=tracer._span_limits,
            instrumentation_scope=tracer._instrumentation_scope,
        )
        self._prototype = {**made.__dict__, "_status": _UNSET, "_end_time": None}
        return self._prototype


class _Current:
    """A span that is current while a block runs: what the API's `use_span` does. As a decorator it is the
    SDK's own.
    """

    __slots__ = ("_ends", "_given", "_span", "_token", "_tracer")

    def __init__(self, tracer: RecordingTracer, given: tuple[Any, ...], ends: bool) -> None:
        self._tracer = tracer
        self._given = given
        self._ends = ends

    def __call__(self, function: Any) -> Any:
        sdks = cast(Any, super(RecordingTracer, self._tracer)).start_as_current_span
        return sdks(*self._given, self._ends)(function)

    def __enter__(self) -> api.Span:
        self._span = span = self._tracer.start_span(*self._given)
        self._token = attach(api.set_span_in_context(span))
        return span

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        detach(self._token)
        span = self._span
        if isinstance(error, Exception) and span.is_recording():
            *_, record_exception, set_status = self._given
            if record_exception:
                span.record_exception(error)
            if set_status:
                span.set_status(Status(StatusCode.ERROR, f"{type(error).__name__}: {error}"))
        if self._ends:
            span.end()


def _origin(parent: api.Span, where: SpanContext) -> int | None:
    """`origin_flags` of a child of `parent`, whose context is `where`."""
    if where.is_remote:
        return where.trace_flags | REMOTE_PARENT
    inherited = getattr(parent, "origin_flags", None)
    return None if inherited is None else inherited & ~REMOTE_PARENT


def _bounded(attributes: Mapping[str, Any]) -> BoundedAttributes:
    """Attributes that nothing bounds, as the SDK makes them."""
    made: Any = object.__new__(BoundedAttributes)
    plain = attributes if isinstance(attributes, dict) else dict(attributes)
    made.__dict__ = {**_UNBOUNDED, "_dict": plain, "_lock": Lock()}
    return made  # type: ignore[no-any-return]
