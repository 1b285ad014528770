"""One worker's hold on flux.jobs: claim, acknowledge, renew, reclaim. Called by Worker alone.

No statement is waited for for ever: a server that is gone without a word is an outage like any other.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from flux.queue.job import Job
from flux.store.database import Store
from flux.store.sql import Queries

_SQL = Queries("flux.queue")


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """What a worker says of an attempt it holds.

    Attributes:
        job: the attempt.
        status: `done`, `failed`, or `queued` for another attempt.
        delay: seconds until that attempt.
        given_back: True if this attempt never ran and doesn't count.
        request_id: its execution, where one was recorded.
        error: why it failed.
    """

    job: Job
    status: str
    delay: float = 0.0
    given_back: bool = False
    request_id: str | None = None
    error: dict[str, Any] | None = None


class JobTable:
    """flux.jobs as one node sees it.

    Args:
        store: whose database holds it.
        node: this process's id.
        lease: seconds that a claim or a renewal holds.
        patience: seconds that a statement may take.
    """

    def __init__(self, store: Store, node: str, lease: float, patience: float = 10.0) -> None:
        self._store = store
        self._node = node
        self._lease = lease
        self._patience = patience

    async def claim(self, most: int) -> list[Job]:
        """Take up to `most` due jobs, longest due first."""
        async with self._store.internal(patience=self._patience) as connection:
            rows = await connection.fetch(_SQL.claim, most, self._node, self._lease)
        rows.sort(key=lambda row: row["run_at"])
        return [
            Job(
                row["id"],
                row["name"],
                row["payload"],
                row["attempt"],
                row["max_attempts"],
                row["pushed_by"],
                row["traceparent"],
                row["created_at"],
                row["sealed"],
            )
            for row in rows
        ]

    async def acknowledge(self, said: Sequence[Acknowledgement]) -> None:
        """Write down what came of attempts, all or none. Those that others took over are left alone."""
        async with self._store.internal(patience=self._patience) as connection:
            await connection.execute(
                _SQL.acknowledge,
                [a.job.id for a in said],
                _json({a.job.id: _said(a) for a in said}),
                self._node,
            )

    async def renew(self, jobs: Iterable[Job]) -> set[tuple[str, int]]:
        """Prolong the leases on `jobs`; gives the (id, attempt) of those still held."""
        held = list(jobs)
        async with self._store.internal(patience=self._patience) as connection:
            rows = await connection.fetch(
                _SQL.renew,
                [job.id for job in held],
                _json({job.id: job.attempt for job in held}),
                self._node,
                self._lease,
            )
        return {(row["id"], row["attempt"]) for row in rows}

    async def give_back(self, known: Iterable[Job]) -> int:
        """Let go of what this node has claimed without having heard so: all but `known`; gives how many."""
        async with self._store.internal(patience=self._patience) as connection:
            return len(await connection.fetch(_SQL.give_back, self._node, [job.id for job in known]))

    async def reclaim(self) -> tuple[int, int]:
        """Take jobs back whose lease ran out; gives how many were queued again and how many failed."""
        async with self._store.internal(patience=self._patience) as connection:
            row = await connection.fetchrow(_SQL.reclaim)
        assert row is not None
        return row["queued"], row["failed"]


def _said(a: Acknowledgement) -> list[Any]:
    error = None if a.error is None else _storable(a.error)
    return [a.job.attempt, a.status, a.delay, int(a.given_back), a.request_id, error]


def _json(value: Any) -> str:
    return orjson.dumps(value).decode()


def _storable(value: Any) -> Any:
    """As jsonb can hold it: no NUL, no half surrogates."""
    if isinstance(value, dict):
        return {_storable(str(key)): _storable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_storable(item) for item in value]
    if value is None or isinstance(value, bool | int | float):
        return value
    return str(value).replace("\0", "\ufffd").encode("utf-8", "replace").decode()
