"""Spans of a session's calls and of any other asyncpg program, and the context of the latter's changes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import asyncpg
import pytest
from opentelemetry import trace
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

import flux
from flux.data import transaction
from flux.data.database import UserDatabase
from flux.data.instrument import instrument_asyncpg, uninstrument_asyncpg

from .conftest import DAY, REQUEST, Guest


class Spans:
    """What was ended since the last look."""

    def __init__(self, exporter: InMemorySpanExporter, tracer: trace.Tracer) -> None:
        self._exporter = exporter
        self.tracer = tracer

    def take(self) -> list[ReadableSpan]:
        found = list(self._exporter.get_finished_spans())
        self._exporter.clear()
        return found


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[Spans]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(transaction, "_tracer", provider.get_tracer("flux.data"))
    instrument_asyncpg(provider)
    yield Spans(exporter, provider.get_tracer("test"))
    uninstrument_asyncpg()
    provider.shutdown()


@pytest.fixture
async def foreign(admin: asyncpg.Connection, database_url: str) -> AsyncIterator[asyncpg.Pool]:
    """Another program's pool on the same database."""
    async with asyncpg.create_pool(database_url, min_size=1, max_size=1) as pool:
        yield pool


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def test_the_package_offers_it_by_name() -> None:
    assert flux.instrument_asyncpg is instrument_asyncpg


async def test_a_call_is_one_span_with_the_stable_names(
    guest: Guest, spans: Spans, admin: asyncpg.Connection
) -> None:
    spans.take()
    await guest.ask("db.query", table="users", operation="insert", data={"name": "a secret value"})
    [span] = spans.take()
    assert (span.name, span.kind, span.status.status_code) == ("INSERT", SpanKind.CLIENT, StatusCode.UNSET)
    found = attributes(span)
    assert found["db.system.name"] == "postgresql"
    assert found["db.query.text"] == 'INSERT INTO "users" ("name") VALUES ($1) RETURNING *'
    assert found["db.operation.name"] == "INSERT"
    assert found["db.collection.name"] == "users"
    assert found["db.response.returned_rows"] == 1
    assert found["db.namespace"] == await admin.fetchval("select current_database()")
    assert "a secret value" not in repr(found)


async def test_a_failed_call_says_its_condition_and_no_values(guest: Guest, spans: Spans) -> None:
    await guest.rows("insert into users (name) values ($1)", "a secret value")
    spans.take()
    await guest.fail("db.sql", text="insert into users (name) values ($1)", params=["a secret value"])
    [span] = spans.take()
    found = attributes(span)
    assert (span.status.status_code, found["error.type"]) == (StatusCode.ERROR, "unique_violation")
    assert found["db.response.status_code"] == "23505"
    assert "a secret value" not in span.to_json()


async def test_a_transaction_is_one_internal_span_around_its_statements(guest: Guest, spans: Spans) -> None:
    spans.take()
    with spans.tracer.start_as_current_span("function"):
        tx = await guest.begin()
        await guest.rows("select 1", tx=tx)
        await guest.ask("queue.push", tx, name="job", payload=1)
        await guest.ask("db.commit", tx)
    statement, around, function = spans.take()
    assert (statement.name, around.name, around.kind) == ("select", "transaction", SpanKind.INTERNAL)
    assert statement.parent is not None
    assert around.parent is not None
    assert statement.parent.span_id == around.context.span_id
    assert around.parent.span_id == function.context.span_id
    assert attributes(around)["flux.transaction.outcome"] == "committed"


async def test_a_transaction_that_was_closed_is_rolled_back_in_its_span(guest: Guest, spans: Spans) -> None:
    await guest.begin()
    spans.take()
    await guest.session.close()
    [around] = spans.take()
    assert attributes(around)["flux.transaction.outcome"] == "rolled_back"


