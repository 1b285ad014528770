"""A store and a queue over a fresh database."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from flux.config import Config
from flux.store.database import Store
from tests.integration.queue.local_queue import Queue


@pytest.fixture
async def queue(store_config: Config) -> AsyncIterator[Queue]:
    async with await Store.open(store_config, application_name="test", migrate=False) as store:
        made = Queue(store)
        yield made
        await made.jobs.close()
