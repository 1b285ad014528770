"""Recording around small hosts, into a real recorder with its spool on disk."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.context import get_current

from flux.errors import FunctionError, SpoolFull
from flux.host.recording import Recording
from flux.record import ops
from flux.record.call import CallError, HostCall, Outcome
from flux.record.events import Call
from flux.recorder.context import CALL_KEY, current_execution
from tests.integration.host.local_record import Record, recording, spans

NOW = 1_700_000_000_000_000_000


class Answering:
    """A Host that answers with what `answer` gives; counts what reached it."""

    def __init__(self, answer: Callable[[HostCall], Awaitable[Outcome]] | None = None) -> None:
        self._answer = answer
        self.asked: list[str] = []
        self.told: list[str] = []
        self.closed = 0

    async def perform(self, call: HostCall) -> Outcome:
        self.asked.append(call.op)
        if self._answer is not None:
            return await self._answer(call)
        return Outcome(result=b"{}", now_ns=NOW)

    def sent(self, guest: str, invocation: int) -> None:
        pass

    def begin(self, call: HostCall) -> None:
        pass

    def give_up(self, n: int) -> None:
        pass

    def notify(self, call: HostCall) -> None:
        self.told.append(call.op)

    async def close(self) -> None:
        self.closed += 1


@pytest.fixture
def record(tmp_path: Path) -> Iterator[Record]:
    with recording(tmp_path) as opened:
        yield opened


def host(record: Record, inner: Answering) -> Recording:
    return Recording(
        inner,
        record.execution,
        record.context,
        tracer=record.provider.get_tracer("flux.function"),
        clock=lambda: NOW,
    )


def call(op: str, n: int, arguments: Any = None, **more: Any) -> HostCall:
    given = arguments if isinstance(arguments, bytes) else json.dumps(arguments or {}).encode()
    return HostCall(op=op, arguments=given, n=n, **more)


@pytest.mark.parametrize(
    ("op", "arguments", "tx", "sent"),
    [
        ("fetch", {}, None, True),
        ("invoke", {}, None, True),
        ("queue.push", {}, None, True),
        ("queue.push", {}, 1, False),
        ("db.commit", {}, 1, True),
        ("db.begin", {}, None, False),
        ("db.rollback", {}, 1, False),
        ("db.sql", {}, None, True),
        ("db.sql", {}, 1, False),
        ("db.query", {"operation": "select"}, None, False),
        ("db.query", {}, None, False),
        ("db.query", {"operation": "insert"}, None, True),
        ("db.query", {"operation": "insert"}, 1, False),
        ("db.query", b"not json", None, True),
        ("secrets.get", {}, None, False),
        ("sleep", {}, None, False),
    ],
)
def test_only_what_may_change_the_world_needs_an_intent(
    op: str, arguments: Any, tx: int | None, sent: bool
) -> None:
    assert ops.leaves(call(op, 1, arguments, tx=tx)) is sent


async def test_the_intent_and_all_replies_before_it_are_on_disk_when_the_effect_is_sent(
    record: Record,
) -> None:
    seen: list[list[tuple[int, str, str]]] = []

    async def look(asked: HostCall) -> Outcome:
        calls = [known for intent in record.intents() for known in intent.calls]
        seen.append([(known.seq, known.op, known.status) for known in calls])
        return Outcome(result=b"{}", now_ns=NOW)

    recorded = host(record, Answering(look))
    await recorded.perform(call("sleep", 1))
    await recorded.perform(call("fetch", 2, {"url": "http://x/"}))
    await recorded.perform(call("sleep", 3))
    assert seen == [
        [],
        [(1, "sleep", "done"), (2, "fetch", "unknown")],
        [(1, "sleep", "done"), (2, "fetch", "unknown")],
    ]


async def test_nothing_is_sent_when_the_intent_cannot_be_written(tmp_path: Path) -> None:
    with recording(tmp_path, limit=4096) as record:
        inner = Answering()
        recorded = host(record, inner)
        with pytest.raises(SpoolFull):
            await recorded.perform(call("fetch", 1, {"url": "x" * 10_000}))
        assert inner.asked == []


async def test_a_call_is_recorded_with_its_arguments_result_and_place(record: Record) -> None:
    async def answer(asked: HostCall) -> Outcome:
        return Outcome(result=b'{"id": 1}', now_ns=NOW, xid=7, snapshot="1:2:", first_n=3, last_n=4)

    outcome = await host(record, Answering(answer)).perform(
        call("db.query", 1, b'{"operation":"insert", "a":1}')
    )
    assert outcome.result == b'{"id": 1}'
    record.end()
    recorded = record.calls()[1]
    assert recorded.arguments == b'{"operation":"insert", "a":1}'
    assert recorded.result == b'{"id": 1}'
    assert (recorded.op, recorded.status, recorded.xid, recorded.snapshot) == ("db.query", "done", 7, "1:2:")
    assert recorded.parent_span_id == record.function_span_id


async def test_calls_are_delivered_in_the_order_in_which_they_return(record: Record) -> None:
    gates = [asyncio.Event() for _ in range(50)]

    async def wait(asked: HostCall) -> Outcome:
        await gates[asked.n].wait()
        return Outcome(result=str(asked.n).encode(), now_ns=NOW)

    recorded = host(record, Answering(wait))
    returned: list[int] = []

    async def ask(n: int) -> None:
        asked = call("sleep", n)
        await recorded.perform(asked)
        returned.append(asked.seq)

    tasks = [asyncio.create_task(ask(n)) for n in range(50)]
    await asyncio.sleep(0)
    for n in (n * 7 % 50 for n in range(50)):
        gates[n].set()
    await asyncio.gather(*tasks)
    record.end()
    calls = record.calls()
    by_delivery = sorted(calls.values(), key=lambda known: known.delivered or 0)
    assert [known.seq for known in by_delivery] == returned
    assert [known.seq for known in sorted(calls.values(), key=lambda known: known.started)] == list(
        range(1, 51)
    )
    assert all(known.result == str(known.seq - 1).encode() for known in calls.values())


async def test_what_goes_wrong_inside_a_host_becomes_the_calls_error(
    record: Record, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(asked: HostCall) -> Outcome:
        raise ZeroDivisionError("division by zero")

    outcome = await host(record, Answering(fail)).perform(call("sleep", 1))
    assert outcome.error == CallError("ZeroDivisionError", "sleep: division by zero")
    assert outcome.now_ns == NOW
    record.end()
    assert (record.calls()[1].status, record.calls()[1].error) == ("done", outcome.error)
    assert "failed inside Flux" in caplog.text


async def test_a_cancelled_call_stays_open_and_is_recorded_as_abandoned(record: Record) -> None:
    begun = asyncio.Event()

    async def hang(asked: HostCall) -> Outcome:
        begun.set()
        await asyncio.Event().wait()
        raise AssertionError

    task = asyncio.create_task(host(record, Answering(hang)).perform(call("fetch", 1)))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    record.end()
    assert record.calls()[1].status == "abandoned"
    assert record.calls()[1].delivered is None


async def test_a_number_used_twice_is_refused_and_recorded_and_reaches_nobody(record: Record) -> None:
    inner = Answering()
    recorded = host(record, inner)
    await recorded.perform(call("db.begin", 1))
    twice = await recorded.perform(call("db.begin", 1))
    assert twice.error is not None
    assert twice.error.type == "invalid_arguments"
    await recorded.perform(call("db.sql", 2, tx=1))
    assert inner.asked == ["db.begin", "db.sql"]
    end = record.end()
    calls = record.calls()
    assert [calls[seq].error for seq in (1, 2, 3)] == [None, twice.error, None]
    assert calls[3].tx == 1
    assert end.warnings == []


async def test_a_call_happens_in_the_context_of_its_span_and_number(record: Record) -> None:
    places: list[tuple[object, object]] = []

    async def look(asked: HostCall) -> Outcome:
        places.append((current_execution(), get_current().get(CALL_KEY)))
        with record.provider.get_tracer("db").start_as_current_span(f"inside {asked.op}"):
            await asyncio.sleep(0)
        return Outcome(result=b"{}", now_ns=NOW)

    recorded = host(record, Answering(look))
    recorded.notify(call("span.start", 1, {"name": "outer"}))
    recorded.notify(call("span.start", 2, {"name": "inner"}, span=1))
    await asyncio.gather(
        recorded.perform(call("sleep", 3)),
        recorded.perform(call("db.begin", 4, span=1)),
        recorded.perform(call("db.rollback", 5, span=2)),
    )
    assert places == [(record.execution, 1), (record.execution, 2), (record.execution, 3)]
    assert current_execution() is None
    found = spans(record.end())
    assert found["inside sleep"]["parent"] == record.function_span_id
    assert found["inside db.begin"]["parent"] == found["outer"]["span_id"]
    assert found["inside db.rollback"]["parent"] == found["inner"]["span_id"]
    assert found["inside db.rollback"]["attributes"]["flux.call"] == 3
    calls = record.calls()
    assert calls[3].parent_span_id == found["inner"]["span_id"]
    assert calls[3].span_id == found["inside db.rollback"]["span_id"]


async def test_guest_spans_are_real_spans_nested_as_the_guest_nests_them(record: Record) -> None:
    recorded = host(record, Answering())
    recorded.notify(
        call(
            "span.start",
            1,
            {"name": "outer", "attributes": {"a": 1, "b": {"c": None}, "d": None, "e": [1, "x"], "f": ["x"]}},
        )
    )
    recorded.notify(call("span.start", 2, {"name": "inner"}, span=1))
    recorded.notify(
        call("span.end", 3, {"start": 2, "error": {"type": "TypeError", "message": "no"}}, span=2)
    )
    recorded.notify(call("span.end", 4, {"start": 1}))
    end = record.end()
    found = spans(end)
    assert found["outer"]["parent"] == record.function_span_id
    assert found["inner"]["parent"] == found["outer"]["span_id"]
    assert found["outer"]["attributes"] == {"a": 1, "b": '{"c":null}', "e": '[1,"x"]', "f": ["x"]}
    assert (found["outer"]["status"], found["inner"]["status"]) == (0, 2)
    assert found["inner"]["message"] == "no"
    assert found["inner"]["attributes"] == {"error.type": "TypeError"}
    assert end.warnings == []


async def test_a_span_left_open_is_ended_with_the_execution(record: Record) -> None:
    recorded = host(record, Answering())
    recorded.notify(call("span.start", 1, {"name": "forgotten"}))
    await recorded.close()
    assert spans(record.end())["forgotten"]["parent"] == record.function_span_id


async def test_log_lines_are_kept_in_order_with_the_calls_and_in_their_span(record: Record) -> None:
    recorded = host(record, Answering())
    recorded.notify(call("log", 1, b'{"level":"warning","message":"one","fields":{"b": 1.0}}'))
    await recorded.perform(call("sleep", 2))
    recorded.notify(call("span.start", 3, {"name": "s"}))
    recorded.notify(call("log", 4, {"level": "error", "message": "two"}, span=3))
    end = record.end()
    assert [(line.seq, line.level, line.message, line.fields) for line in end.logs] == [
        (1, "warn", "one", b'{"b": 1.0}'),
        (3, "error", "two", None),
    ]
    assert [line.span_id for line in end.logs] == [record.function_span_id, spans(end)["s"]["span_id"]]


@pytest.mark.parametrize("arguments", [b"{", b"[]", b'{"level":"info"}', b'{"message":5}', b"\xff"])
async def test_a_log_line_is_kept_whatever_it_holds(record: Record, arguments: bytes) -> None:
    host(record, Answering()).notify(call("log", 1, arguments))
    (line,) = record.end().logs
    assert line.message == arguments.decode("utf-8", "replace")


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (call("span.start", 1, {}), "span.start: Object missing required field `name`"),
        (call("span.end", 1, {"start": 9}), "no span numbered 9"),
        (call("span.end", 1, b"nope"), "span.end: "),
        (call("fetch", 1, {}), "`fetch` is not a one-way call"),
    ],
)
async def test_a_one_way_call_that_makes_no_sense_is_a_warning(
    record: Record, bad: HostCall, words: str
) -> None:
    host(record, Answering()).notify(bad)
    (warning,) = record.end().warnings
    assert words in warning


async def test_a_one_way_call_with_a_used_number_is_a_warning(record: Record) -> None:
    recorded = host(record, Answering())
    await recorded.perform(call("sleep", 1))
    recorded.notify(call("log", 1, {"message": "again"}))
    end = record.end()
    assert end.logs == []
    assert "the call number 1 was used before" in end.warnings[0]


async def test_the_call_after_the_last_one_allowed_ends_the_execution(
    record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flux.host.recording.MOST_CALLS", 2)
    inner = Answering()
    recorded = host(record, inner)
    for n in (1, 2):
        await recorded.perform(call("sleep", n))
    with pytest.raises(FunctionError, match="more than 2 host calls"):
        await recorded.perform(call("sleep", 3))
    assert inner.asked == ["sleep", "sleep"]
    assert len(record.end().calls) == 2


async def test_after_close_nothing_is_done(record: Record) -> None:
    inner = Answering()
    recorded = host(record, inner)
    await recorded.close()
    await recorded.close()
    outcome = await recorded.perform(call("fetch", 1))
    recorded.notify(call("log", 2, {"message": "late"}))
    assert outcome.error is not None
    assert outcome.error.type == "ExecutionOver"
    assert (inner.asked, inner.closed) == ([], 1)
    end = record.end()
    assert (end.calls, end.logs) == ([], [])


async def test_an_execution_whose_calls_are_not_kept_is_performed_all_the_same(tmp_path: Path) -> None:
    with recording(tmp_path, level="none") as record:
        inner = Answering()
        await host(record, inner).perform(call("fetch", 1))
        record.end()
        assert inner.asked == ["fetch"]
        assert record.calls() == dict[int, Call]()


async def test_a_call_that_is_given_up_before_anything_is_done_is_recorded_in_its_place(
    record: Record,
) -> None:
    recorded = host(record, Answering())
    recorded.begin(call("fetch", 1, {"url": "http://x/"}))
    recorded.notify(call("log", 2, {"level": "info", "message": "after it"}))
    recorded.give_up(1)
    await recorded.close()
    end = record.end()
    assert [(known.seq, known.op, known.status) for known in end.calls] == [(1, "fetch", "abandoned")]
    assert [(line.seq, line.message) for line in end.logs] == [(2, "after it")]


async def test_a_call_keeps_the_clock_that_its_answer_carried_exactly(record: Record) -> None:
    await host(record, Answering()).perform(call("sleep", 1))
    assert record.end().calls[0].now_ns == NOW


async def test_an_invocation_has_its_place_among_the_deliveries(record: Record) -> None:
    recorded = host(record, Answering())
    recorded.sent("deno-abc123-1", 7)
    await recorded.perform(call("fetch", 1, {"url": "http://x/"}))
    (intent,) = record.intents()
    end = record.end()
    assert (intent.guest, intent.invocation) == ("deno-abc123-1", 7)
    (done,) = end.calls
    assert done.delivered is not None
    assert intent.sent == end.sent < done.started < done.delivered


async def test_what_was_cut_keeps_the_digest_of_the_whole(record: Record) -> None:
    long = b'{"value":"' + b"x" * 2**21 + b'"}'

    async def answer(_: HostCall) -> Outcome:
        return Outcome(result=long, now_ns=NOW)

    await host(record, Answering(answer)).perform(call("sleep", 1, long))
    (done,) = record.end().calls
    assert done.arguments_sha256 == done.result_sha256 == hashlib.sha256(long).digest()
