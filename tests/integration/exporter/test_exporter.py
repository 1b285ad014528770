"""Spans of an ordinary program in a Flux database, or in any other; Flux itself is not imported there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)

from flux_postgres_exporter import PostgresSpanExporter, rows

ROOT = Path(__file__).parents[3]


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """Reads what was exported."""
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


@pytest.fixture
def exporter(database_url: str) -> Iterator[PostgresSpanExporter]:
    """Into a database that Flux has migrated."""
    exporter = PostgresSpanExporter(database_url, timeout=5)
    yield exporter
    exporter.shutdown()


def spans(*made: dict[str, Any], name: str = "service") -> list[ReadableSpan]:
    """Ended spans, as the SDK makes them."""
    provider = TracerProvider(
        sampler=ALWAYS_ON, resource=Resource({"service.name": name}), shutdown_on_exit=False
    )
    tracer = provider.get_tracer("scope")
    found: list[ReadableSpan] = []
    for arguments in made:
        span = tracer.start_span(**{"name": "s", "context": Context(), **arguments})
        span.end()
        assert isinstance(span, ReadableSpan)
        found.append(span)
    return found


def under(trace_id: str, span_id: str) -> Context:
    """The context of a remote parent."""
    parent = SpanContext(int(trace_id, 16), int(span_id, 16), is_remote=True, trace_flags=TraceFlags(1))
    return set_span_in_context(NonRecordingSpan(parent), Context())


async def test_a_span_is_stored_whole(exporter: PostgresSpanExporter, connection: asyncpg.Connection) -> None:
    link = Link(SpanContext(5, 6, is_remote=False), {"why": "because"})
    (span,) = spans(
        {"name": "GET /", "kind": SpanKind.SERVER, "links": [link], "attributes": {"a": (1, 2), "b": True}}
    )
    provider = TracerProvider(shutdown_on_exit=False)
    live = provider.get_tracer("scope").start_span("failing", context=Context())
    live.record_exception(ValueError("bad"))
    live.set_status(Status(StatusCode.ERROR, "it failed"))
    live.end()
    assert isinstance(live, ReadableSpan)
    assert exporter.export([span, live]) is SpanExportResult.SUCCESS
    row = await connection.fetchrow("SELECT * FROM flux.spans WHERE name = 'GET /'")
    assert span.context is not None
    day = rows.day_of(span.start_time or 0)
    assert row["request_id"] == row["trace_id"] == f"{span.context.trace_id:032x}"
    assert (row["kind"], row["status"], row["scope"], row["day"]) == ("SERVER", "UNSET", "scope", day)
    assert (row["start_ns"], row["duration_ns"]) == (
        span.start_time,
        (span.end_time or 0) - (span.start_time or 0),
    )
    assert json.loads(row["attributes"]) == {"a": [1, 2], "b": True}
    assert json.loads(row["links"]) == [
        {"trace_id": f"{5:032x}", "span_id": f"{6:016x}", "attributes": {"why": "because"}}
    ]
    resource = await connection.fetchval(
        "SELECT attributes FROM flux.resources WHERE id = $1", row["resource_id"]
    )
    assert json.loads(resource) == {"service.name": "service"}
    failing = await connection.fetchrow("SELECT * FROM flux.spans WHERE name = 'failing'")
    assert (failing["status"], failing["status_message"]) == ("ERROR", "it failed")
    (event,) = json.loads(failing["events"])
    assert event["name"] == "exception"
    assert event["attributes"]["exception.message"] == "bad"


async def test_a_batch_sent_twice_is_stored_once(
    exporter: PostgresSpanExporter, connection: asyncpg.Connection
) -> None:
    first = spans({}, {}, {})
    assert exporter.export(first[:2]) is SpanExportResult.SUCCESS
    assert exporter.export(first) is SpanExportResult.SUCCESS
    assert await connection.fetchval("SELECT count(*) FROM flux.spans") == 3


async def test_a_span_belongs_to_the_execution_of_its_parent(
    exporter: PostgresSpanExporter, connection: asyncpg.Connection
) -> None:
    trace_id, request_id = "a" * 32, "e" * 32
    await connection.execute("SELECT flux.ensure_partitions('2020-05-06', '2020-05-06')")
    await connection.execute(
        "INSERT INTO flux.spans (request_id, day, span_id, trace_id, name, kind, start_time, start_ns, "
        "duration_ns,"
        " status, attributes) VALUES ($1, '2020-05-06', 'bbbbbbbbbbbbbbbb', $2, 'n', 'CLIENT', now(), "
        "1, 1, 'OK', '{}')",
        request_id,
        trace_id,
    )
    await connection.execute(
        "INSERT INTO flux.executions (request_id, day, trace_id, span_id, trigger, node, outcome, started_at,"
        " record) VALUES ($1, '2020-05-06', $2, 'bbbbbbbbbbbbbbbb', 'http', 'n', 'ok', now(), 'all')",
        request_id,
        trace_id,
    )
    (child,) = spans({"context": under(trace_id, "b" * 16)})
    assert child.context is not None
    grandchildren = spans({"name": "g", "context": under(trace_id, f"{child.context.span_id:016x}")})
    stranger = spans({"name": "stranger", "context": under(trace_id, "c" * 16)})
    assert exporter.export([*grandchildren, child, *stranger]) is SpanExportResult.SUCCESS
    found = await connection.fetch(
        "SELECT name, request_id, day::text FROM flux.spans WHERE start_ns > 1 ORDER BY name"
    )
    assert [tuple(row) for row in found] == [
        ("g", request_id, "2020-05-06"),
        ("s", request_id, "2020-05-06"),
        ("stranger", trace_id, str(rows.day_of(stranger[0].start_time or 0))),
    ]
    assert stranger[0].context is not None
    late = spans(
        {"name": "late", "context": under(trace_id, f"{stranger[0].context.span_id:016x}")},
        {"name": "late g", "context": under(trace_id, f"{grandchildren[0].context.span_id:016x}")},
    )
    assert exporter.export(late) is SpanExportResult.SUCCESS
    found = await connection.fetch(
        "SELECT name, request_id, day::text FROM flux.spans WHERE name LIKE 'late%' ORDER BY name"
    )
    assert [tuple(row) for row in found] == [
        ("late", trace_id, str(rows.day_of(stranger[0].start_time or 0))),
        ("late g", request_id, "2020-05-06"),
    ], "parents stored before are found in their execution, or under their trace"


async def test_what_postgres_can_not_hold_is_cleaned_visibly_and_costs_no_other_span(
    exporter: PostgresSpanExporter, connection: asyncpg.Connection
) -> None:
    attributes = {"nul": "a\0b", "half": "\ud800x", "nan": float("nan"), "big": 2**80, "bytes": b"\xff"}
    made = spans({"name": "fine"}, {"name": "na\0me", "attributes": attributes}, {"name": "also fine"})
    assert exporter.export(made) is SpanExportResult.SUCCESS
    found = {
        row["name"]: row["attributes"]
        for row in await connection.fetch("SELECT name, attributes FROM flux.spans")
    }
    assert set(found) == {"fine", "na\u2400me", "also fine"}
    assert json.loads(found["na\u2400me"]) == {
        "nul": "a\u2400b",
        "half": "\ufffdx",
        "nan": "nan",
        "big": 2**80,
        "bytes": {"$bytea": "/w=="},
    }


async def test_a_span_that_postgres_refuses_loses_its_attributes_and_no_other_span(
    exporter: PostgresSpanExporter, connection: asyncpg.Connection
) -> None:
    await connection.execute("ALTER TABLE flux.spans ADD CHECK (NOT attributes ? 'poison')")
    made = spans(*({"name": f"s{n}", "attributes": {"poison": 1} if n == 3 else {}} for n in range(7)))
    assert exporter.export(made) is SpanExportResult.SUCCESS
    refused = await connection.fetch("SELECT name, attributes FROM flux.spans WHERE attributes <> '{}'")
    assert [row["name"] for row in refused] == ["s3"]
    assert "check constraint" in json.loads(refused[0]["attributes"])["flux.refused"]
    assert await connection.fetchval("SELECT count(*) FROM flux.spans") == 7


async def test_spans_of_any_day_get_their_partition(
    exporter: PostgresSpanExporter, connection: asyncpg.Connection
) -> None:
    assert exporter.export(spans({"start_time": 1_000_000_000 * 10**9})) is SpanExportResult.SUCCESS
    assert await connection.fetchval("SELECT count(*) FROM flux.spans_20010909") == 1


async def test_a_plain_database_gets_the_same_table_as_a_flux_database(
    empty_database_url: str, connection: asyncpg.Connection
) -> None:
    exporter = PostgresSpanExporter(empty_database_url, timeout=10)
    assert exporter.export(spans({})) is SpanExportResult.SUCCESS
    exporter.shutdown()
    assert exporter.export(spans({})) is SpanExportResult.FAILURE
    columns = (
        "SELECT attname, format_type(atttypid, atttypmod), attnotnull, attcollation FROM pg_attribute"
        " WHERE attrelid = $1::text::regclass AND attnum > 0 ORDER BY attnum"
    )
    indexes = "SELECT indexdef FROM pg_indexes WHERE schemaname = 'flux' AND tablename = 'spans' ORDER BY 1"
    plain = await asyncpg.connect(empty_database_url)
    try:
        assert await plain.fetchval("SELECT count(*) FROM flux.spans") == 1
        for table in ("flux.spans", "flux.resources"):
            assert await plain.fetch(columns, table) == await connection.fetch(columns, table)
        assert await plain.fetch(indexes) == await connection.fetch(indexes)
    finally:
        await plain.close()


def test_export_fails_in_time_when_postgres_is_away(tmp_path: Path) -> None:
    exporter = PostgresSpanExporter(f"postgresql://nobody@/none?host={tmp_path}", timeout=0.3)
    began = time.monotonic()
    assert exporter.export(spans({})) is SpanExportResult.FAILURE
    assert 0.1 < time.monotonic() - began < 2
    assert exporter.force_flush()
    exporter.shutdown()
    exporter.shutdown()


async def test_a_closed_connection_is_opened_again(
    exporter: PostgresSpanExporter, connection: asyncpg.Connection
) -> None:
    assert exporter.export(spans({})) is SpanExportResult.SUCCESS
    await connection.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = "
        "'flux_postgres_exporter'"
        " AND datname = current_database()"
    )
    assert exporter.export(spans({})) is SpanExportResult.SUCCESS
    assert await connection.fetchval("SELECT count(*) FROM flux.spans") == 2


PROGRAM = """
import asyncio, sys
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.instrumentation.asyncpg import AsyncPGInstrumentor
from opentelemetry.sdk._configuration import _import_exporters
from quart import Quart

