"""The host that answers from a record: what it answers when, and what it calls a divergence."""

from __future__ import annotations

import asyncio

import pytest

from flux.errors import DeadlineExceeded, Unanswered
from flux.record.call import Outcome
from flux.replay.host import DIVERGED, Diverged, Replay
from flux.replay.order import Order
from flux.replay.record import Recorded, RecordedLine
from tests.unit.replay.recorded import DEADLINE, REFUSED, answered, call, line, recorded


def replay(execution: Recorded, told: list[tuple[str, str]] | None = None) -> Replay:
    host = Replay(execution, Order([execution]), lambda name, value: told and None)
    host.sent("deno-1-2", 1)
    return host


async def test_answers_come_in_the_recorded_order_with_the_recorded_clock() -> None:
    host = replay(recorded(answered(1, delivered=20, now_ns=7), answered(2, delivered=10, now_ns=5)))
    first, second = call(1), call(2)
    host.begin(first)
    host.begin(second)
    order: list[int] = []

    async def perform(which: int) -> Outcome:
        outcome = await host.perform((first, second)[which])
        order.append(which)
        return outcome

    answers = await asyncio.wait_for(asyncio.gather(perform(0), perform(1)), 5)
    assert order == [1, 0]
    assert [answer.now_ns for answer in answers] == [7, 5]
    host.missing()
    assert host.divergence is None


async def test_an_error_is_answered_as_it_was() -> None:
    host = replay(recorded(answered(1, "db.sql", delivered=3, result=None, error=REFUSED)))
    host.begin(call(1, "db.sql"))
    assert (await host.perform(call(1, "db.sql"))).error == REFUSED


@pytest.mark.parametrize(
    ("was", "now", "field", "values"),
    [
        ({"ms": 5}, {"ms": 6}, "ms", (5, 6)),
        ({"a": [{"b": 1}]}, {"a": [{"b": 2}]}, "a[0].b", (1, 2)),
        ({"a": 1}, {}, "a", (1, None)),
        ({}, {"a": 1}, "a", (None, 1)),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, "", ('{"a": 1, "b": 2}', '{"b": 2, "a": 1}')),
    ],
)
async def test_other_arguments_are_named_by_their_place(
    was: object, now: object, field: str, values: tuple[object, object]
) -> None:
    host = replay(recorded(answered(1, delivered=3, arguments=was)))
    host.begin(call(1, arguments=now))
    found = host.divergence
    assert found is not None
    assert (found.seq, found.op, found.field, (found.recorded, found.actual)) == (1, "sleep", field, values)


async def test_the_call_that_diverges_fails_where_it_is_made_and_the_next_ends_it() -> None:
    host = replay(recorded(answered(1, "fetch", delivered=3), answered(2, delivered=4)))
    host.begin(call(1, "sleep"))
    outcome = await host.perform(call(1, "sleep"))
    assert outcome.error is not None
    assert outcome.error.type == DIVERGED
    assert "fetch" in outcome.error.message
    assert "sleep" in outcome.error.message
    host.begin(call(2))
    with pytest.raises(Diverged):
        await host.perform(call(2))


async def test_an_effect_without_a_recording_is_refused_by_name() -> None:
    host = replay(recorded())
    host.begin(call(1, "fetch", {"url": "http://x/"}))
    assert host.divergence is not None
    assert (host.divergence.op, host.divergence.recorded) == ("fetch", None)
    assert (await host.perform(call(1, "fetch"))).error is not None


async def test_what_was_not_asked_again_is_missing() -> None:
    host = replay(recorded(answered(1, "queue.push", delivered=3, arguments={"name": "j"})))
    host.missing()
    assert host.divergence is not None
    assert (host.divergence.seq, host.divergence.op, host.divergence.actual) == (1, "queue.push", None)


async def test_a_line_has_its_place_among_the_calls() -> None:
    lines = [RecordedLine(1, "info", "first", None)]
    same = replay(recorded(answered(2, delivered=3), lines=lines))
    same.notify(line(1, "first"))
    same.begin(call(2))
    assert same.divergence is None
    other = replay(recorded(answered(2, delivered=3), lines=lines))
    other.begin(call(1))
    assert other.divergence is not None
    assert other.divergence.field == "op"
    changed = replay(recorded(answered(2, delivered=3), lines=lines))
    changed.notify(line(1, "second"))
    assert changed.divergence is not None
    assert (changed.divergence.recorded, changed.divergence.actual) == ("first", "second")


async def test_a_call_that_was_never_answered_is_not_waited_for_once_all_else_has_happened() -> None:
    host = replay(recorded(answered(1), answered(2, delivered=3)))
    host.begin(call(1))
    open_call = asyncio.create_task(host.perform(call(1)))
    host.begin(call(2))
    await host.perform(call(2))
    with pytest.raises(Unanswered):
        await asyncio.wait_for(open_call, 5)


async def test_what_a_deadline_ended_ends_at_the_end_of_its_record() -> None:
    host = replay(recorded(answered(1), error=DEADLINE, cut_short="its deadline ended it"))
    host.begin(call(1))
    with pytest.raises(DeadlineExceeded):
        await asyncio.wait_for(host.perform(call(1)), 5)
    host.begin(call(2, "fetch"))
    with pytest.raises(DeadlineExceeded):
        await asyncio.wait_for(host.perform(call(2, "fetch")), 5)
    assert host.divergence is None


async def test_a_call_that_is_given_up_gives_its_turn_to_the_next() -> None:
    host = replay(recorded(answered(1, delivered=3), answered(2, delivered=4)))
    host.begin(call(1))
    host.begin(call(2))
    host.give_up(1)
    assert (await asyncio.wait_for(host.perform(call(2)), 5)).now_ns == 2


async def test_a_call_in_another_transaction_diverges() -> None:
    host = replay(recorded(answered(1, "db.begin", delivered=2), answered(2, "db.sql", delivered=3, tx=1)))
    host.begin(call(1, "db.begin"))
    await host.perform(call(1, "db.begin"))
    host.begin(call(2, "db.sql"))
    assert host.divergence is not None
    assert host.divergence.field == "tx"
