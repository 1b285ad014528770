"""What an execution writes down, and when; whose a span is."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from flux.errors import SpoolError, SpoolFull
from flux.record.call import CallError, HostCall, Outcome
from flux.record.events import Arrival, End, Event, Failure, Intent, Resource, Spans
from flux.record.identity import new_id
from flux.recorder.context import current_execution, with_call, with_execution
from flux.recorder.execution import Execution
from flux.recorder.payloads import LONGEST
from flux.recorder.recorder import Recorder
from flux.recorder.redaction import Redaction
from flux.recorder.seal import Sealer
from flux.recorder.telemetry import setup
from flux.spool.reader import Record, SpoolReader
from flux.spool.writer import Spool

KEY = bytes(range(32))
SECRET = "hunter2-hunter2"


@pytest.fixture
def recorder(tmp_path: Path) -> Iterator[Recorder]:
    """Withholds `password`, and knows one secret once a test adds it."""
    made = Recorder(Spool.create(tmp_path, new_id(), limit=2**30), Sealer(KEY), Redaction(["password"]))
    yield made
    made.close()


@pytest.fixture
def provider(recorder: Recorder) -> TracerProvider:
    """The provider of that recorder, not the process's."""
    return setup(recorder, {"service.name": "test"}, everywhere=False)


def opened(recorder: Recorder, **changes: object) -> Execution:
    arrival = Arrival(new_id(), "2026-01-02", "t" * 32, "s" * 16, None, None, "http", "f", None, 1, "all")
    for name, value in changes.items():
        setattr(arrival, name, value)
    return recorder.open(arrival, seed=b"s" * 32, now_ns=7)


def events(recorder: Recorder) -> list[Event]:
    reader, found = SpoolReader(recorder.journal.spool.folder), []
    decoder = msgspec.msgpack.Decoder(Event)
    while batch := reader.read():
        found += [decoder.decode(item.data) for item in batch if isinstance(item, Record)]
    reader.close()
    return found


def raw(recorder: Recorder) -> bytes:
    return b"".join(path.read_bytes() for path in recorder.journal.spool.folder.glob("*.seg"))


def ended(recorder: Recorder) -> End:
    (end,) = (event for event in events(recorder) if isinstance(event, End))
    return end


def test_each_call_is_written_with_the_next_intent_or_the_end(recorder: Recorder) -> None:
    execution = opened(recorder)
    calls = [HostCall(op, b'{"n":%d}' % n, n) for n, op in enumerate(("db.sql", "fetch", "sleep"), 1)]
    execution.start(calls[0], None)
    execution.finish(calls[0], Outcome(result=b"1"))
    execution.start(calls[1], "p" * 16)
    execution.intend(calls[1])
    execution.finish(calls[1], Outcome(result=b"2"))
    execution.start(calls[2], None)
    execution.end(status=200, outcome="ok")
    arrival, intent, end = events(recorder)
    assert isinstance(arrival, Arrival)
    assert isinstance(intent, Intent)
    assert isinstance(end, End)
    assert [(call.seq, call.status, call.arguments) for call in intent.calls] == [
        (1, "done", b'{"n":1}'),
        (2, "unknown", b'{"n":2}'),
    ]
    assert [(call.seq, call.status, call.arguments, call.result) for call in end.calls] == [
        (2, "done", b"", b"2"),
        (3, "abandoned", b'{"n":3}', None),
    ]
    assert end.calls[0].parent_span_id == "p" * 16


def test_started_and_delivered_come_from_one_counter_of_the_node(recorder: Recorder) -> None:
    one, two = opened(recorder), opened(recorder)
    first, second = HostCall("fetch", b"{}", 1), HostCall("fetch", b"{}", 1)
    one.start(first, None)
    two.start(second, None)
    two.finish(second, Outcome(result=b"{}"))
    one.finish(first, Outcome(result=b"{}"))
    for execution in (one, two):
        execution.end(status=200, outcome="ok")
    numbers = [
        (end.calls[0].started, end.calls[0].delivered) for end in events(recorder) if isinstance(end, End)
    ]
    assert numbers == [(1, 4), (2, 3)]


