"""Connections to the user's database, lent to sessions: fairly among functions, and each time as if it
were new.

A connection that comes back is reset before anybody else may have it, behind the answer of whoever had
it. Held by flux.data.database.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import asyncpg

from flux.data.connection import Connection
from flux.data.errors import DATABASE_ERRORS, Refused
from flux.histogram import WAITS, Histogram

_log = logging.getLogger(__name__)
_CANCEL_SECONDS = 5.0
_CLEAN_SECONDS = 5.0
_SHARE = 3
"""A function may take a further connection while it holds fewer than this many times what nobody holds."""

Heal = Callable[[], Awaitable[None]]
"""Takes off what somebody gave the role that functions run as: settings, another password."""


class Pool:
    """At most `size` connections, opened when first needed, the most recently used one lent first.

    No function can have them all (but of a pool of three or fewer): one alone gets three quarters, and
    what it leaves is shared in the same way (Choudhury and Hahne, "Dynamic queue length thresholds",
    1998). A connection that comes free goes to the function that holds fewest, of several to the one
    that waits longest.

    Args:
        connect_args: keyword arguments of asyncpg.connect.
        size: most connections at once.
        prefixes: False behind a transaction pooler, where nothing may be prepared.
        heal: called when a connection shows that somebody has changed the role that functions run as.
    """

    def __init__(
        self, connect_args: Mapping[str, Any], *, size: int, prefixes: bool, heal: Heal | None = None
    ) -> None:
        self._connect_args = connect_args
        self._gate = f"flux_{secrets.token_hex(16)}" if prefixes else None
        self._heal = heal
        self._idle: deque[Connection] = deque()
        self._waiters: dict[str, deque[tuple[int, asyncio.Future[None]]]] = {}
        self._turns = 0
        self._held: Counter[str] = Counter()
        self._lent = 0
        self._epoch = 0
        self._chores: set[asyncio.Task[None]] = set()
        self._closed = False
        self.size = size
        self.days: set[str] = set()
        """Days that have been made ready in the database, see Connection.open_day."""
        self.waits = Histogram(WAITS)
        """How long sessions waited for a connection, those that waited for none included."""
        self.timeouts = 0
        """Sessions that waited in vain."""

    @property
    def idle(self) -> int:
        """Connections that are open and not lent."""
        return len(self._idle)

    @property
    def pending(self) -> int:
        """Sessions that wait for a connection."""
        return sum(len(queue) for queue in self._waiters.values())

    @property
    def lent(self) -> int:
        """Connections that are lent, or being opened or cleaned."""
        return self._lent

    async def acquire(self, deadline: float | None, user: str = "") -> Connection:
        """A connection, waiting for one until `deadline` (the loop's clock; None waits for ever).

        Args:
            deadline: until when to wait.
            user: the function that wants it; `release` takes the same.

        Raises:
            Refused: `too_many_connections`: none came free in time.
            OSError, asyncpg.PostgresError: Postgres could not be reached.
        """
        if self._closed:
            raise Refused("connection_does_not_exist", "The database is closed: Flux is shutting down.")
        if self._lent < self.size and user not in self._waiters and self._may_hold(user):
            self._lent += 1
            self._held[user] += 1
            self.waits.counts[0] += 1
        else:
            began = time.perf_counter()
            await self._turn(deadline, user)
            self.waits.add(time.perf_counter() - began)
        try:
            while self._idle:
                connection = self._next_idle(user)
                if not connection.is_closed():
                    if connection.epoch != self._epoch:
                        connection.forget_schema()
                        connection.epoch = self._epoch
                    try:
                        if connection.exposed:
                            await connection.forget_function(user)
                    except BaseException:
                        connection.terminate()
                        raise
                    return connection
            return await self._open(deadline)
        except BaseException:
            self._let_go(user)
            self._return()
            raise

    def release(self, connection: Connection, user: str = "") -> None:
        """Take `connection` back, whatever state it is in. Never waits: it is reset behind."""
        if connection.stale:
            connection.stale = False
            self._epoch += 1
            connection.epoch = self._epoch
        self._let_go(user)
        if connection.is_closed():
            self._return()
        else:
            self._chore(self._restore(connection))
            self._grant()

    def schema_changed(self) -> None:
        """The schema is another one now: statements prepared before are not used again."""
        self._epoch += 1

    def chore(self, work: Awaitable[None]) -> asyncio.Task[None]:
        """Run `work` to its end even if who asked for it is cancelled; close() waits for it."""
        return self._chore(work)

    async def close(self) -> None:
        """Close every connection; those that are lent close when they come back."""
        self._closed = True
        for queue in self._waiters.values():
            for _, waiter in queue:
                if not waiter.done():
                    waiter.set_exception(
                        Refused("connection_does_not_exist", "The database is closed: Flux is shutting down.")
                    )
        self._waiters.clear()
        while self._chores:
            await asyncio.gather(*self._chores, return_exceptions=True)
        while self._idle:
            await _close(self._idle.pop())

    def _next_idle(self, user: str) -> Connection:
        """The one used last; where functions could read each other's statements, the one that `user` had."""
        last = self._idle[-1]
        if last.exposed and last.user != user:
            for connection in self._idle:
                if connection.user == user:
                    self._idle.remove(connection)
                    return connection
        return self._idle.pop()

    def _may_hold(self, user: str) -> bool:
        """Whether `user` may hold one more. What is being reset is nobody's."""
        free = self.size - self._held.total()
        return self._held[user] < _SHARE * free

    def _let_go(self, user: str) -> None:
        self._held[user] -= 1
        if not self._held[user]:
            del self._held[user]

    async def _turn(self, deadline: float | None, user: str) -> None:
        """Wait for a place; it is then ours (`_lent` and `_held` already count it)."""
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = loop.create_future()
        self._turns += 1
        turn = (self._turns, waiter)
        self._waiters.setdefault(user, deque()).append(turn)
        try:
            async with asyncio.timeout_at(deadline):
                await waiter
        except BaseException as error:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self._let_go(user)
                self._return()
            else:
                self._give_up(user, turn)
            if isinstance(error, TimeoutError):
                self.timeouts += 1
                others = self._held.total() - self._held[user]
                raise Refused(
                    "too_many_connections",
                    f"No database connection came free in time: of {self.size} (`pool_size` in flux.toml) "
                    f"this function holds {self._held[user]}, others {others}.",
                ) from error
            raise

    def _return(self) -> None:
        """Count a place free."""
        self._lent -= 1
        self._grant()

    def _grant(self) -> None:
        """Give what is free to those who wait."""
        while self._lent < self.size and (user := self._next_waiting()) is not None:
            turn = self._waiters[user][0]
            self._give_up(user, turn)
            if not turn[1].done():  # else cancelled, and not yet run to say so
                self._lent += 1
                self._held[user] += 1
                turn[1].set_result(None)

    def _give_up(self, user: str, turn: tuple[int, asyncio.Future[None]]) -> None:
        """Take somebody off the list of those who wait."""
        queue = self._waiters.get(user)
        if queue is not None and turn in queue:
            queue.remove(turn)
            if not queue:
                del self._waiters[user]

    def _next_waiting(self) -> str | None:
        """Who of those that wait is the next."""
        first = {user: queue[0][0] for user, queue in self._waiters.items() if self._may_hold(user)}
        return min(first, key=lambda user: (self._held[user], first[user]), default=None)

    async def _open(self, deadline: float | None) -> Connection:
        """A new connection. One that shows that somebody has changed the role is closed, the role healed, and
        another opened: settings are taken when a connection begins."""
        for attempt in (1, 2):
            try:
                async with asyncio.timeout_at(deadline):
                    connection, foreign = await self._connect()
            except TimeoutError as error:
                raise OSError("connecting took too long") from error
            except asyncpg.PostgresError as error:
                if attempt == 2 or self._heal is None or not _of_the_role(error):
                    raise
                _log.warning("functions can't connect: %s", error)
            else:
                if not foreign or attempt == 2 or self._heal is None:
                    connection.epoch = self._epoch
                    return connection
                _log.warning("somebody gave the role that functions run as settings: %s", "; ".join(foreign))
                connection.terminate()
            await self._heal()
        raise AssertionError("the second attempt returns or raises")

    async def _connect(self) -> tuple[Connection, list[str]]:
        connection: Connection = await asyncpg.connect(
            **{**self._connect_args, "connection_class": Connection}
        )
        try:
            return connection, await connection.prepare_for_use(self._gate)
        except BaseException:
            connection.terminate()
            raise

    async def _restore(self, connection: Connection) -> None:
        """Make a connection as good as new, or close it."""
        try:
            if connection.cancelling:
                await connection.cancelled(_CANCEL_SECONDS)
            if self._closed:
                await _close(connection)
            else:
                await connection.renew(_CLEAN_SECONDS)
        except (TimeoutError, *DATABASE_ERRORS) as error:
            _log.debug("a connection could not be reset and is closed: %s", error)
            connection.terminate()
        finally:
            if not connection.is_closed():
                if self._closed:
                    connection.terminate()
                else:
                    self._idle.append(connection)
            self._return()

    def _chore(self, work: Awaitable[None]) -> asyncio.Task[None]:
        task = asyncio.ensure_future(work)
        assert isinstance(task, asyncio.Task)
        self._chores.add(task)
        task.add_done_callback(self._chores.discard)
        return task


async def _close(connection: Connection) -> None:
    try:
        await connection.close(timeout=_CLEAN_SECONDS)
    except DATABASE_ERRORS as error:
        _log.debug("a connection did not close cleanly: %s", error)
        connection.terminate()


def _of_the_role(error: asyncpg.PostgresError) -> bool:
    """Whether Postgres refused a connection for what its role has, and not for its own state."""
    return isinstance(error, asyncpg.InvalidAuthorizationSpecificationError) or str(error.sqlstate)[:2] in (
        "22",
        "42",
        "58",
    )
