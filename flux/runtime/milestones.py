"""What a guest says once, when it is asked for: that it has booted, that code is ready or does not load.
Used by the process alone.
"""

from __future__ import annotations

import asyncio

from flux.errors import GuestDied, RuntimeFault
from flux.runtime.frames import Header

MILESTONES = ("booted", "ready", "failed")
"""The frames that are."""


class Milestones:
    """The next one that is waited for. Belongs to one event loop."""

    def __init__(self) -> None:
        self._awaited: asyncio.Future[Header] | None = None
        self._dead: GuestDied | None = None

    def next(self) -> asyncio.Future[Header]:
        """The header of the next one; fails with GuestDied when the process ends, or has ended."""
        awaited: asyncio.Future[Header] = asyncio.get_running_loop().create_future()
        if self._dead is not None:
            awaited.set_exception(self._dead)
        else:
            self._awaited = awaited
        return awaited

    def take(self, header: Header, body: bytes) -> None:
        """One came.

        Raises:
            RuntimeFault: nothing asked for it.
        """
        awaited, self._awaited = self._awaited, None
        if awaited is None:
            raise RuntimeFault(f"a `{header['t']}` that nothing asked for")
        if not awaited.done():
            awaited.set_result(header)

    def end(self, death: GuestDied) -> None:
        """No more come: the process has ended."""
        self._dead = death
        if self._awaited is not None and not self._awaited.done():
            self._awaited.set_exception(death)
        self._awaited = None
