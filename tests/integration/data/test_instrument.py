"""Spans of a session's calls and of any other asyncpg program, and the context of the latter's changes."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
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


INSERT = "insert into users (name) values ($1)"
CALLS = """
create procedure twice(first text, second text) language plpgsql as $$
begin
    insert into users (name) values (first);
    commit;
    insert into users (name) values (second);
end $$;
create function put(name text) returns text language sql volatile as $$
    insert into users (name) values ($1) returning name
$$;
"""


async def _prepared(c: Any, method: str, *arguments: Any, suffix: str = "") -> Any:
    return await getattr(await c.prepare(INSERT + suffix), method)(*arguments)


async def _cursor(c: Any, *names: str) -> Any:
    async with c.transaction():
        query = "select put(name) from unnest($1::text[]) as name"
        return [row async for row in c.cursor(query, list(names), prefetch=1)]


async def _cursor_by_hand(c: Any, name: str) -> Any:
    async with c.transaction():
        return await (await c.cursor(f"{INSERT} returning name", name)).fetch(5)


async def _explained(c: Any, name: str) -> Any:
    async with c.transaction():
        return await c.fetch(f"explain analyze {INSERT}", name)


FORMS: dict[str, Callable[[Any], Awaitable[Any]]] = {
    "e1": lambda c: c.execute("insert into users (name) values ('e1')"),
    "e2": lambda c: c.execute("select 1; insert into users (name) values ('e2')"),
    "e3": lambda c: c.execute(INSERT, "e3"),
    "e4": lambda c: c.execute(
        " begin isolation level serializable; insert into users (name) values ('e4'); commit"
    ),
    "e5": lambda c: c.execute("insert into users (name) values ('e5'); begin; select 1; commit"),
    "f1": lambda c: c.fetch(f"{INSERT} returning name", "f1"),
    "f2": lambda c: c.fetchrow(f"{INSERT} returning name", "f2"),
    "f3": lambda c: c.fetchval("select put($1)", "f3"),
    "f4 f5": lambda c: c.fetchmany(f"{INSERT} returning name", [("f4",), ("f5",)]),
    "m1 m2": lambda c: c.executemany(INSERT, [("m1",), ("m2",)]),
    "p1": lambda c: _prepared(c, "fetch", "p1"),
    "p2": lambda c: _prepared(c, "fetchval", "p2", suffix=" returning name"),
    "p3": lambda c: _prepared(c, "fetchrow", "p3"),
    "p4 p5": lambda c: _prepared(c, "executemany", [("p4",), ("p5",)]),
    "p6 p7": lambda c: _prepared(c, "fetchmany", [("p6",), ("p7",)], suffix=" returning id"),
    "d1": lambda c: c.execute("do $$ begin insert into users (name) values ('d1'); end $$"),
    "d2 d3": lambda c: c.execute(
        "do $$ begin insert into users (name) values ('d2'); commit;"
        " insert into users (name) values ('d3'); end $$"
    ),
    "a1 a2": lambda c: c.execute("call twice('a1', 'a2')"),
    "a3 a4": lambda c: c.execute("call twice($1, $2)", "a3", "a4"),
    "a5 a6": lambda c: c.fetch("call twice($1, 'a6')", "a5"),
    "c1": lambda c: c.copy_from_query(
        "insert into users (name) values ('c1') returning id", output=io.BytesIO()
    ),
    "c2": lambda c: c.copy_from_query("select put($1)", "c2", output=io.BytesIO()),
    "c3": lambda c: c.copy_to_table("users", source=io.BytesIO(b"c3\n"), columns=["name"]),
    "c4": lambda c: c.copy_records_to_table("users", records=[("c4",)], columns=["name"]),
    "u1 u2": lambda c: _cursor(c, "u1", "u2"),
    "u3": lambda c: _cursor_by_hand(c, "u3"),
    "x1": lambda c: _explained(c, "x1"),
    "w1": lambda c: c.execute("with w as (select 'w1') insert into users (name) select * from w"),
    "g1": lambda c: c.execute("merge into users u using (select 'g1' as n) s on u.name = s.n"
                              " when not matched then insert (name) values (s.n)"),
}  # fmt: skip


async def test_every_form_of_statement_carries_the_context_and_leaves_none(
    foreign: asyncpg.Pool, spans: Spans, admin: asyncpg.Connection
) -> None:
    await admin.execute(CALLS)
    wanted: dict[str, str] = {}
    left: list[str] = []
    async with foreign.acquire() as connection:
        for names, form in FORMS.items():
            with spans.tracer.start_as_current_span("program") as span:
                await form(connection)
            wanted |= dict.fromkeys(names.split(), f"{span.get_span_context().trace_id:032x}")
            with suppress_instrumentation():
                if await connection.fetchval("select current_setting('flux.ctx', true) <> ''"):
                    left.append(names)
    kept = {row["name"]: (row["ctx"] or "")[:32] for row in await admin.fetch("select name, ctx from users")}
    assert kept == wanted
    assert left == []


async def test_what_a_statement_says_is_not_changed_by_its_context(
    foreign: asyncpg.Pool, spans: Spans, admin: asyncpg.Connection
) -> None:
    async with foreign.acquire() as connection:
        with spans.tracer.start_as_current_span("program"):
            said = {
                query: await connection.execute(query)
                for query in (
                    "",
                    " ;; ",
                    "-- nothing",
                    "/* a */ -- b\n",
                    "select 1",
                    "set search_path = public",
                    "discard all",
                    "begin; select 1; select 2; commit",
                    "select 1; select 2; --",
                    "do $$ begin null; end $$",
                )
            }
            for query in ("selec 1", "select 1; selec 2", "begin; selec 1; commit", "do $$ begn $$"):
                with pytest.raises(asyncpg.PostgresSyntaxError) as instrumented:
                    await connection.execute(query)
                await connection.execute("rollback")
                with suppress_instrumentation(), pytest.raises(asyncpg.PostgresSyntaxError) as bare:
                    await connection.execute(query)
                with suppress_instrumentation():
                    await connection.execute("rollback")
                assert getattr(instrumented.value, "position", None) == getattr(bare.value, "position", None)
        empty = [query for query in said if not query.strip(" ;") or query[:1] in "-/"]
        assert [said.pop(query) for query in empty] == ["", "", "", ""]
        with suppress_instrumentation():
            assert said == {query: await connection.execute(query) for query in said}


@pytest.mark.parametrize("query", ["discard all", "deallocate all"])
async def test_a_program_that_drops_prepared_statements_goes_on(
    foreign: asyncpg.Pool, spans: Spans, admin: asyncpg.Connection, query: str
) -> None:
    async with foreign.acquire() as connection:
        with spans.tracer.start_as_current_span("program") as span:
            await connection.execute(INSERT, "before")
            await connection.execute(query)
            await connection.execute(f"{INSERT} on conflict do nothing", "after")
    kept = {row["name"]: row["ctx"][:32] for row in await admin.fetch("select name, ctx from users")}
    assert kept == dict.fromkeys(["before", "after"], f"{span.get_span_context().trace_id:032x}")
