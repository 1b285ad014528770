"""A span into a row, through msgpack, and back: what the official encoder makes of both is the same."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from flux.otlp.limits import Limits
from flux.otlp.spans import Spans
from flux.recorder.processor import RecordProcessor
from flux.recorder.telemetry import RecordingProvider
from flux_postgres_exporter import rows
from tests.collector import attributes
from tests.integration.drain.recorded import recorder

RESOURCE = Resource({"service.name": "test", "list": ["a", "b"], "n": 7})


@pytest.fixture
def ended(tmp_path: Any) -> list[ReadableSpan]:
    """A remote caller's child with all that a span can hold, its child, and one without a parent."""
    tracer = RecordingProvider(RecordProcessor(recorder(tmp_path / "spool")), RESOURCE).get_tracer(
        "scope", "1.2", "https://opentelemetry.io/schemas/1.11.0"
    )
    remote = SpanContext(
        0xAB << 120, 0xCD << 56, True, TraceFlags(0), TraceState([("vendor", "1"), ("b", "2")])
    )
    context = trace.set_span_in_context(trace.NonRecordingSpan(remote))
    parent = tracer.start_span(
        "parent",
        context,
        SpanKind.CONSUMER,
        {"text": "ä\0b", "int": -(2**63), "float": 0.5, "yes": True, "list": ["a", "b"], "many": [1, 2]},
        [Link(SpanContext(3, 4, True, TraceFlags(1)), {"why": "pushed"})],
        start_time=1_700_000_000_123_456_789,
    )
    parent.add_event("exception", {"exception.type": "E", "at": [1.5]}, timestamp=1_700_000_000_123_456_790)
    parent.set_status(Status(StatusCode.ERROR, "went wrong"))
    child = tracer.start_span("child", trace.set_span_in_context(parent, context), SpanKind.CLIENT)
    child.end()
    parent.end()
    alone = tracer.start_span("alone", context=trace.set_span_in_context(trace.INVALID_SPAN))
    alone.set_status(Status(StatusCode.OK))
    alone.end()
    return [parent, child, alone]  # type: ignore[list-item]


def through(spans: Spans, ended: list[ReadableSpan]) -> list[ReadableSpan]:
    """The spans as they come out of the spool."""
    spans.learn(rows.resource_id(RESOURCE), rows.resource_json(RESOURCE.attributes))
    encoded = msgspec.msgpack.encode([rows.encode(span) for span in ended])
    return [spans.span(row) for row in msgspec.msgpack.decode(encoded, type=list[tuple[Any, ...]])]


def sorted_proto(ended: list[ReadableSpan]) -> Any:
    request = encode_spans(ended)
    for group in request.resource_spans:
        group.resource.attributes.sort(key=lambda item: item.key)
    return request


def test_what_is_sent_is_what_the_official_exporter_would_have_sent_of_the_live_span(
    ended: list[ReadableSpan],
) -> None:
    assert sorted_proto(through(Spans(Limits()), ended)) == sorted_proto(ended)


def test_the_caller_s_flags_reach_every_descendant(ended: list[ReadableSpan]) -> None:
    assert [rows.encode(span)[rows.ORIGIN] for span in ended] == [0x100, 0x000, None]


def test_limits_cut_what_is_sent_and_count_it(ended: list[ReadableSpan]) -> None:
    limits = Limits(attributes=2, length=1, events=0, links=0)
    request = encode_spans(through(Spans(limits), ended[:1]))
    (span,) = request.resource_spans[0].scope_spans[0].spans
    assert attributes(span.attributes) == {"text": "ä", "int": -(2**63)}
    assert (span.dropped_attributes_count, span.dropped_events_count, span.dropped_links_count) == (4, 1, 1)


def test_a_row_of_an_older_version_has_no_more_than_it_says(ended: list[ReadableSpan]) -> None:
    old = rows.encode(ended[0])[: rows.RESOURCE + 1]
    (span,) = encode_spans([Spans(Limits()).span(old)]).resource_spans[0].scope_spans[0].spans
    assert (span.name, span.trace_state, span.flags) == ("parent", "", 0x100)


def test_an_integer_over_64_bits_is_sent_as_text() -> None:
    cut = Limits().cut({"big": 2**63, "in": [2**64], "of": {"a": -(2**63) - 1}}, None)
    assert dict(cut) == {"big": str(2**63), "in": [str(2**64)], "of": {"a": str(-(2**63) - 1)}}
