"""Rejected requests: executions like any other, up to so many a second; further ones are recorded together.

A flood of requests that are refused (a wrong path, a body that is no JSON, a function without room) must not
cost more than it has to, nor push what matters out of the record. Beyond the limit those of one second with
the same status, reason and function share one execution, which counts them: before each is answered its
number is in the spool, so that a crash loses none of them.

A request that could not be recorded at all (no room in the spool) is counted in memory, and recorded in the
same way once there is room; those a kill -9 loses. Used by the gateway.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from flux.errors import SpoolError
from flux.record.events import Failure
from flux.record.identity import member_id, together_id
from flux.runtime.executor import Executor
from flux.runtime.request import Request, Result
from flux.runtime.together import Together

log = logging.getLogger("flux.gateway")

SECOND = 1_000_000_000
Key = tuple[int, str, str | None]
"""Status, error type, function."""


@dataclass(slots=True)
class Unrecorded:
    """Requests answered 503 because they could not be recorded: the first, and how many."""

    request: Request
    request_id: str
    began_ns: int
    count: int = 0
    together: Together | None = None


class Rejections:
    """The rejections of one server.

    Args:
        executor: records them.
        limit: how many of a second are executions of their own.
        ticks: monotonic clock, ns. clock: wall clock, ns. entropy: for ids.
    """

    def __init__(
        self,
        executor: Executor,
        limit: int,
        *,
        ticks: Callable[[], int] = time.monotonic_ns,
        clock: Callable[[], int] = time.time_ns,
        entropy: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._executor = executor
        self._limit = limit
        self._ticks = ticks
        self._clock = clock
        self._entropy = entropy
        self._second = 0
        self._seen = 0
        self._together: dict[Key, Together] = {}
        self._over: list[Together] = []
        self._unrecorded: dict[Key, Unrecorded] = {}
        self._timer: asyncio.TimerHandle | None = None

    async def reject(self, request: Request) -> Result:
        """Record a request whose `rejected` is set, alone or with others; how it is to be answered.

        Raises:
            SpoolError: it can't be recorded.
        """
        self._look()
        self._seen += 1
        if self._seen <= self._limit:
            return await self._executor.execute(request)
        assert request.rejected is not None
        status, failure = request.rejected
        key = (status, failure.type, request.function)
        together = self._together.get(key)
        if together is None:
            together = self._executor.open_together(request, together_id(self._entropy))
            self._together[key] = together
            self._wake()
        request.begun = True
        result = together.add()
        await self._executor.settle()
        # Its own words, where they differ from the first one's (a path, a column).
        return msgspec.structs.replace(
            result, error=failure, body=self._executor.error_document(failure, result.request_id)
        )

    @property
    def flooded(self) -> bool:
        """Whether rejections may join open records now: this second has seen its limit, and an append is all
        that an answer has to wait for.
        """
        self._look()
        return bool(self._together) and self._executor.settled

    def joining(self, key: Key) -> Together | None:
        """The open record that one more rejection of this kind joins; without one it has to be `reject`ed."""
        return self._together.get(key) if self.flooded else None

    def unrecorded(self, request: Request, status: int, failure: Failure) -> str:
        """Count a request that could not be recorded and did not run; gives the id for its answer."""
        key = (status, failure.type, request.function)
        found = self._unrecorded.get(key)
        if found is None:
            request.rejected = status, failure
            request.body, request.body_size = b"", len(request.body)
            found = Unrecorded(request, together_id(self._entropy), self._clock())
            self._unrecorded[key] = found
            self._wake()
        found.count += 1
        return member_id(found.request_id, found.count)

    def tick(self) -> None:
        """Write down what is over: the last second's, and what could not be recorded so far."""
        self._timer = None
        self._look()
        self._write()
        if self._together or self._over or self._unrecorded:
            self._wake()

    def close(self) -> None:
        """The server stops: write down everything that can be."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._over += self._together.values()
        self._together = {}
        self._write()
        lost = sum(one.count for one in self._unrecorded.values())
        if lost:
            log.error("%d requests were answered 503 and could not be recorded: there was no room", lost)

    def _look(self) -> None:
        """Begin a new second where the last one is over."""
        second = self._ticks() // SECOND
        if second != self._second:
            self._second, self._seen = second, 0
            self._over += self._together.values()
            self._together = {}

    def _wake(self) -> None:
        if self._timer is None:
            left = SECOND - self._ticks() % SECOND
            self._timer = asyncio.get_running_loop().call_later(left / SECOND, self.tick)

    def _write(self) -> None:
        while self._over:
            try:
                self._over[-1].end()
            except SpoolError:
                return  # its tallies are in the spool; the end follows
            self._over.pop()
        for key, one in list(self._unrecorded.items()):
            try:
                if one.together is None:
                    one.together = self._executor.open_together(one.request, one.request_id, one.began_ns)
                if one.together.count < one.count:
                    one.together.add(one.count - one.together.count)
                one.together.end()
            except SpoolError:
                return
            del self._unrecorded[key]
