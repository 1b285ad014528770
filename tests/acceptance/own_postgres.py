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

    @contextlib.contextmanager
    def frozen(self) -> Iterator[list[int]]:
        """Every process of the server stands still: connections stay, answers don't come. Gives their pids.

        The postmaster comes first: while it stands, no other begins.
        """
        frozen = [self.postmaster]
        try:
            os.kill(frozen[0], signal.SIGSTOP)
            _await_stop(frozen[0])
            for child in Path(f"/proc/{frozen[0]}/task/{frozen[0]}/children").read_text().split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(child), signal.SIGSTOP)
                    frozen.append(int(child))
            for pid in frozen:
                _await_stop(pid)
            yield frozen
        finally:
            for pid in frozen:
                with contextlib.suppress(ProcessLookupError):  # it had ended before it was to freeze
                    os.kill(pid, signal.SIGCONT)

    @contextlib.contextmanager
    def dead(self) -> Iterator[None]:
        """Every process of the server is killed, and nobody starts it again before the end of the block."""
        with self.frozen() as pids:
            keeper = int(Path(f"/proc/{pids[0]}/stat").read_text().rpartition(")")[2].split()[1])
            os.kill(keeper, signal.SIGSTOP)
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        try:
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


def _await_stop(pid: int, seconds: float = 30) -> None:
    """Wait until a process that was sent SIGSTOP stands, or has ended."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return
        if state in "TZX":
            return
        assert time.monotonic() < deadline, f"process {pid} does not stop: {state}"
        time.sleep(0.001)
