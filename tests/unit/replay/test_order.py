"""The order in which a guest process was told things, across its executions."""

from __future__ import annotations

import asyncio

import pytest

from flux.replay.order import Left, Order, Turn
from tests.unit.replay.recorded import A, B, answered, recorded


def two() -> Order:
    """A begins, B begins, A's second call is answered, then B's first, then A's first."""
    return Order(
        [
            recorded(answered(1, delivered=9), answered(2, delivered=5), request_id=A, sent=1),
            recorded(answered(1, delivered=7), request_id=B, sent=3),
        ]
    )


async def taken(order: Order, turns: list[Turn]) -> list[Turn]:
    """The order in which those get their turns that all wait at once."""
    found: list[Turn] = []

    async def wait(turn: Turn) -> None:
        await order.turn(turn)
        found.append(turn)
        order.take(turn)

    await asyncio.wait_for(asyncio.gather(*map(wait, turns)), 5)
    return found


async def test_turns_come_in_the_recorded_order_whoever_waits_first() -> None:
    turns = [(A, 1), (B, 1), (A, 2), (B, 0), (A, 0)]
    assert await taken(two(), turns) == [(A, 0), (B, 0), (A, 2), (B, 1), (A, 1)]


async def test_a_turn_that_is_given_up_is_not_waited_for() -> None:
    order = two()
    order.drop((A, 2))
    assert await taken(order, [(A, 1), (B, 1), (B, 0), (A, 0)]) == [(A, 0), (B, 0), (B, 1), (A, 1)]


async def test_an_execution_that_leaves_frees_the_others_and_its_own() -> None:
    order = two()
    own = asyncio.create_task(order.turn((A, 2)))
    others = asyncio.create_task(taken(order, [(B, 0), (B, 1)]))
    await asyncio.sleep(0)
    order.leave(A)
    assert await others == [(B, 0), (B, 1)]
    with pytest.raises(Left):
        await own


async def test_it_stalls_only_for_who_does_not_ask_for_what_came_next() -> None:
    order = two()
    order.take((A, 0))
    order.take((B, 0))
    assert order.stalled(A, -1)
    assert not order.stalled(B, -1)
    waiting = asyncio.create_task(order.turn((A, 2)))
    await asyncio.sleep(0)
    assert waiting.done()
