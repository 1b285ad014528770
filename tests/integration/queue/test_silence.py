"""Postgres is there and says nothing any more: who waits for it is told, and goes on when it speaks again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from flux.config import Config
from flux.host import jobs
from flux.host.jobs import OUTAGE
from flux.queue.job_table import JobTable
from flux.store.database import Store
from tests.integration.queue.local_queue import Queue
from tests.line import Line


@pytest.fixture
async def line(database_url: str) -> AsyncIterator[Line]:
    async with Line(database_url).laid() as line:
        yield line


@pytest.fixture
async def store(line: Line, store_config: Config) -> AsyncIterator[Store]:
    over = replace(store_config, database_url=line.url)
    async with await Store.open(over, application_name="test", migrate=False, pool_size=1) as store:
        yield store
        line.mend()


async def test_a_claim_without_an_answer_is_an_outage_and_the_next_one_has_a_connection(
    line: Line, store: Store
) -> None:
    table = JobTable(store, "here", 30.0, patience=0.3)
    assert await table.claim(5) == []
    line.silence()
    async with asyncio.timeout(20):
        with pytest.raises(OUTAGE):
            await table.claim(5)
    line.mend()
    await Queue(store).push("after")
    assert [job.name for job in await table.claim(5)] == ["after"]


async def test_a_push_without_an_answer_fails_and_later_ones_are_stored(
    line: Line, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "PATIENCE", 0.3)
    queue = Queue(store)
    await queue.push("before")
    line.silence()
    async with asyncio.timeout(20):
        with pytest.raises(AssertionError, match=r"connection_failure|query_canceled"):
            await queue.push("during")
        with pytest.raises(AssertionError, match=r"connection_failure|query_canceled"):
            await queue.push("during", idempotency_key="one")
    line.mend()
    await queue.push("after")
    names = [row["name"] for row in await queue.rows()]
    assert {"before", "after"} <= set(names)
    await queue.jobs.close()


async def test_a_cancelled_statement_without_an_answer_is_cancelled(line: Line, store: Store) -> None:
    table = JobTable(store, "here", 30.0, patience=1.0)
    assert await table.claim(5) == []
    line.silence()
    claim = asyncio.create_task(table.claim(5))
    await asyncio.sleep(0)
    while not store.records.get_size() - store.records.get_idle_size():
        await asyncio.sleep(0)
    claim.cancel()
    done, _ = await asyncio.wait([claim], timeout=20)
    assert done
    assert claim.cancelled()
