"""One transaction of a function: a connection of its own, its calls one at a time, one INTERNAL span around
them.

Made by flux.data.session at db.begin, addressed by that call's number.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import asyncpg
from opentelemetry import context as otel
from opentelemetry import trace

from flux.data import context
from flux.data.connection import Answer, Connection
from flux.data.errors import Refused, call_error
from flux.data.pool import Pool
from flux.semconv import DB_RESPONSE_STATUS_CODE, DB_SYSTEM_NAME, ERROR_TYPE, FLUX_TRANSACTION_OUTCOME

_tracer = trace.get_tracer("flux.data")
_ISOLATIONS = ("read committed", "repeatable read", "serializable")


class Transaction:
    """An open transaction. `lock` is held by every call while it uses the connection, in the order they came.

    Args:
        pool: where `connection` goes back to.
        connection: freshly acquired; the transaction owns it until it has ended.
    """

    def __init__(self, pool: Pool, connection: Connection, isolation: str | None) -> None:
        self.lock = asyncio.Lock()
        self.ended: str | None = None
        """None while open; then how it ended: committed, rolled_back, unknown (lost in the middle of
        COMMIT)."""
        self.xid: int | None = None
        self._pool = pool
        self._connection = connection
        self._stronger = (isolation or connection.default_isolation) != "read committed"
        self._span = _tracer.start_span("transaction", attributes={DB_SYSTEM_NAME: "postgresql"})

    @property
    def connection(self) -> Connection:
        """The transaction's connection; use it under `lock` only."""
        return self._connection

    async def begin(self, isolation: str | None, readonly: bool, ctx: str) -> list[str]:
        """BEGIN with the context, in one round trip; the announced messages.

        Raises:
            asyncpg.PostgresError, OSError: it could not begin; the connection has been given back.
        """
        mode = f" ISOLATION LEVEL {isolation.upper()}" if isolation else ""
        text = f"BEGIN{mode}{' READ ONLY' if readonly else ''}; {context.set_local(ctx)}"
        if (
            not self._stronger
        ):  # any SELECT would take the snapshot that all statements of a stronger level share
            text += "; SELECT flux.enter()"
        try:
            await self._connection.control(text)
        except BaseException as error:
            self._end("rolled_back", error)
            raise
        return self._connection.announced

    async def run(self, text: str, arguments: Sequence[Any], **more: Any) -> Answer:
        """Run a statement inside, its span under the transaction's."""
        token = otel.attach(trace.set_span_in_context(self._span))
        try:
            return await self._connection.run(text, arguments, prefix=None, **more)
        finally:
            otel.detach(token)

    async def commit(self) -> list[str]:
        """COMMIT; the announced messages (of deferred triggers, of flux.leave).

        The transaction has ended whatever comes of it.

        Raises:
            Refused: an earlier statement in it had failed: it was rolled back.
            asyncpg.PostgresError, OSError: COMMIT was refused (a deferred constraint, a
                serialization failure) and the transaction rolled back; or the connection was lost
                and the outcome is unknown.
        """
        connection = self._connection
        try:
            tag = await connection.control("COMMIT" if self._plain() else "SELECT flux.leave(); COMMIT")
        except asyncpg.InFailedSQLTransactionError:
            tag = await self._abandon()
        except BaseException as error:
            told = isinstance(error, asyncpg.PostgresError) and not connection.is_closed()
            self._end("rolled_back" if told else "unknown", error)
            raise
        if tag == "ROLLBACK":
            refusal = Refused(
                "in_failed_sql_transaction",
                "The transaction was rolled back instead of committed: "
                "an earlier statement in it had failed.",
            )
            self._end("rolled_back", refusal)
            raise refusal
        announced = connection.announced
        self._end("committed")
        return announced

    async def rollback(self) -> None:
        """ROLLBACK. The transaction has ended whatever comes of it.

        Raises:
            asyncpg.PostgresError, OSError: the connection was lost; Postgres rolls back by itself.
        """
        try:
            await self._connection.control("ROLLBACK")
        except BaseException as error:
            self._end("rolled_back", error)
            raise
        self._end("rolled_back")

    def abandon(self) -> None:
        """Nobody will end it any more: give the connection back as it is, the pool rolls back."""
        if self.ended is None:
            self._end("rolled_back")

    def _plain(self) -> bool:
        """COMMIT alone tells all there is to know: the xid is known, and the snapshot was taken statement
        by statement."""
        return self.xid is not None and not self._stronger

    async def _abandon(self) -> str:
        try:
            return await self._connection.control("ROLLBACK")
        except BaseException as error:
            self._end("rolled_back", error)
            raise

    def _end(self, outcome: str, error: BaseException | None = None) -> None:
        if self.ended is not None:
            return
        self.ended = outcome
        span = self._span
        span.set_attribute(FLUX_TRANSACTION_OUTCOME, outcome)
        if error is not None:
            told = call_error(error)
            span.set_attribute(ERROR_TYPE, told.type)
            if told.detail.get("sqlstate"):
                span.set_attribute(DB_RESPONSE_STATUS_CODE, told.detail["sqlstate"])
            span.set_status(trace.StatusCode.ERROR, told.message)
        span.end()
        self._pool.release(self._connection)


def checked_isolation(isolation: str | None) -> str | None:
    """`isolation` in lower case.

    Raises:
        Refused: it is none of Postgres' three.
    """
    if isolation is None:
        return None
    level = " ".join(isolation.lower().split())
    if level not in _ISOLATIONS:
        raise Refused(
            "invalid_parameter",
            f"db.transaction: isolation is `{isolation}`; it can be: {', '.join(_ISOLATIONS)}.",
        )
    return level