found = None
if sys.argv[1] == "entry point":
    found = _import_exporters(["flux_postgres"], [], [])[0]["flux_postgres"]
from flux_postgres_exporter import PostgresSpanExporter
assert found in (None, PostgresSpanExporter)
provider = TracerProvider()
provider.add_span_processor(BatchSpanProcessor((found or PostgresSpanExporter)()))
trace.set_tracer_provider(provider)
AsyncPGInstrumentor().instrument()
app = Quart(__name__)

@app.get("/hello")
async def hello():
    with trace.get_tracer("shop").start_as_current_span("GET /hello"):
        return {"hello": "world"}

async def main():
    client = app.test_client()
    for _ in range(5):
        response = await client.get("/hello")
        assert response.status_code == 200

asyncio.run(main())
if sys.argv[1] == "imported":
    provider.force_flush()
    provider.shutdown()  # else the provider does, at the program's exit
assert not [name for name in sys.modules if name == "flux" or name.startswith("flux.")]
"""


@pytest.mark.parametrize("way", ["imported", "entry point"])
async def test_a_plain_quart_program_sends_its_spans_without_flux(
    way: str, database_url: str, connection: asyncpg.Connection, tmp_path: Path
) -> None:
    info = tmp_path / "site" / "exporter-0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: exporter\nVersion: 0\n")
    (info / "entry_points.txt").write_text(
        "[opentelemetry_traces_exporter]\nflux_postgres = flux_postgres_exporter:PostgresSpanExporter\n"
    )
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT / "exporters"), str(tmp_path / "site")]),
        "FLUX_POSTGRES_EXPORTER_DSN": database_url,
    }
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, way],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = await connection.fetch("SELECT name, count(*) FROM flux.spans GROUP BY name")
    assert [tuple(row) for row in found] == [("GET /hello", 5)], "and none of the exporter's own"


def test_the_entry_point_in_pyproject_names_the_exporter() -> None:
    project = (ROOT / "pyproject.toml").read_text()
    assert (
        '[project.entry-points.opentelemetry_traces_exporter]\nflux_postgres = "flux_postgres_exporter:'
        in project
    )
    point = EntryPoint(
        "flux_postgres", "flux_postgres_exporter:PostgresSpanExporter", "opentelemetry_traces_exporter"
    )
    assert point.load() is PostgresSpanExporter


def test_batches_from_the_sdks_own_processor_arrive(database_url: str) -> None:
    beside = InMemorySpanExporter()
    provider = TracerProvider(sampler=ALWAYS_ON, shutdown_on_exit=False)
    exporter = PostgresSpanExporter(database_url)
    provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=10))
    provider.add_span_processor(BatchSpanProcessor(beside))
    for _ in range(100):
        provider.get_tracer("t").start_span("s", context=Context()).end()
    assert provider.force_flush()
    provider.shutdown()
    assert len(beside.get_finished_spans()) == 100


class _Masked(ReadableSpan):
    """What a redacting exporter hands on."""

    def __init__(self, span: ReadableSpan) -> None:
        self._span = span

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_span"], name)

    @property
    def attributes(self) -> Any:
        return {
            key: "***" if key == "password" else value for key, value in (self._span.attributes or {}).items()
        }


def _strange(tracer: Any) -> None:
    """One span of each strange kind."""
    tracer.start_span("far", start_time=10**21).end(10**21 + 5)
    tracer.start_span("seconds", start_time=1_700_000_000).end(1_700_000_001)
    tracer.start_span("float", start_time=1.7e18).end(1.7e18 + 9)
    tracer.start_span("long").end(10**25)
    tracer.start_span(None).end()
    tracer.start_span(404).end()
    span = tracer.start_span("attributes")
    span._attributes._dict |= {
        "n": 10**5000,
        "o": object(),
        "set": {1},
        7: "key",
        "half": "\ud83d",
        "nul": "\0",
    }
    span.end()
    span = tracer.start_span("nowhere")
    span._context = None
    span.end()


async def test_strange_spans_take_no_other_along(
    exporter: PostgresSpanExporter, connection: asyncpg.Connection
) -> None:
    provider = TracerProvider(sampler=ALWAYS_ON, shutdown_on_exit=False)
    batch = BatchSpanProcessor(exporter, max_export_batch_size=512)
    provider.add_span_processor(batch)
    tracer = provider.get_tracer("t")
    for _ in range(10):
        tracer.start_span("good").end()
    _strange(tracer)
    for _ in range(10):
        tracer.start_span("good").end()
    assert batch.force_flush()
    stored = await connection.fetch("SELECT name, attributes ->> 'flux.odd' AS odd, day FROM flux.spans")
    assert [row["odd"] for row in stored if row["name"] == "good"] == [None] * 20
    marked = {row["name"]: row["odd"] for row in stored if row["name"] != "good"}
    assert marked.pop("attributes") is None
    assert marked.keys() == {"far", "seconds", "float", "long", "unnamed", "404"}
    assert all(marked.values())
    # None of them made a partition for a day that nothing was on.
    days = {row["day"] for row in stored if row["name"] != "float"}
    assert days == {row["day"] for row in stored if row["name"] == "good"}


async def test_what_a_redacting_exporter_hands_on_is_what_is_stored(
    exporter: PostgresSpanExporter, connection: asyncpg.Connection
) -> None:
    made = spans({"name": "login", "attributes": {"password": "clear-text", "user": "ada"}})
    assert exporter.export([_Masked(span) for span in made]) is SpanExportResult.SUCCESS
    stored = json.loads(await connection.fetchval("SELECT attributes FROM flux.spans WHERE name = 'login'"))
    assert stored == {"password": "***", "user": "ada"}