def test_calls_know_the_begin_they_are_in_by_its_seq(recorder: Recorder) -> None:
    execution = opened(recorder)
    execution.log(HostCall("log", b"{}", 1), "info", "takes seq 1", None, None)
    begin, inner = HostCall("db.begin", b"{}", 5), HostCall("db.sql", b"{}", 6, tx=5)
    execution.start(begin, None)
    execution.start(inner, None)
    execution.end(status=200, outcome="ok")
    assert [(call.seq, call.tx) for call in ended(recorder).calls] == [(2, None), (3, 2)]


def test_a_secret_is_nowhere_in_the_spool_and_sealed_where_it_was(
    recorder: Recorder, provider: TracerProvider
) -> None:
    recorder.journal.redaction.add_secret("PIN", "v3", SECRET)
    execution = opened(
        recorder, body=b'{"p":"%s"}' % SECRET.encode(), headers=[("x-note", SECRET)], url=f"/?k={SECRET}"
    )
    context = with_execution(Context(), execution)
    provider.get_tracer("t").start_span("s", context=context, attributes={"a": [SECRET], "b": SECRET})
    read = HostCall("secrets.get", b'{"key":"PIN"}', 1)
    execution.start(read, None)
    execution.finish(read, Outcome(result=json.dumps({"value": SECRET}).encode()))
    basic = base64.b64encode(f"me:{SECRET}".encode())
    sent = HostCall("fetch", b'{"url":"http://a/?k=%s"}' % SECRET.encode(), 2)
    execution.start(sent, None)
    execution.intend(sent)
    execution.finish(sent, Outcome(error=CallError("E", f"no {SECRET}", {"x": SECRET})))
    execution.log(HostCall("log", b"{}", 3), "info", f"it is {SECRET}", b'{"v":"%s"}' % basic, None)
    execution.warn(SECRET)
    execution.end(
        status=500, outcome="error", output=SECRET.encode(), error=Failure("E", SECRET, stack=SECRET)
    )
    assert SECRET.encode() not in raw(recorder)
    assert basic not in raw(recorder)
    found = events(recorder)
    sealer = Sealer(KEY)
    arrival = next(event for event in found if isinstance(event, Arrival))
    assert arrival.url == "/?k=[redacted:PIN]"
    assert sealer.open(arrival.sealed or b"") == {
        "seed": b"s" * 32,
        "now_ns": 7,
        "url": f"/?k={SECRET}",
        "headers": [["x-note", SECRET]],
        "body": b'{"p":"%s"}' % SECRET.encode(),
    }
    intent = next(event for event in found if isinstance(event, Intent))
    assert intent.calls[0].result == b'{"name":"PIN","version":"v3","found":true}'
    assert sealer.open(intent.calls[0].sealed or b"") == {"result": json.dumps({"value": SECRET}).encode()}
    end = ended(recorder)
    assert sealer.open(end.calls[0].sealed or b"") == {
        "arguments": sent.arguments,
        "error": {"type": "E", "message": f"no {SECRET}", "detail": {"x": SECRET}},
    }
    assert sealer.open(end.logs[0].sealed or b"")["message"] == f"it is {SECRET}"
    assert sealer.open(end.sealed or b"") == {
        "output": SECRET.encode(),
        "error": {"type": "E", "message": SECRET, "stack": SECRET},
    }
    assert end.spans[0][9] == {"a": ["[redacted:PIN]"], "b": "[redacted:PIN]"}


def test_a_secret_that_stood_as_a_bare_number_leaves_valid_json(recorder: Recorder) -> None:
    recorder.journal.redaction.add_secret("CARD", "v1", "4111111111111111")
    opened(recorder).end(status=200, outcome="ok", output=b'{"card":4111111111111111}')
    assert json.loads(ended(recorder).output or b"") == "[redacted]"


