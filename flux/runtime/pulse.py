"""Whether a guest's event loop still reacts: pings, and how long they go unanswered. Used by GuestProcess."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from flux.runtime.connection import Connection
from flux.runtime.frames import encode

PONG_WITHIN = 0.03
"""Seconds that a guest has to answer a ping around a deadline before it counts as blocked and is killed."""
BUSY_AFTER = 0.1
"""Seconds without an answer to a ping after which new invocations go elsewhere."""
READ_ONCE_MORE = 0.002
"""Seconds in which a pong is read that came while our own loop was busy."""


class Pulse:
    """A guest's pulse. One ping is unanswered at a time.

    Args:
        connection: to the guest.
        stopped: told that the guest doesn't react, after `judge`.
        answered: told of each answer.
    """

    def __init__(
        self, connection: Connection, stopped: Callable[[], None], answered: Callable[[], None]
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._connection = connection
        self._stopped = stopped
        self._answered = answered
        self._sent = 0
        self._waiting: float | None = None

    @property
    def slow(self) -> bool:
        """Whether its event loop has been blocked for a while, as far as is known without waiting.

        Asking about one that has been silent sends a ping; a later question finds it answered or not.
        """
        now = self._loop.time()
        if now - self._connection.heard < BUSY_AFTER:
            return False
        if self._waiting is None:
            self.ping()
            return False
        return now - self._waiting > BUSY_AFTER

    def ping(self) -> None:
        """Ask for a sign of life, unless one is being waited for."""
        if self._waiting is None:
            self._waiting = self._loop.time()
            self._sent += 1
            self._connection.write(encode({"t": "ping", "k": self._sent}))

    def pong(self) -> None:
        """It lives."""
        self._waiting = None
        self._answered()

    def judge(self) -> None:
        """Call `stopped` unless the guest answers: within PONG_WITHIN of the ping that it owes an answer to,
        of one sent now otherwise."""
        self.ping()
        assert self._waiting is not None
        rest = self._waiting + PONG_WITHIN - self._loop.time()
        self._loop.call_later(max(rest, 0), self._suspect, self._sent)

    def _suspect(self, ping: int) -> None:
        if self._unanswered(ping):
            self._loop.call_later(READ_ONCE_MORE, self._condemn, ping)

    def _condemn(self, ping: int) -> None:
        if self._unanswered(ping):
            self._stopped()

    def _unanswered(self, ping: int) -> bool:
        return self._waiting is not None and self._sent == ping
