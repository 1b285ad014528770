"""The record's tracer makes the spans that the SDK's would."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any, ClassVar

import pytest
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from flux.recorder.context import with_execution
from flux.recorder.recorder import Recorder
from flux.recorder.redaction import Redaction
from flux.recorder.seal import Sealer
from flux.recorder.telemetry import setup
from flux.recorder.tracer import RecordingTracer
from flux.spool.writer import Spool
from tests.integration.drain.recorded import opened


@pytest.fixture
def provider(tmp_path: Path) -> Iterator[TracerProvider]:
    spool = Spool.create(tmp_path, "a" * 32, limit=2**24)
    recorder = Recorder(spool, Sealer(bytes(32)), Redaction((), ()))
    made = setup(recorder, {"service.name": "test"}, everywhere=False)
    yield made
    made.shutdown()
    recorder.close()


def _both(provider: TracerProvider) -> tuple[RecordingTracer, Any]:
    ours, theirs = provider.get_tracer("scope", "1"), TracerProvider.get_tracer(provider, "scope", "1")
    assert isinstance(ours, RecordingTracer)
    assert not isinstance(theirs, RecordingTracer)
    return ours, theirs


def _use(tracer: Any, parent: Context, **more: Any) -> Span:
    span = tracer.start_span("name", context=parent, start_time=1_000, **more)
    span.set_attribute("later", 5)
    span.set_attribute("list", ["a", "b"])
    span.add_event("happened", {"n": 1}, timestamp=1_500)
    span.set_status(Status(StatusCode.ERROR, "no"))
    span.end(2_000)
    span.set_attribute("too late", 1)
    assert isinstance(span, Span)
    return span


@pytest.mark.parametrize("links", [[], [Link(SpanContext(5, 6, is_remote=True))]])
def test_the_spans_of_an_execution_are_in_its_time_though_the_wall_clock_is_set_back(
    provider: TracerProvider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: list[Link]
) -> None:
    start, ticks = 1_800_000_000_000_000_000, iter(range(1_000, 100_000, 1_000))
    spool = Spool.create(tmp_path / "own", "b" * 32, limit=2**24)
    recorder = Recorder(spool, Sealer(bytes(32)), Redaction((), ()), ticks=ticks.__next__)
    execution = opened(recorder, started_ns=start)
    monkeypatch.setattr("flux.recorder.context.time_ns", lambda: 1)
    monkeypatch.setattr("flux.recorder.tracer.time_ns", lambda: 1)
    tracer = provider.get_tracer("scope", "1")
    context = with_execution(Context(), execution)
    span: Any = tracer.start_span("inside", context=context, links=links)
    span.add_event("happened")
    span.end()
    times = [span.start_time, span.events[0].timestamp, span.end_time]
    assert times == sorted(times)
    assert start < times[0] < times[2] < start + 100_000
    outside: Any = tracer.start_span("outside", context=Context(), links=links)
    outside.end()
    assert outside.start_time == 1
    recorder.close()


@pytest.mark.parametrize("flags", [0, 1, 3])
def test_a_span_is_what_the_sdk_would_have_made(provider: TracerProvider, flags: int) -> None:
    remote = SpanContext(1 << 100, 1 << 40, is_remote=True, trace_flags=TraceFlags(flags))
    parent = trace.set_span_in_context(trace.NonRecordingSpan(remote), Context())
    ours, theirs = (
        _use(tracer, parent, kind=SpanKind.SERVER, attributes={"a": "b", "c": 1.5, "d": True})
        for tracer in _both(provider)
    )
    for name in (
        "name", "kind", "parent", "start_time", "end_time", "attributes", "resource", "instrumentation_scope",
    ):  # fmt: skip
        assert getattr(ours, name) == getattr(theirs, name), name
    assert ours.status.description == theirs.status.description
    assert [event.name for event in ours.events] == [event.name for event in theirs.events]
    assert ours.__dict__.keys() >= theirs.__dict__.keys()
    mine, other = ours.get_span_context(), theirs.get_span_context()
    assert (mine.trace_id, mine.trace_flags, mine.is_remote) == (
        other.trace_id, other.trace_flags, other.is_remote,
    )  # fmt: skip
    assert mine.span_id != other.span_id
    assert "too late" not in (ours.attributes or {})


@pytest.mark.parametrize("more", [{}, {"record_exception": False}, {"set_status_on_exception": False}])
@pytest.mark.parametrize("error", [None, ValueError("no"), KeyboardInterrupt()])
def test_a_current_span_is_what_the_sdks_would_be(
    provider: TracerProvider, error: BaseException | None, more: dict[str, bool]
) -> None:
    seen = []
    for tracer in _both(provider):
        with (
            pytest.raises(type(error)) if error is not None else nullcontext(),
            tracer.start_as_current_span("name", kind=SpanKind.CLIENT, attributes={"a": 1}, **more) as span,
        ):
            assert trace.get_current_span() is span
            span.set_attributes({"b": 2, "c": [1]})
            if error is not None:
                raise error
        assert trace.get_current_span() is trace.INVALID_SPAN
        assert isinstance(span, Span)
        assert span.end_time is not None
        said = [{**(event.attributes or {}), "exception.stacktrace": ""} for event in span.events]
        seen.append((dict(span.attributes or {}), span.status.status_code, span.status.description, said))
    assert seen[0] == seen[1]


def test_a_span_may_stay_open_or_be_around_a_function(provider: TracerProvider) -> None:
    made = []
    for tracer in _both(provider):
        with tracer.start_as_current_span("open", end_on_exit=False) as span:
            pass
        assert span.end_time is None
        span.end()

        @tracer.start_as_current_span("around")
        def around() -> Any:
            return trace.get_current_span()

        @tracer.start_as_current_span("around later")
        async def later() -> Any:
            return trace.get_current_span()

        made.append([(found.name, found.end_time is None) for found in (around(), asyncio.run(later()))])
    assert made[0] == made[1] == [("around", False), ("around later", False)]


def test_a_root_span_has_ids_of_its_own(provider: TracerProvider) -> None:
    ours, theirs = (tracer.start_span("root", Context()) for tracer in _both(provider))
    assert ours.get_span_context().is_valid
    assert ours.parent is None
    assert ours.get_span_context().trace_flags == theirs.get_span_context().trace_flags


def test_links_and_odd_attributes_take_the_sdks_way(provider: TracerProvider) -> None:
    link = Link(SpanContext(1, 2, is_remote=False))
    tracer, _ = _both(provider)
    span: Any = tracer.start_span("x", Context(), attributes={"a": ["b"]}, links=[link])
    assert len(span.links) == 1
    assert span.attributes == {"a": ("b",)}


def test_other_processors_see_every_span(provider: TracerProvider) -> None:
    class Listener(SpanProcessor):
        seen: ClassVar[list[ReadableSpan]] = []

        def on_end(self, span: ReadableSpan) -> None:
            self.seen.append(span)

    provider.add_span_processor(Listener())
    tracer, _ = _both(provider)
    tracer.start_span("heard", Context()).end()
    assert [span.name for span in Listener.seen] == ["heard"]