async def test_another_programs_statements_get_what_the_instrumentor_lacks(
    foreign: asyncpg.Pool, spans: Spans
) -> None:
    async with foreign.acquire() as connection:
        spans.take()
        await connection.fetch("select generate_series(1, $1::int)", 3)
        await connection.execute("select 1")
        with pytest.raises(asyncpg.DivisionByZeroError):
            await connection.fetchval("select 1/$1::int", 0)
        statement = await connection.prepare("select $1::int")
        await statement.fetch(1)
    rows, plain, failed, prepared = spans.take()
    assert attributes(rows)["db.response.returned_rows"] == 3
    assert [attributes(span)["db.operation.name"] for span in (rows, plain, prepared)] == ["SELECT"] * 3
    assert attributes(failed)["db.response.status_code"] == "22012"
    assert attributes(prepared)["db.response.returned_rows"] == 1


async def test_control_statements_are_no_spans_and_copy_is_one(foreign: asyncpg.Pool, spans: Spans) -> None:
    async with foreign.acquire() as connection:
        spans.take()
        async with connection.transaction():
            await connection.execute("insert into users (name) values ('a')")
            async with connection.transaction():
                await connection.copy_records_to_table("users", records=[("b",), ("c",)], columns=["name"])
        with pytest.raises(ZeroDivisionError):
            async with connection.transaction():
                raise ZeroDivisionError
    insert, copy, committed, rolled_back = spans.take()
    assert [span.name for span in (insert, copy, committed, rolled_back)] == [
        "insert",
        "COPY",
        "transaction",
        "transaction",
    ]
    assert attributes(copy)["db.operation.name"] == "COPY"
    assert attributes(copy)["db.collection.name"] == "users"
    for inner in (insert, copy):
        assert inner.parent is not None
        assert inner.parent.span_id == committed.context.span_id
    assert attributes(committed)["flux.transaction.outcome"] == "committed"
    assert attributes(rolled_back)["flux.transaction.outcome"] == "rolled_back"


async def test_another_programs_changes_carry_its_trace(
    foreign: asyncpg.Pool, spans: Spans, admin: asyncpg.Connection
) -> None:
    async with foreign.acquire() as connection:
        with spans.tracer.start_as_current_span("program") as span:
            await connection.execute("insert into users (name) values ('simple')")
            await connection.execute("insert into users (name) values ($1)", "bound")
            await connection.executemany("insert into users (name) values ($1)", [("many1",), ("many2",)])
            await (await connection.prepare("insert into users (name) values ($1)")).fetch("prepared")
            await connection.copy_records_to_table("users", records=[("copied",)], columns=["name"])
            with pytest.raises(asyncpg.DataError):
                await connection.execute("insert into users (name) values ($1)", 5)
            async with connection.transaction():
                await connection.execute("insert into users (name) values ($1)", "inside")
        await connection.execute("insert into users (name) values ('outside')")
        with suppress_instrumentation():
            await connection.execute("insert into users (name) values ('suppressed')")
    [outside] = [s for s in spans.take() if "'outside'" in attributes(s).get("db.query.text", "")]
    trace_id = f"{span.get_span_context().trace_id:032x}"
    kept = {row["name"]: row["ctx"] for row in await admin.fetch("select name, ctx from users")}
    inside = ["simple", "bound", "many1", "many2", "prepared", "copied", "inside"]
    assert {name: kept[name][:32] for name in inside} == dict.fromkeys(inside, trace_id)
    assert kept["outside"][:32] == f"{outside.context.trace_id:032x}"
    assert kept["outside"][:32] != trace_id
    assert not kept["suppressed"]


async def test_a_session_keeps_its_own_context_under_another_trace(
    database: UserDatabase, spans: Spans
) -> None:
    guest = Guest(database.session(REQUEST, DAY))
    with spans.tracer.start_as_current_span("function"):
        rows = await guest.rows("insert into users (name) values ('x') returning ctx")
    assert rows == [{"ctx": f"{REQUEST}|{DAY}"}]


async def test_taking_it_off_leaves_asyncpg_as_it_was(admin: asyncpg.Connection) -> None:
    before = {
        name: getattr(asyncpg.Connection, name)
        for name in ("execute", "fetch", "_do_execute", "copy_to_table")
    }
    instrument_asyncpg()
    instrument_asyncpg()
    assert asyncpg.Connection.fetch is not before["fetch"]
    uninstrument_asyncpg()
    assert {name: getattr(asyncpg.Connection, name) for name in before} == before
