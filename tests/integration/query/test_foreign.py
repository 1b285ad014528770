"""Traces of programs that Flux does not run: they come through the exporter, and there is no execution."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import Status, StatusCode

from flux.cli.render import trace as trace_page
from flux.cli.render import why as why_page
from flux.errors import Ambiguous, NotFound
from flux.query import Trace, to_json
from flux.query.reader import Reader
from flux_postgres_exporter import PostgresSpanExporter
from tests.integration.query.recorded import Record

NOW = datetime(2026, 3, 4, 12, tzinfo=UTC)


def _export(url: str, *, fail: bool = True, ok: bool = False) -> str:
    """A request handled by another program: three spans, the innermost failing. Returns the trace's id."""
    provider = TracerProvider(sampler=ALWAYS_ON, shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(PostgresSpanExporter(url)))
    tracer = provider.get_tracer("billing")
    attributes = {"http.request.method": "POST", "url.path": "/bills", "http.response.status_code": 502}
    with tracer.start_as_current_span("POST /bills", attributes=attributes) as root:
        with tracer.start_as_current_span("charge"), tracer.start_as_current_span("INSERT bills") as span:
            if fail:
                span.record_exception(ValueError("no such account"))
                span.set_status(Status(StatusCode.ERROR, "it failed"))
        if ok:
            root.set_status(Status(StatusCode.OK))
    provider.shutdown()
    return f"{root.get_span_context().trace_id:032x}"


@pytest.fixture
async def trace_id(database_url: str) -> str:
    return await asyncio.to_thread(_export, database_url)


async def test_trace_opens_a_trace_that_has_no_execution(reader: Reader, trace_id: str) -> None:
    document = await reader.trace(trace_id)
    assert (document.request_id, document.trace_id, document.trigger) == (trace_id, trace_id, None)
    assert (document.method, document.path, document.status) == ("POST", "/bills", 502)
    assert (document.outcome, document.record) == ("error", "spans")
    assert document.error is not None
    assert (document.error.type, document.error.message) == ("ValueError", "no such account")
    assert [span.name for span in document.spans] == ["POST /bills", "charge", "INSERT bills"]
    assert msgspec.json.decode(to_json(document), type=Trace) == document
    shown = "\n".join(line.plain for line in trace_page.page(document, 100, NOW))
    assert "✗ 502  POST /bills" in shown
    assert "   └─ INSERT bills" in shown
    assert "record   spans alone" in shown
    assert "input" not in shown


async def test_why_gives_the_span_that_failed(reader: Reader, trace_id: str) -> None:
    told = await reader.why(trace_id)
    assert told.root_cause is not None
    assert (told.root_cause.type, told.root_cause.message) == ("ValueError", "no such account")
    assert [step.name for step in told.chain] == ["POST /bills", "charge", "INSERT bills"]
    assert told.suggestions == []
    shown = "\n".join(line.plain for line in why_page.page(told, 100, NOW))
    assert shown.startswith("error[ValueError]: no such account")
    assert "← failed first" in shown
    assert "input" not in shown


async def test_the_first_digits_of_its_id_are_enough(reader: Reader, trace_id: str) -> None:
    assert await reader.resolve(trace_id[:8]) == trace_id
    assert await reader.logs(trace_id[:8]) == []
    with pytest.raises(NotFound, match="No execution and no trace"):
        await reader.trace("0000000000000001")


async def test_digits_that_several_traces_share_are_ambiguous(reader: Reader, record: Record) -> None:
    for trace in ("abcd0001" + "0" * 24, "abcd0002" + "0" * 24):
        await record.span(trace, "aa", None, "work", 0, 1, trace_id=trace)
    with pytest.raises(Ambiguous) as raised:
        await reader.trace("abcd")
    assert len(raised.value.candidates) == 2
    assert (await reader.trace("abcd0002")).spans[0].name == "work"


async def test_an_execution_is_found_by_the_first_digits_of_its_trace(reader: Reader, record: Record) -> None:
    trace = "abcd0003" + "0" * 24
    await record.execution("e" * 32, trace_id=trace)
    assert await reader.resolve("abcd0003") == "e" * 32
    # Spans of the same trace that belong to nothing in Flux don't stand before it.
    await record.span(trace, "aa", None, "client", 0, 1, trace_id=trace)
    assert await reader.resolve(trace) == "e" * 32


async def test_a_trace_over_midnight_is_whole(reader: Reader, record: Record, connection: Any) -> None:
    trace = "abcd0004" + "0" * 24
    days = (datetime.now(UTC) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(days=1)
    ago = record.now.timestamp() - (days * 86_400 - 1)
    await record.span(trace, "aa", None, "before", 0, 10_000, trace_id=trace, ago=ago)
    await record.span(trace, "bb", "aa", "after", 0, 1, trace_id=trace, ago=0)
    document = await reader.trace(trace)
    assert [span.name for span in document.spans] == ["before", "after"]
    assert document.duration_ms is not None
    assert document.duration_ms >= 10_000


@pytest.mark.parametrize(
    ("fail", "ok", "outcome"), [(False, False, "ok"), (True, True, "ok"), (True, False, "error")]
)
async def test_a_failure_that_the_root_got_over_is_none(
    reader: Reader, database_url: str, fail: bool, ok: bool, outcome: str
) -> None:
    trace = await asyncio.to_thread(_export, database_url, fail=fail, ok=ok)
    document = await reader.trace(trace)
    assert (document.outcome, document.error is None) == (outcome, outcome == "ok")
    told = await reader.why(trace)
    # 502 is what it answered all the same.
    assert (told.failed, told.refused) == (True, outcome == "ok")
    assert json.loads(to_json(told))["execution"]["outcome"] == outcome
