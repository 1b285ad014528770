"""When rejections are recorded together, and that every one of them is counted."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import pytest

from flux.errors import SpoolFull
from flux.gateway.rejections import SECOND, Rejections
from flux.record.events import Failure
from flux.record.identity import member_of
from flux.runtime.request import Request, Result


def _result(request_id: str, request: Request) -> Result:
    assert request.rejected is not None
    status, failure = request.rejected
    return Result(request_id, "t", "s", status, "rejected", "json", [], b"", failure)


@dataclass
class Group:
    """Stands in for Together."""

    executor: Executor
    request: Request
    request_id: str
    count: int = 0
    ended: bool = False

    def add(self, more: int = 1) -> Result:
        self.executor.check()
        self.count += more
        return _result(f"{self.request_id[:20]}{self.count:012x}", self.request)

    def end(self) -> None:
        self.executor.check()
        self.ended = True


@dataclass
class Executor:
    """Keeps what it is given; `full` refuses everything; `settled`: an append is durable enough."""

    alone: list[Request] = field(default_factory=list)
    groups: list[Group] = field(default_factory=list)
    full: bool = False
    settled: bool = True

    def check(self) -> None:
        if self.full:
            raise SpoolFull("full")

    async def execute(self, request: Request) -> Result:
        self.check()
        self.alone.append(request)
        return _result("a" * 32, request)

    def open_together(self, request: Request, request_id: str, started_ns: int | None = None) -> Any:
        self.check()
        self.groups.append(Group(self, request, request_id))
        return self.groups[-1]

    async def settle(self) -> None:
        return None

    def error_document(self, failure: Failure, request_id: str) -> bytes:
        return f"{failure.message} {request_id}".encode()


class Clock:
    def __init__(self) -> None:
        self.now = 100 * SECOND

    def __call__(self) -> int:
        return self.now


def rejected(
    path: str = "/x", status: int = 404, kind: str = "NotFound", function: str | None = None
) -> Request:
    request = Request(trigger="http", function=function, path=path)
    request.rejected = status, Failure(type=kind, message=f"{kind} {path}")
    return request


@pytest.fixture
def executor() -> Executor:
    return Executor()


@pytest.fixture
def clock() -> Clock:
    return Clock()


def make(executor: Executor, clock: Clock, limit: int = 2) -> Rejections:
    return Rejections(executor, limit, ticks=clock, clock=clock)  # type: ignore[arg-type]


async def test_up_to_the_limit_each_rejection_is_an_execution(executor: Executor, clock: Clock) -> None:
    rejections = make(executor, clock)
    for _ in range(3):
        await rejections.reject(rejected())
        await rejections.reject(rejected())
        clock.now += SECOND
    assert (len(executor.alone), executor.groups) == (6, [])


async def test_above_it_those_of_one_status_reason_and_function_share_one(
    executor: Executor, clock: Clock
) -> None:
    rejections = make(executor, clock)
    for n in range(2 + 5):
        await rejections.reject(rejected(f"/{n}"))
    await rejections.reject(rejected(status=400, kind="BadJSON", function="f"))
    await rejections.reject(rejected(status=400, kind="BadJSON", function="g"))
    assert [group.count for group in executor.groups] == [5, 1, 1]
    rejections.close()
    assert all(group.ended for group in executor.groups)


async def test_each_answer_has_an_id_that_leads_to_the_record_and_its_own_words(
    executor: Executor, clock: Clock
) -> None:
    rejections = make(executor, clock, limit=0)
    results = [await rejections.reject(rejected(f"/{n}")) for n in range(3)]
    [group] = executor.groups
    assert [member_of(result.request_id) for result in results] == [(group.request_id, n) for n in (1, 2, 3)]
    assert results[2].error is not None
    assert results[2].error.message == "NotFound /2"
    assert results[2].body == f"NotFound /2 {results[2].request_id}".encode()
    rejections.close()


async def test_a_record_is_ended_with_its_second_and_the_next_begins_anew(
    executor: Executor, clock: Clock
) -> None:
    rejections = make(executor, clock, limit=1)
    for _ in range(3):
        await rejections.reject(rejected())
    rejections.tick()
    assert not executor.groups[0].ended
    clock.now += SECOND
    rejections.tick()
    assert executor.groups[0].ended
    await rejections.reject(rejected())
    assert len(executor.alone) == 2
    await rejections.reject(rejected())
    assert [group.count for group in executor.groups] == [2, 1]
    rejections.close()


async def test_the_end_comes_by_itself_within_a_second(executor: Executor, clock: Clock) -> None:
    rejections = make(executor, clock, limit=0)
    clock.now += SECOND - 10_000_000  # 10 ms before the second is over
    await rejections.reject(rejected())
    clock.now += SECOND
    async with asyncio.timeout(30):
        while not executor.groups[0].ended:
            await asyncio.sleep(0.005)


async def test_what_could_not_be_recorded_is_once_there_is_room(executor: Executor, clock: Clock) -> None:
    rejections = make(executor, clock)
    executor.full = True
    failure = Failure(type="SpoolFull", message="later")
    for _ in range(4):
        request = Request(trigger="http", function="f", body=b"x")
        with pytest.raises(SpoolFull):
            await rejections.reject(rejected())
        request_id = rejections.unrecorded(request, 503, failure)
    clock.now += SECOND
    rejections.tick()
    assert executor.groups == []
    rejections.unrecorded(Request(trigger="http", function="f"), 503, failure)
    executor.full = False
    rejections.tick()
    [group] = executor.groups
    assert (group.count, group.ended) == (5, True)
    assert member_of(request_id) == (group.request_id, 4)
    assert group.request.rejected == (503, failure)
    assert group.request.body == b""
    rejections.close()
    assert len(executor.groups) == 1


async def test_an_end_that_finds_no_room_is_written_later(executor: Executor, clock: Clock) -> None:
    rejections = make(executor, clock, limit=0)
    await rejections.reject(rejected())
    executor.full = True
    clock.now += SECOND
    rejections.tick()
    assert not executor.groups[0].ended
    executor.full = False
    rejections.tick()
    assert executor.groups[0].ended
    rejections.close()


async def test_an_open_record_is_joined_within_its_second_only(executor: Executor, clock: Clock) -> None:
    rejections = make(executor, clock, limit=1)
    key = (404, "NotFound", None)
    await rejections.reject(rejected())
    assert not rejections.flooded
    assert rejections.joining(key) is None  # none is open yet
    await rejections.reject(rejected())
    [group] = executor.groups
    assert rejections.flooded
    assert rejections.joining(key) is group  # type: ignore[comparison-overlap]
    assert rejections.joining((400, "BadJSON", "f")) is None
    clock.now += SECOND
    assert not rejections.flooded
    assert rejections.joining(key) is None
    rejections.close()
    assert group.ended


async def test_no_record_is_joined_where_an_append_is_not_durable_enough(
    executor: Executor, clock: Clock
) -> None:
    rejections = make(executor, clock, limit=0)
    executor.settled = False
    await rejections.reject(rejected())
    assert len(executor.groups) == 1
    assert rejections.joining((404, "NotFound", None)) is None
    rejections.close()