def test_configured_paths_are_withheld_in_all_payloads_and_the_query(recorder: Recorder) -> None:
    execution = opened(
        recorder,
        body=b'{"password":"a1"}',
        query="password=b1&x=1",
        url="/?password=c1&x=1",
        params={"password": "d1"},
    )
    call = HostCall("fetch", b'{"password":"e1"}', 1)
    execution.start(call, None)
    execution.finish(call, Outcome(result=b'{"password":"f1"}'))
    execution.log(HostCall("log", b"{}", 2), "info", "m", b'{"password":"g1"}', None)
    execution.end(
        status=200, outcome="ok", output=b'{"password":"h1"}', response_headers=[("Set-Cookie", "i1")]
    )
    data = raw(recorder)
    assert [
        text
        for text in ("a1", "b1", "c1", "d1", "e1", "f1", "g1", "h1", "i1")
        if f'"{text}"'.encode() in data
    ] == []
    assert execution.arrival.query == "password=[redacted]&x=1"
    sealed = Sealer(KEY).open(ended(recorder).sealed or b"")
    assert sealed == {"output": b'{"password":"h1"}', "response_headers": [["Set-Cookie", "i1"]]}


def test_a_form_is_withheld_by_its_fields_and_sealed_whole(recorder: Recorder) -> None:
    form = b"user=ada&password=hunter2"
    opened(recorder, headers=[("Content-Type", "application/x-www-form-urlencoded")], body=form)
    (arrival,) = (event for event in events(recorder) if isinstance(event, Arrival))
    assert arrival.body == b"user=ada&password=[redacted]"
    assert Sealer(KEY).open(arrival.sealed or b"")["body"] == form
    assert b"hunter2" not in raw(recorder)


def test_long_payloads_are_cut_and_marked_and_inputs_are_not(recorder: Recorder) -> None:
    recorder.journal.redaction.add_secret("PIN", "v1", SECRET)
    long = b"x" * (LONGEST - 5) + SECRET.encode() + b"y" * 100
    execution = opened(recorder, body=b"b" * (LONGEST + 1))
    call = HostCall("fetch", long, 1)
    execution.start(call, None)
    execution.finish(call, Outcome(result=long))
    execution.end(status=200, outcome="ok", output=long)
    arrival, end = events(recorder)[0], ended(recorder)
    assert isinstance(arrival, Arrival)
    assert len(arrival.body) == LONGEST + 1
    cut = b"x" * (LONGEST - 5) + b"[reda"
    assert (end.calls[0].arguments, end.calls[0].arguments_size) == (cut, len(long))
    assert (end.calls[0].result, end.calls[0].result_size) == (cut, len(long))
    assert (end.output, end.output_size) == (cut, len(long))


def test_spans_of_an_execution_are_written_with_its_end_open_ones_ended(
    recorder: Recorder, provider: TracerProvider
) -> None:
    tracer = provider.get_tracer("flux")
    root = tracer.start_span("POST /f")
    execution = opened(recorder)
    execution.adopt(root)
    context = with_execution(trace.set_span_in_context(root, Context()), execution)
    call = HostCall("db.sql", b"{}", 1)
    execution.start(call, None)
    inner = tracer.start_span("SELECT", context=with_call(context, call.seq))
    second = tracer.start_span("again", context=with_call(context, call.seq))
    second.end()
    inner.record_exception(ValueError("bad"))
    execution.finish(call, Outcome(result=b"{}"))
    root.end()
    execution.end(status=200, outcome="ok")
    execution.end(status=500, outcome="error")
    assert inner.is_recording() is False
    end = ended(recorder)
    names = {row[3]: row for row in end.spans}
    assert set(names) == {"POST /f", "SELECT", "again"}
    assert names["SELECT"][2] == names["POST /f"][0]
    assert names["SELECT"][9] == {"flux.call": 1}
    assert end.calls[0].span_id == names["SELECT"][0], "the first span under the call"
    (event,) = names["SELECT"][10]
    assert event[2]["exception.message"] == "bad"
    resources = [event for event in events(recorder) if isinstance(event, Resource)]
    assert [resource.id for resource in resources] == [names["SELECT"][13]]
    assert json.loads(resources[0].attributes)["service.name"] == "test"


