"""A queue over a fresh database: push, look, run workers, wait until something holds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import orjson
from msgspec import Raw

from flux.host.jobs import Jobs
from flux.queue.backoff import Backoff
from flux.queue.job import Job, JobResult
from flux.queue.worker import Worker
from flux.record.arguments import Push, PushOptions
from flux.store.database import Store

AT_ONCE = Backoff(first=0.0)
T = TypeVar("T")
OK = JobResult(True, "e" * 32)


class Queue:
    """Handles on one database's queue."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.jobs = Jobs(store)

    async def push(self, name: str, payload: Any = None, **options: Any) -> str:
        """Push a job; gives its id."""
        push = Push(name, Raw(orjson.dumps(payload)), PushOptions(**options))
        outcome = await self.jobs.push(push)
        assert outcome.result is not None, outcome.error
        return str(orjson.loads(outcome.result)["id"])

    async def rows(self, where: str = "true", *values: Any) -> list[Any]:
        async with self.store.internal() as connection:
            return list(
                await connection.fetch(f"SELECT * FROM flux.jobs WHERE {where} ORDER BY created_at", *values)
            )

    async def row(self, job: str) -> Any:
        (found,) = await self.rows("id = $1", job)
        return found

    async def execute(self, sql: str, *values: Any) -> None:
        async with self.store.internal() as connection:
            await connection.execute(sql, *values)

    async def ended(self, *jobs: str) -> list[Any]:
        """The rows of `jobs` (all, if none is named) once each is done or failed."""

        async def look() -> list[Any] | None:
            rows = await self.rows("id = ANY($1) OR $1 = '{}'", list(jobs))
            return rows if all(row["status"] in {"done", "failed"} for row in rows) else None

        return await until(look)

    @asynccontextmanager
    async def worker(
        self, execute: Callable[[Job], Awaitable[JobResult]], *, concurrency: int = 4, **options: Any
    ) -> AsyncIterator[asyncio.Event]:
        """A worker that runs meanwhile; gives its stop event, which is set at the end."""
        stop = asyncio.Event()
        options.setdefault("node", "here")
        options.setdefault("backoff", AT_ONCE)
        task = asyncio.create_task(Worker(self.store, execute, concurrency, **options).run(stop))
        try:
            yield stop
        finally:
            stop.set()
            async with asyncio.timeout(10):
                await task


async def until(look: Callable[[], Awaitable[T | None]], seconds: float = 15.0) -> T:
    """Ask the database again and again until it answers."""
    async with asyncio.timeout(seconds):
        while (found := await look()) is None:
            await asyncio.sleep(0.005)
        return found
