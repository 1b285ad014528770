"""A deadline that moves with every request, for the price of one timer per connection.

Arming and cancelling a timer around each request costs more than the request's routing. Here the time is a
number; the one timer looks at it when it fires, and goes on waiting where it has moved. Used by the
gateway's connections.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Deadline:
    """Calls `expired` once the time set last has passed.

    Args:
        loop: whose clock it goes by.
        expired: called then, once for each time that was set.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, expired: Callable[[], None]) -> None:
        self._loop = loop
        self._expired = expired
        self._at: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    def within(self, seconds: float) -> None:
        """It expires so many seconds from now; 0 means never."""
        if not seconds:
            self._at = None
            return
        self._at = at = self._loop.time() + seconds
        timer = self._timer
        if timer is None or timer.when() > at:
            if timer is not None:
                timer.cancel()
            self._timer = self._loop.call_at(at, self._look)

    def off(self) -> None:
        """It does not expire until a time is set again."""
        self._at = None

    def cancel(self) -> None:
        """It is no longer needed: lets go of the timer."""
        self._at = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        if self._at is None:
            return
        if self._at > self._loop.time():
            self._timer = self._loop.call_at(self._at, self._look)
        else:
            self._at = None
            self._expired()
