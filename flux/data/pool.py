"""Connections to the user's database, lent to sessions: as few moves as possible per statement.

asyncpg's own pool resets a connection by a round trip and a task on every release; with sessions as its
only users this one
need not: a connection says itself what was left on it (Connection.residue). Held by flux.data.database.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Mapping
from typing import Any

import asyncpg

from flux.data.connection import Connection
from flux.data.errors import DATABASE_ERRORS, Refused
from flux.data.statements import Residue
from flux.histogram import WAITS, Histogram

_log = logging.getLogger(__name__)
_CANCEL_SECONDS = 5.0
_CLEAN_SECONDS = 5.0


class Pool:
    """At most `size` connections, opened when first needed, the most recently used one lent first.

    Args:
        connect_args: keyword arguments of asyncpg.connect.
        size: most connections at once.
        prefixes: False behind a transaction pooler, where nothing may be prepared.
    """

    def __init__(self, connect_args: Mapping[str, Any], *, size: int, prefixes: bool) -> None:
        self._connect_args = connect_args
        self._prefixes = prefixes
        self._idle: deque[Connection] = deque()
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._lent = 0
        self._epoch = 0
        self._chores: set[asyncio.Task[None]] = set()
        self._closed = False
        self.size = size
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
        return sum(not waiter.done() for waiter in self._waiters)

    @property
    def lent(self) -> int:
        """Connections that are lent, or being opened or cleaned."""
        return self._lent

    async def acquire(self, deadline: float | None) -> Connection:
        """A connection, waiting for one until `deadline` (the loop's clock; None waits for ever).

        Raises:
            Refused: `too_many_connections`: none came free in time.
            OSError, asyncpg.PostgresError: Postgres could not be reached.
        """
        if self._closed:
            raise Refused("connection_does_not_exist", "The database is closed: Flux is shutting down.")
        if self._lent >= self.size or self._waiters:
            began = time.perf_counter()
            await self._turn(deadline)
            self.waits.add(time.perf_counter() - began)
        else:
            self._lent += 1
            self.waits.counts[0] += 1
        while self._idle:
            connection = self._idle.pop()
            if not connection.is_closed():
                if connection.epoch != self._epoch:
                    connection.forget_schema()
                    connection.epoch = self._epoch
                return connection
        try:
            return await self._open(deadline)
        except BaseException:
            self._return()
            raise

    def release(self, connection: Connection) -> None:
        """Take `connection` back, whatever state it is in. Never waits: what there is to clean is done
        behind."""
        if connection.is_closed():
            self._return()
        elif connection.residue is Residue.STATEMENTS and not connection.cancelling:
            self._chore(self._dispose(connection))
        elif connection.cancelling or connection.residue or connection.is_in_transaction():
            self._chore(self._restore(connection))
        elif self._closed:
            self._chore(self._dispose(connection))
        else:
            self._idle.append(connection)
            self._return()

    def schema_changed(self) -> None:
        """The schema is another one now: statements prepared before are not used again."""
        self._epoch += 1

    def chore(self, work: Awaitable[None]) -> asyncio.Task[None]:
        """Run `work` to its end even if who asked for it is cancelled; close() waits for it."""
        return self._chore(work)

    async def close(self) -> None:
        """Close every connection; those that are lent close when they come back."""
        self._closed = True
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_exception(
                    Refused("connection_does_not_exist", "The database is closed: Flux is shutting down.")
                )
        self._waiters.clear()
        while self._chores:
            await asyncio.gather(*self._chores, return_exceptions=True)
        while self._idle:
            await _close(self._idle.pop())

    async def _turn(self, deadline: float | None) -> None:
        """Wait for a returned place; it is then ours (`_lent` already counts it)."""
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = loop.create_future()
        self._waiters.append(waiter)
        try:
            async with asyncio.timeout_at(deadline):
                await waiter
        except BaseException as error:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self._return()
            else:
                waiter.cancel()
            if isinstance(error, TimeoutError):
                self.timeouts += 1
                raise Refused(
                    "too_many_connections",
                    f"No database connection came free in time: all {self.size} are in use "
                    "(`pool_size` in flux.toml).",
                ) from error
            raise

    def _return(self) -> None:
        """Give a place to the first who waits, else count it free."""
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return
        self._lent -= 1

    async def _open(self, deadline: float | None) -> Connection:
        try:
            async with asyncio.timeout_at(deadline):
                connection: Connection = await asyncpg.connect(
                    **{**self._connect_args, "connection_class": Connection}
                )
                try:
                    await connection.prepare_for_use(prefixes=self._prefixes)
                except BaseException:
                    connection.terminate()
                    raise
        except TimeoutError as error:
            raise OSError("connecting took too long") from error
        connection.epoch = self._epoch
        return connection

    async def _restore(self, connection: Connection) -> None:
        """Make a connection fit to be lent again, or close it."""
        try:
            await connection.cancelled(_CANCEL_SECONDS)
            if connection.residue is Residue.STATEMENTS:
                await _close(connection)
            else:
                async with asyncio.timeout(_CLEAN_SECONDS):
                    await connection.clean()
        except DATABASE_ERRORS as error:
            _log.debug("a connection could not be cleaned and is closed: %s", error)
            connection.terminate()
        finally:
            if connection.is_closed():
                self._return()
            elif self._closed:
                connection.terminate()
                self._return()
            else:
                self._idle.append(connection)
                self._return()

    async def _dispose(self, connection: Connection) -> None:
        try:
            await _close(connection)
        finally:
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
