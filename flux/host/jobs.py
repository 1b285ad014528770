"""Pushes to the queue: `queue.push` outside a transaction, and the bell that wakes workers. One per process.

A push inside a function's transaction is the data session's (`flux.push_job`), under the same PRODUCER span
from `producing`; Live rings the bell once that transaction has committed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import Context
from typing import Any, Final

import asyncpg
import orjson
from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer

from flux import semconv
from flux.data.errors import call_error
from flux.errors import StoreError
from flux.record.arguments import Push, PushOptions
from flux.record.call import Outcome
from flux.recorder.job_payloads import Conceal, in_the_open
from flux.store.database import Store
from flux.store.sql import Queries

log = logging.getLogger("flux.host")

CHANNEL = "flux_jobs"
"""What workers LISTEN to."""

OUTAGE = (asyncpg.PostgresError, asyncpg.InterfaceError, StoreError, OSError)
"""What Postgres raises, and what is raised where it can't be reached."""

BATCH: Final = 500
"""Most jobs stored by one statement."""

PATIENCE: Final = 30.0
"""Seconds after which a push that Postgres does not answer has failed."""

LAST_WORDS: Final = 5.0
"""Seconds that a stopping server waits for pushes that are on their way."""

_TRACER = trace.get_tracer("flux.queue")
_SQL = Queries("flux.host")


_Job = tuple[str, bytes, int | None, str | None, int | None, str | None, int | None, str | None, bytes | None]
"""The parameters of flux.enqueue."""


class Jobs:
    """The way into the queue.

    Pushes that come while others are on their way go together in one statement. Those with an idempotency key
    go alone: they may have to wait for a transaction that holds the same key.

    Args:
        store: whose database holds flux.jobs.
        conceal: what is stored of a payload and an idempotency key.
        tracer: makes the PRODUCER spans.
    """

    def __init__(self, store: Store, conceal: Conceal = in_the_open, *, tracer: Tracer = _TRACER) -> None:
        self._store = store
        self._conceal = conceal
        self._tracer = tracer
        self._pending: list[tuple[_Job, asyncio.Future[Outcome]]] = []
        self._rung = False
        self._sender: asyncio.Task[None] | None = None

    async def push(self, push: Push, *, request_id: str | None = None, seq: int | None = None) -> Outcome:
        """Store one job, committed when this returns: `{id, duplicate}`.

        Args:
            push: name, exact payload and options.
            request_id: the execution that pushes, or None from outside one.
            seq: the number of the host call in it.
        """
        options = push.options or PushOptions()
        with self.producing(push.name) as span:
            stored = self._conceal(bytes(push.payload), options.idempotency_key)
            job = (
                push.name,
                stored.payload,
                options.delay_ms,
                stored.key,
                options.max_attempts,
                request_id,
                seq,
                traceparent(span),
                stored.sealed,
            )
            if options.idempotency_key is None:
                future = asyncio.get_running_loop().create_future()
                self._pending.append((job, future))
                self._send()
                outcome = await future
            else:
                outcome = await self._alone(job)
            return self.describe(span, outcome)

    @contextmanager
    def producing(self, name: str) -> Iterator[Span]:
        """A current PRODUCER span around one push to `name`."""
        with self._tracer.start_as_current_span(
            f"send {name}",
            kind=SpanKind.PRODUCER,
            attributes={
                semconv.MESSAGING_SYSTEM: "flux",
                semconv.MESSAGING_DESTINATION_NAME: name,
                semconv.MESSAGING_OPERATION_TYPE: "send",
            },
        ) as span:
            yield span

    def describe(self, span: Span, outcome: Outcome) -> Outcome:
        """Say on a PRODUCER span what came of the push, and in the outcome which span it was."""
        if outcome.error is not None:
            span.set_status(Status(StatusCode.ERROR, outcome.error.message))
            span.set_attribute(semconv.ERROR_TYPE, outcome.error.type)
        elif outcome.result is not None:
            span.set_attribute(semconv.MESSAGING_MESSAGE_ID, orjson.loads(outcome.result)["id"])
        where = span.get_span_context()
        if where.is_valid:
            outcome.span_id = format(where.span_id, "016x")
        return outcome

    def ring(self) -> None:
        """Wake the workers: one NOTIFY for all rings while the last was on its way; if lost, they poll."""
        self._rung = True
        self._send()

    async def close(self) -> None:
        """Wait for what is on its way, but for LAST_WORDS at most."""
        if self._sender is not None:
            _, late = await asyncio.wait([self._sender], timeout=LAST_WORDS)
            if late:
                log.warning("pushes or a notification were not answered in time; the server ends")
                self._sender.cancel()

    def _send(self) -> None:
        if self._sender is None or self._sender.done():
            # In a context of its own: it sends for executions other than the one that happens to start it.
            self._sender = asyncio.get_running_loop().create_task(self._sending(), context=Context())

    async def _sending(self) -> None:
        while self._pending or self._rung:
            batch: list[tuple[_Job, asyncio.Future[Outcome]]] = []
            try:
                async with self._store.internal(patience=PATIENCE) as connection:
                    while self._pending or self._rung:
                        batch = [(job, future) for job, future in self._pending[:BATCH] if not future.done()]
                        del self._pending[:BATCH]
                        self._rung = False
                        if batch:
                            outcomes = await _enqueue(connection, [job for job, _ in batch])
                            for (_, future), outcome in zip(batch, outcomes, strict=True):
                                _answer(future, outcome)
                            batch = []
                        else:
                            await connection.execute(_SQL.notify)
            except Exception as error:
                self._rung = False
                if len(batch) > 1 and isinstance(error, asyncpg.PostgresError):
                    for job, future in batch:
                        _answer(future, await self._alone(job))
                    continue
                if not batch:
                    batch, self._pending = self._pending, []
                log.warning("could not push %d jobs or notify the workers: %s", len(batch), error)
                for _, future in batch:
                    _answer(future, Outcome(error=call_error(error)))

    async def _alone(self, job: _Job) -> Outcome:
        try:
            async with self._store.internal(patience=PATIENCE) as connection:
                return (await _enqueue(connection, [job]))[0]
        except OUTAGE as error:
            return Outcome(error=call_error(error))


async def _enqueue(connection: Any, jobs: list[_Job]) -> list[Outcome]:
    rows = await connection.fetch(_SQL.enqueue, *zip(*jobs, strict=True))
    return [Outcome(result=orjson.dumps({"id": row["id"], "duplicate": row["duplicate"]})) for row in rows]


def _answer(future: asyncio.Future[Outcome], outcome: Outcome) -> None:
    if not future.done():
        future.set_result(outcome)


def traceparent(span: Span) -> str | None:
    """The span's W3C `traceparent`, or None where it isn't recording one."""
    where = span.get_span_context()
    if not where.is_valid:
        return None
    return f"00-{where.trace_id:032x}-{where.span_id:016x}-{where.trace_flags:02x}"
