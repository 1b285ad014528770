"""Live: every op goes to who does it, and says when it was done."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from flux.config import Config
from flux.host.fetch import FetchClient
from flux.host.jobs import Jobs
from flux.host.live import Live
from flux.host.secrets import Secrets
from flux.record.arguments import Push, PushOptions
from flux.record.call import CallError, HostCall, Outcome
from flux.recorder.redaction import Redaction
from flux.store.database import Store
from tests.integration.host.local_http import HttpServer, answer

ME = "f" * 32


class Database:
    """A session that writes down what it is asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, int | None]] = []
        self.closed = 0
        self.answers: list[Outcome] = []

    async def perform(self, call: HostCall) -> Outcome:
        self.asked.append((call.op, call.tx))
        return self.answers.pop(0) if self.answers else Outcome(result=b'{"id":"j","duplicate":false}')

    async def close(self) -> None:
        self.closed += 1


@pytest.fixture
async def store(store_config: Config) -> AsyncIterator[Store]:
    async with await Store.open(store_config, application_name="test", migrate=False) as opened:
        yield opened


@pytest.fixture
async def jobs(store: Store, provider: TracerProvider) -> AsyncIterator[Jobs]:
    made = Jobs(store, tracer=provider.get_tracer("test"))
    yield made
    await made.close()


@pytest.fixture
def database() -> Database:
    return Database()


@pytest.fixture
async def live(jobs: Jobs, database: Database) -> AsyncIterator[Live]:
    async def invoke(name: str, payload: bytes) -> Outcome:
        return Outcome(result=json.dumps([name, payload.decode()]).encode())

    fetch = FetchClient()
    yield Live(
        request_id=ME,
        session=database,
        fetch=fetch,
        jobs=jobs,
        secrets=Secrets(Redaction(), {"TOKEN": "hunter2hunter2"}),
        invoke=invoke,
        clock=lambda: 42,
    )
    await fetch.close()


def call(op: str, arguments: Any = None, *, n: int = 1, tx: int | None = None, seq: int = 5) -> HostCall:
    given = arguments if isinstance(arguments, bytes) else json.dumps(arguments or {}).encode()
    return HostCall(op=op, arguments=given, n=n, tx=tx, seq=seq)


def result(outcome: Outcome) -> Any:
    assert outcome.error is None, outcome.error
    assert outcome.result is not None
    return json.loads(outcome.result)


async def listening(store: Store) -> tuple[Any, asyncio.Event]:
    heard = asyncio.Event()
    connection = await asyncpg.connect(**store.connect_args)
    await connection.add_listener("flux_jobs", lambda *_: heard.set())
    return connection, heard


async def test_every_outcome_says_when_it_was_known(live: Live, database: Database) -> None:
    database.answers = [Outcome(result=b"{}", now_ns=7)]
    assert (await live.perform(call("db.begin"))).now_ns == 7
    for op, arguments in (
        ("sleep", {"ms": 0}),
        ("sleep", {}),
        ("nonsense", {}),
        ("secrets.get", {"key": "TOKEN"}),
    ):
        assert (await live.perform(call(op, arguments))).now_ns == 42


async def test_an_unknown_op_is_an_error(live: Live) -> None:
    assert (await live.perform(call("fs.read"))).error == CallError(
        "unknown_op", "The host has no call named `fs.read`."
    )


@pytest.mark.parametrize(
    ("op", "arguments", "words"),
    [
        ("fetch", b"{", "fetch: Input data was truncated"),
        ("fetch", {}, "fetch: Object missing required field `url`"),
        ("queue.push", {"name": ""}, "queue.push: Expected `str` of length >= 1 - at `$.name`"),
        ("queue.push", {"name": "a", "options": {"delay": -1}}, "`$.options.delay`"),
        ("queue.push", {"name": "a", "options": {"maxAttempts": 0}}, "`$.options.maxAttempts`"),
        ("invoke", b"[]", "invoke: Expected `object`"),
        ("secrets.get", {"key": 1}, "secrets.get: Expected `str`, got `int` - at `$.key`"),
        ("sleep", {"ms": -1}, "sleep: "),
        ("sleep", {"ms": 2**31}, "sleep: "),
        ("db.sql", b"nonsense", "db.sql: "),
        ("db.query", b"[1]", "db.query: Expected `object`, got `array`"),
    ],
)
async def test_arguments_that_make_no_sense_are_an_error_that_says_why(
    live: Live, database: Database, op: str, arguments: Any, words: str
) -> None:
    outcome = await live.perform(call(op, arguments))
    assert outcome.error is not None
    assert outcome.error.type == "invalid_arguments"
    assert words in outcome.error.message
    assert database.asked == []


