"""The recorded order of what one guest process was told: invocations that began, and answers that came.

Functions of one process share its modules, so a replay of several keeps the order across them.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable

from flux.errors import FluxError
from flux.replay.record import Recorded

Turn = tuple[str, int]
"""What is told: an execution's id, and the seq of the call that is answered; 0 for its beginning."""


class Left(FluxError):
    """An execution takes no more turns."""


class Order:
    """Whose turn it is. Used from one event loop.

    Args:
        executions: those that ran in the process.
    """

    def __init__(self, executions: Iterable[Recorded]) -> None:
        turns: list[tuple[int, Turn]] = []
        for each in executions:
            turns.append((each.sent, (each.request_id, 0)))
            for call in each.calls.values():
                if call.delivered is not None:
                    turns.append((call.delivered, (each.request_id, call.seq)))
        self._turns = deque(turn for _, turn in sorted(turns))
        self._dropped: set[Turn] = set()
        self._left: set[str] = set()
        self._waiting: dict[Turn, asyncio.Future[None]] = {}
        self._loop = asyncio.get_running_loop()
        self._moved = self._loop.time()

    def moved(self) -> None:
        """Something happened in one of them."""
        self._moved = self._loop.time()

    def stalled(self, request_id: str, seconds: float) -> bool:
        """Whether nothing has happened for so long because this execution does not ask for what was answered
        next."""
        head = self._head()
        waits = head is not None and head[0] == request_id and head[1] > 0 and head not in self._waiting
        return waits and self._loop.time() - self._moved > seconds

    async def turn(self, turn: Turn) -> None:
        """Wait until it is this one's turn. Whoever returns from here takes it in the same step (`take`).

        Raises:
            Left: its execution takes no more turns.
        """
        while True:
            if turn[0] in self._left:
                raise Left("It takes no more turns.")
            if self._head() == turn:
                return
            waiting = self._waiting[turn] = self._loop.create_future()
            try:
                await waiting
            finally:
                self._waiting.pop(turn, None)

    def take(self, turn: Turn) -> None:
        """It was told: the next may be."""
        self.moved()
        if self._head() == turn:
            self._turns.popleft()
        else:
            self._dropped.add(turn)
        self._wake()

    def drop(self, turn: Turn) -> None:
        """It will not be told: nobody waits for it any more."""
        self._dropped.add(turn)
        self._wake()

    def leave(self, request_id: str) -> None:
        """An execution is over, or has diverged: what was told to it live is told to it no more."""
        self._left.add(request_id)
        for turn, waiting in self._waiting.items():
            if turn[0] == request_id and not waiting.done():
                waiting.set_result(None)
        self._wake()

    def _head(self) -> Turn | None:
        while self._turns:
            turn = self._turns[0]
            if turn not in self._dropped and turn[0] not in self._left:
                return turn
            self._turns.popleft()
            self._dropped.discard(turn)
        return None

    def _wake(self) -> None:
        head = self._head()
        waiting = None if head is None else self._waiting.get(head)
        if waiting is not None and not waiting.done():
            waiting.set_result(None)
