"""Pushes to the queue: `queue.push` outside a transaction, and the bell that wakes workers. One per process.

A push inside a function's transaction is the data session's (`flux.push_job`), under the same PRODUCER span
from `producing`; Live rings the bell once that transaction has committed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg
import orjson
from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer

from flux import semconv
from flux.data.errors import call_error
from flux.errors import StoreError
from flux.host.arguments import Push
from flux.record.call import Outcome
from flux.store.database import Store
from flux.store.sql import Queries

log = logging.getLogger("flux.host")

CHANNEL = "flux_jobs"
"""What workers LISTEN to."""

OUTAGE = (asyncpg.PostgresError, asyncpg.InterfaceError, StoreError, OSError)
"""What Postgres raises, and what is raised where it can't be reached."""

_TRACER = trace.get_tracer("flux.queue")
_SQL = Queries("flux.host")


class Jobs:
    """The way into the queue.

    Args:
        store: whose database holds flux.jobs.
        tracer: makes the PRODUCER spans.
    """

    def __init__(self, store: Store, *, tracer: Tracer = _TRACER) -> None:
        self._store = store
        self._tracer = tracer
        self._rung = False
        self._ringer: asyncio.Task[None] | None = None

    async def push(self, push: Push, *, request_id: str | None = None, seq: int | None = None) -> Outcome:
        """Store one job, committed when this returns: `{id, duplicate}`.

        Args:
            push: name, exact payload and options.
            request_id: the execution that pushes, or None from outside one.
            seq: the number of the host call in it.
        """
        options = push.options
        with self.producing(push.name) as span:
            try:
                async with self._store.internal() as connection:
                    row = await connection.fetchrow(
                        _SQL.enqueue,
                        push.name,
                        bytes(push.payload),
                        options and options.delay_ms,
                        options and options.idempotency_key,
                        options and options.max_attempts,
                        request_id,
                        seq,
                        traceparent(span),
                    )
            except OUTAGE as error:
                return self.describe(span, Outcome(error=call_error(error)))
            assert row is not None
            if not row["duplicate"]:
                self.ring()
            result = orjson.dumps({"id": row["id"], "duplicate": row["duplicate"]})
            return self.describe(span, Outcome(result=result))

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
        if self._ringer is None or self._ringer.done():
            self._ringer = asyncio.get_running_loop().create_task(self._ring())

    async def close(self) -> None:
        """Wait for a NOTIFY that is on its way."""
        if self._ringer is not None:
            await asyncio.wait([self._ringer])

    async def _ring(self) -> None:
        while self._rung:
            self._rung = False
            try:
                async with self._store.internal() as connection:
                    await connection.execute(_SQL.notify)
            except OUTAGE as error:
                log.warning("could not notify the workers (they poll): %s", error)


def traceparent(span: Span) -> str | None:
    """The span's W3C `traceparent`, or None where it isn't recording one."""
    where = span.get_span_context()
    if not where.is_valid:
        return None
    return f"00-{where.trace_id:032x}-{where.span_id:016x}-{where.trace_flags:02x}"