async def test_invoke_hands_over_the_payload_exactly(live: Live) -> None:
    assert result(await live.perform(call("invoke", b'{"name":"f","payload": {"b": 1.0,"a":2} }'))) == [
        "f",
        '{"b": 1.0,"a":2}',
    ]
    assert result(await live.perform(call("invoke", {"name": "f"}))) == ["f", "null"]


async def test_a_fetch_carries_a_key_made_of_execution_and_call(live: Live, server: HttpServer) -> None:
    server.routes["/x"] = answer(body=b"{}")
    result(await live.perform(call("fetch", {"url": server.url("/x"), "method": "POST"}, seq=9)))
    assert server.got[0].values("idempotency-key") == [f"{ME}-9"]


async def test_a_push_is_a_job_that_names_its_execution_and_its_producer_span(
    live: Live, store: Store, spans: InMemorySpanExporter
) -> None:
    arguments = b"""{"name":"mail","payload":{"to": "x"},
        "options":{"delay":1.5,"maxAttempts":2,"idempotencyKey":null}}"""
    outcome = await live.perform(call("queue.push", arguments))
    answered = result(outcome)
    async with store.internal() as connection:
        row = await connection.fetchrow("SELECT * FROM flux.jobs")
    assert answered == {"id": row["id"], "duplicate": False}
    assert (row["name"], row["payload"], row["max_attempts"]) == ("mail", b'{"to": "x"}', 2)
    assert (row["pushed_by"], row["pushed_seq"], row["status"], row["attempt"]) == (ME, 5, "queued", 0)
    assert json.loads(row["payload_json"]) == {"to": "x"}
    (span,) = spans.get_finished_spans()
    assert span.context is not None
    assert row["traceparent"].startswith(f"00-{span.context.trace_id:032x}-{span.context.span_id:016x}-")
    assert (span.name, span.kind.name) == ("send mail", "PRODUCER")
    assert dict(span.attributes or {}) == {
        "messaging.system": "flux",
        "messaging.destination.name": "mail",
        "messaging.operation.type": "send",
        "messaging.message.id": row["id"],
    }
    assert outcome.span_id == format(span.context.span_id, "016x")


async def test_a_payload_that_jsonb_cannot_hold_is_kept_exactly(live: Live, store: Store) -> None:
    result(await live.perform(call("queue.push", b'{"name":"a","payload": {"b" :"\\u0000"}}')))
    async with store.internal() as connection:
        row = await connection.fetchrow("SELECT payload, payload_json FROM flux.jobs")
    assert (row["payload"], row["payload_json"]) == (b'{"b" :"\\u0000"}', None)


async def test_a_push_that_postgres_refuses_is_the_calls_error_and_its_spans(
    live: Live, store: Store, spans: InMemorySpanExporter
) -> None:
    async with store.internal() as connection:
        await connection.execute("ALTER TABLE flux.jobs ADD CONSTRAINT no CHECK (name <> 'mail')")
    outcome = await live.perform(call("queue.push", {"name": "mail"}))
    assert outcome.error is not None
    assert (outcome.error.type, outcome.error.detail["constraint"]) == ("check_violation", "no")
    (span,) = spans.get_finished_spans()
    assert span.attributes is not None
    assert span.attributes["error.type"] == "check_violation"


async def test_a_push_in_a_transaction_is_the_sessions_and_wakes_workers_at_its_commit(
    live: Live, database: Database, store: Store, spans: InMemorySpanExporter
) -> None:
    connection, heard = await listening(store)
    outcome = await live.perform(call("queue.push", {"name": "mail"}, n=2, tx=1))
    assert result(outcome) == {"id": "j", "duplicate": False}
    (span,) = spans.get_finished_spans()
    assert span.attributes is not None
    assert (span.name, span.attributes["messaging.message.id"]) == ("send mail", "j")
    await live.perform(call("db.sql", {"text": "select 1"}, n=3, tx=1))
    await live.perform(call("db.commit", {}, n=4, tx=9))
    assert live._jobs._sender is None
    await live.perform(call("db.commit", {}, n=5, tx=1))
    async with asyncio.timeout(5):
        await heard.wait()
    assert database.asked == [("queue.push", 1), ("db.sql", 1), ("db.commit", 9), ("db.commit", 1)]
    await connection.close()


