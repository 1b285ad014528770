"""PostgresSpanExporter: what BatchSpanProcessor calls in its thread.

asyncpg needs an event loop, so the exporter has one of its own in a daemon thread, with one connection that
emits no spans itself. A batch is one COPY; sent twice (after an answer that got lost) it is stored once.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import Coroutine, Sequence
from concurrent.futures import TimeoutError as FutureTimeout
from datetime import date
from typing import Any

import asyncpg
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from flux_postgres_exporter import odd, rows, store

log = logging.getLogger(__name__)

_AWAY = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, TimeoutError)
"""What a lost connection looks like; asyncpg meets one that ends just as it is used with an
InternalClientError.
"""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0


class PostgresSpanExporter(SpanExporter):
    """Writes spans into `flux.spans` of a Postgres database.

    A span belongs to the execution of its parent where the database knows it, else to its trace_id. Into a
    database that Flux has migrated it writes beside Flux; in any other it makes the tables it needs.

    Args:
        dsn: a Postgres URL; by default FLUX_POSTGRES_EXPORTER_DSN, else DATABASE_URL, else asyncpg's own
            (PGHOST...).
        timeout: seconds that one export may take, retries while Postgres is away included; then it is a
            FAILURE.
    """

    def __init__(self, dsn: str | None = None, *, timeout: float = 10.0) -> None:
        self._dsn = (
            dsn or os.environ.get("FLUX_POSTGRES_EXPORTER_DSN") or os.environ.get("DATABASE_URL") or None
        )
        self._timeout = timeout
        self._lock = threading.Lock()
        self._stopped = False
        self._forget()

    def _forget(self) -> None:
        """Begin anew: also in a forked child, which has neither the thread nor a right to the connection."""
        self._pid = os.getpid()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._connection: asyncpg.Connection | None = None
        self._executions = False
        self._days: set[date] = set()
        self._resources: set[str] = set()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Store `spans`. FAILURE where Postgres could not be reached in time, or after shutdown."""
        if self._stopped:
            return SpanExportResult.FAILURE
        if not spans:
            return SpanExportResult.SUCCESS
        now = time.time_ns()
        encoded = [row for span in spans if (row := odd.encode(span, now)) is not None]
        if len(encoded) < len(spans):
            log.warning(
                "%d spans without a valid trace and span id were left out.", len(spans) - len(encoded)
            )
        resources = _resources(spans)
        try:
            stored = self._run(
                self._store(encoded, resources, time.monotonic() + self._timeout), self._timeout + 1
            )
        except (FutureTimeout, RuntimeError) as error:
            log.warning("Spans were not stored: %s.", error or "no answer in time")
            return SpanExportResult.FAILURE
        return SpanExportResult.SUCCESS if stored else SpanExportResult.FAILURE

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """True: `export` returns when its spans are stored, nothing waits here."""
        return True

    def shutdown(self) -> None:
        """Close the connection and end the thread. Later exports fail. Idempotent."""
        if self._stopped:
            return
        self._stopped = True
        if self._loop is None or self._thread is None or self._pid != os.getpid():
            return
        try:
            self._run(self._disconnect(), 2.0)
        except FutureTimeout:
            log.warning("The span exporter's connection did not close in time.")
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(2.0)

    def _run(self, work: Coroutine[Any, Any, Any], timeout: float) -> Any:
        with self._lock:
            if self._pid != os.getpid():
                self._forget()
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(
                    target=_serve, args=(self._loop,), name="flux-span-exporter", daemon=True
                )
                self._thread.start()
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result(timeout)
        except FutureTimeout:
            future.cancel()
            raise

    async def _store(self, spans: list[rows.SpanRow], resources: dict[str, str], deadline: float) -> bool:
        pause = _FIRST_PAUSE
        with suppress_instrumentation():
            while True:
                try:
                    async with asyncio.timeout(max(deadline - time.monotonic(), 0.01)):
                        await self._write(await self._connected(), spans, resources)
                    return True
                except _AWAY as error:
                    await self._disconnect()
                    if time.monotonic() + pause >= deadline:
                        log.warning("Spans were not stored: %s: %s", type(error).__name__, error)
                        return False
                await asyncio.sleep(pause)
                pause = min(pause * 2, _LONGEST_PAUSE)

    async def _write(
        self, connection: asyncpg.Connection, spans: list[rows.SpanRow], resources: dict[str, str]
    ) -> None:
        owners = await store.owners(connection, spans, executions=self._executions)
        days = {day for _, day in owners} - self._days
        if days:
            await store.ensure_partitions(connection, days)
            self._days |= days
        fresh = {key: value for key, value in resources.items() if key not in self._resources}
        if fresh:
            await store.intern_resources(connection, fresh)
            self._resources |= fresh.keys()
        await store.copy_each(connection, spans, owners)

    async def _connected(self) -> asyncpg.Connection:
        if self._connection is None or self._connection.is_closed():
            self._days.clear()
            self._resources.clear()
            self._connection = await asyncpg.connect(
                self._dsn,
                server_settings={"application_name": "flux_postgres_exporter"},
                command_timeout=self._timeout,
            )
            self._executions = await store.prepare(self._connection)
        return self._connection

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is None or connection.is_closed():
            return
        try:
            await connection.close(timeout=1.0)
        except (TimeoutError, *_AWAY):
            connection.terminate()


def _resources(spans: Sequence[ReadableSpan]) -> dict[str, str]:
    """id -> canonical JSON of the resources that can be read."""
    found: dict[str, str] = {}
    for span in spans:
        try:
            found[rows.resource_id(span.resource)] = rows.resource_json(span.resource.attributes)
        except Exception:  # a foreign property may raise anything
            log.debug("A span's resource can't be read.", exc_info=True)
    return found


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    try:
        loop.run_forever()
    finally:
        loop.close()
