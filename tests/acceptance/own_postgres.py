"""The embedded Postgres of one project, for tests that stop, kill, fill or crowd it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import asyncpg

from flux.store import embedded

T = TypeVar("T")


@dataclass
class OwnPostgres:
    """A running server that nobody else uses."""

    flux_dir: Path
    lease: embedded.Lease

    @property
    def postmaster(self) -> int:
        """The pid of its first process."""
        return int((self.flux_dir / "postgres/data/postmaster.pid").read_text().split()[0])

    def processes(self) -> list[int]:
        """The postmaster and all its children."""
        children = Path(f"/proc/{self.postmaster}/task/{self.postmaster}/children").read_text().split()
        return [self.postmaster, *map(int, children)]

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Every process of the server stands still: connections stay, answers don't come."""
        frozen = []
        try:
            for pid in self.processes():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGSTOP)
                    frozen.append(pid)
            yield
        finally:
            for pid in frozen:
                with contextlib.suppress(ProcessLookupError):  # it had ended before it was to freeze
                    os.kill(pid, signal.SIGCONT)

    @contextlib.contextmanager
    def dead(self) -> Iterator[None]:
        """Every process of the server is killed, and nobody starts it again before the end of the block."""
        pids = self.processes()
        keeper = int(Path(f"/proc/{pids[0]}/stat").read_text().rpartition(")")[2].split()[1])
        os.kill(keeper, signal.SIGSTOP)
        try:
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            yield
        finally:
            os.kill(keeper, signal.SIGCONT)

    def end(self, number: signal.Signals) -> None:
        """Signal the postmaster and wait until that process is gone."""
        pid = self.postmaster
        handle = os.pidfd_open(pid)
        try:
            os.kill(pid, number)
            assert select.select([handle], [], [], 30)[0], f"postmaster {pid} did not end"
        finally:
            os.close(handle)

    async def ask(self, sql: str, *arguments: Any) -> list[asyncpg.Record]:
        """Rows of one statement, on a connection of its own."""
        connection = await asyncpg.connect(**self.lease.connect_args, timeout=30)
        try:
            return await connection.fetch(sql, *arguments)
        finally:
            await connection.close()

    async def until(self, sql: str, *arguments: Any, seconds: float = 60) -> None:
        """Wait until a query is true."""
        await eventually(lambda: self.ask(sql, *arguments), lambda rows: bool(rows[0][0]), seconds)


async def eventually(ask: Callable[[], Awaitable[T]], holds: Callable[[T], bool], seconds: float = 60) -> T:
    """Ask again until it holds; a server that can't be reached is asked again too."""
    deadline = time.monotonic() + seconds
    while True:
        found: object
        try:
            answer = await ask()
            if holds(answer):
                return answer
            found = answer
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            found = error
        assert time.monotonic() < deadline, f"still not so after {seconds} s: {found!r}"
        await asyncio.sleep(0.05)