async def test_a_push_that_is_rolled_back_wakes_nobody(live: Live, database: Database) -> None:
    await live.perform(call("queue.push", {"name": "mail"}, n=2, tx=1))
    await live.perform(call("db.rollback", {}, n=3, tx=1))
    await live.perform(call("queue.push", {"name": "mail"}, n=5, tx=4))
    database.answers = [Outcome(error=CallError("serialization_failure", ""))]
    await live.perform(call("db.commit", {}, n=6, tx=4))
    assert live._jobs._sender is None


async def test_rings_while_a_notify_is_on_its_way_share_the_next(jobs: Jobs, store: Store) -> None:
    heard: list[str] = []
    done = asyncio.Event()
    connection = await asyncpg.connect(**store.connect_args)
    await connection.add_listener("flux_jobs", lambda *_: heard.append("!"))
    await connection.add_listener("done", lambda *_: done.set())
    for _ in range(100):
        jobs.ring()
    await jobs.close()
    async with store.internal() as other:
        await other.execute("NOTIFY done")
    async with asyncio.timeout(5):
        await done.wait()
    assert len(heard) == 1
    await connection.close()


async def test_pushes_at_the_same_time_go_together_in_their_order(jobs: Jobs, store: Store) -> None:
    outcomes = await asyncio.gather(*(jobs.push(Push(f"job {n}")) for n in range(1100)))
    async with store.internal() as connection:
        rows = await connection.fetch("SELECT id, name, xmin FROM flux.jobs ORDER BY run_at")
    assert [row["name"] for row in rows] == [f"job {n}" for n in range(1100)]
    assert [result(outcome)["id"] for outcome in outcomes] == [row["id"] for row in rows]
    assert len({row["xmin"] for row in rows}) == 3


async def test_one_bad_push_does_not_take_others_with_it(jobs: Jobs, store: Store) -> None:
    async with store.internal() as connection:
        await connection.execute("ALTER TABLE flux.jobs ADD CONSTRAINT no CHECK (name <> 'bad')")
    outcomes = await asyncio.gather(*(jobs.push(Push(name)) for name in ("a", "bad", "b")))
    assert [outcome.error and outcome.error.type for outcome in outcomes] == [None, "check_violation", None]


async def test_pushes_fail_by_name_while_postgres_cannot_be_reached(jobs: Jobs, store: Store) -> None:
    await store.records.close()
    outcomes = await asyncio.gather(*(jobs.push(Push("a")) for _ in range(3)))
    jobs.ring()
    await jobs.close()
    assert all(outcome.error is not None for outcome in outcomes)


async def test_a_push_that_waits_for_anothers_transaction_holds_up_nobody(jobs: Jobs, store: Store) -> None:
    async with store.internal() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute("SELECT flux.push_job('once', 'null', NULL, 'key')")
        waiting = asyncio.create_task(jobs.push(Push("once", options=PushOptions(idempotency_key="key"))))
        assert result(await jobs.push(Push("other")))["duplicate"] is False
        assert not waiting.done()
        await transaction.commit()
        assert result(await waiting)["duplicate"] is True


async def test_a_cancelled_push_leaves_the_others_alone(jobs: Jobs, store: Store) -> None:
    first = asyncio.create_task(jobs.push(Push("first")))
    second = asyncio.create_task(jobs.push(Push("second")))
    await asyncio.sleep(0)
    first.cancel()
    assert result(await second)["duplicate"] is False
    assert first.cancelled()


async def test_closing_cancels_what_is_in_flight_and_then_closes_the_session(
    live: Live, database: Database
) -> None:
    task = asyncio.create_task(live.perform(call("sleep", {"ms": 60_000})))
    await asyncio.sleep(0)
    await live.close()
    assert task.cancelled()
    assert database.closed == 1


async def test_sleep_takes_its_time(live: Live) -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()
    assert result(await live.perform(call("sleep", {"ms": 20.5}))) == {}
    assert loop.time() - began >= 0.0205