def test_the_root_of_a_nested_execution_is_its_own(recorder: Recorder, provider: TracerProvider) -> None:
    tracer = provider.get_tracer("flux")
    outer = opened(recorder)
    call = HostCall("invoke", b"{}", 1)
    outer.start(call, None)
    root = tracer.start_span("invoke f", context=with_call(with_execution(Context(), outer), call.seq))
    inner = opened(recorder)
    inner.adopt(root)
    root.end()
    inner.end(status=200, outcome="ok")
    outer.end(status=200, outcome="ok")
    first, second = (event for event in events(recorder) if isinstance(event, End))
    assert [row[3] for row in first.spans] == ["invoke f"]
    assert first.spans[0][9] == {}
    assert second.spans == []


def test_spans_of_no_execution_or_after_its_end_are_written_in_batches(
    recorder: Recorder, provider: TracerProvider
) -> None:
    tracer = provider.get_tracer("flux")
    execution = opened(recorder)
    context = with_execution(Context(), execution)
    tracer.start_span("outside").end()
    execution.end(status=200, outcome="ok")
    tracer.start_span("late", context=context).end()
    provider.force_flush()
    names = [row[3] for event in events(recorder) if isinstance(event, Spans) for row in event.spans]
    assert names == ["outside", "late"]
    assert recorder.journal.loose == set()


def test_the_environment_turns_nothing_of_the_record_off(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "OTEL_SDK_DISABLED": "true",
        "OTEL_TRACES_SAMPLER": "always_off",
        "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "1",
        "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT": "1",
    }.items():
        monkeypatch.setenv(name, value)
    provider = setup(recorder, {}, everywhere=False)
    execution = opened(recorder)
    attributes = {f"k{n}": "long text" for n in range(300)}
    context = with_execution(Context(), execution)
    provider.get_tracer("t").start_span("s", context=context, attributes=attributes)
    execution.end(status=200, outcome="ok")
    assert ended(recorder).spans[0][9] == attributes


def test_exporters_beside_the_record_see_every_span(recorder: Recorder, provider: TracerProvider) -> None:
    beside = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(beside))
    execution = opened(recorder)
    provider.get_tracer("t").start_span("s", context=with_execution(Context(), execution))
    execution.end(status=200, outcome="ok")
    assert [span.name for span in beside.get_finished_spans()] == ["s"]


def test_current_execution_is_that_of_the_context(recorder: Recorder) -> None:
    assert current_execution() is None


def test_a_full_spool_refuses_the_arrival_and_nothing_runs(tmp_path: Path) -> None:
    recorder = Recorder(Spool.create(tmp_path, new_id(), limit=100), Sealer(KEY), Redaction())
    with pytest.raises(SpoolFull):
        opened(recorder, body=b"x" * 200)
    assert events(recorder) == []
    recorder.close()


def test_an_end_that_could_not_be_written_may_be_tried_again(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    execution = opened(recorder)

    def full(framed: bytes) -> None:
        raise SpoolFull("full")

    monkeypatch.setattr(recorder.journal.spool, "write", full)
    with pytest.raises(SpoolError):
        execution.end(status=200, outcome="ok")
    assert not execution.ended
    monkeypatch.undo()
    execution.end(status=503, outcome="error")
    assert ended(recorder).status == 503


def test_text_that_msgpack_refuses_is_cleaned_instead_of_lost(
    recorder: Recorder, provider: TracerProvider
) -> None:
    execution = opened(recorder)
    context = with_execution(Context(), execution)
    provider.get_tracer("t").start_span("s", context=context, attributes={"half": "\ud800", "big": 2**70})
    execution.end(status=500, outcome="error", error=Failure("E", "half \udc00"))
    end = ended(recorder)
    assert end.error is not None
    assert end.error.message == "half \ufffd"
    assert end.spans[0][9] == {"half": "\ufffd", "big": str(2**70)}
