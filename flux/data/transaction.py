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

from flux.data.connection import Answer, Connection
from flux.data.context import Credential
from flux.data.errors import Refused, call_error
from flux.data.pool import Pool
from flux.semconv import DB_RESPONSE_STATUS_CODE, DB_SYSTEM_NAME, ERROR_TYPE, FLUX_TRANSACTION_OUTCOME

_tracer = trace.get_tracer("flux.data")
_ISOLATIONS = ("read committed", "repeatable read", "serializable")


class Transaction:
    """An open transaction. `lock` is held by every call while it uses the connection, in the order they came.

    What has become of it is read from the protocol after each statement: SQL may end it in more ways
    than its text can tell.

    Args:
        pool: where `connection` goes back to.
        connection: freshly acquired; the transaction owns it until it has ended.
        user: the function that it is acquired for.
        isolation: as `checked_isolation` gives it; None is the database's default.
        readonly: it may not write.
        pooled: behind a transaction pooler, where a session is another one outside the transaction.
    """

    def __init__(
        self,
        pool: Pool,
        connection: Connection,
        user: str,
        *,
        isolation: str | None = None,
        readonly: bool = False,
        pooled: bool = False,
    ) -> None:
        self.lock = asyncio.Lock()
        self.ended: str | None = None
        """None while open; then how it ended: committed, rolled_back, unknown (lost in the middle of
        COMMIT)."""
        self.xid: int | None = None
        self._pool = pool
        self._connection = connection
        self._user = user
        self._isolation = isolation or connection.default_isolation
        self._stronger = self._isolation != "read committed"
        self._readonly = readonly
        self._pooled = pooled
        self._span = _tracer.start_span("transaction", attributes={DB_SYSTEM_NAME: "postgresql"})

    @property
    def connection(self) -> Connection:
        """The transaction's connection; use it under `lock` only."""
        return self._connection

    async def begin(self, credential: Credential) -> str | None:
        """Begin for an execution; the snapshot that READ COMMITTED begins with.

        Args:
            credential: of the execution.

        Raises:
            asyncpg.PostgresError, OSError: it could not begin; the connection has been given back.
        """
        connection = self._connection
        mode = "READ ONLY" if self._readonly else "READ WRITE"
        text = f"BEGIN ISOLATION LEVEL {self._isolation.upper()} {mode}"
        before = not self._pooled and (self._stronger or self._readonly)
        try:
            if before:
                # Entering takes the snapshot that all statements of a stronger level share, and is a write.
                await connection.enter(credential)
            entered = before or self._readonly
            snapshot = await connection.begin(text, credential, snapshot=not self._stronger, entered=entered)
            if self._stronger and self._pooled and not self._readonly:
                await connection.enter(credential)
        except BaseException as error:
            self._end("rolled_back", error)
            raise
        return snapshot

    async def run(self, text: str, arguments: Sequence[Any], **more: Any) -> Answer:
        """Run a statement inside, its span under the transaction's.

        A statement that ended the transaction is an Answer with a failure, and the transaction has ended.
        """
        token = otel.attach(trace.set_span_in_context(self._span))
        try:
            answer = await self._connection.run(text, arguments, prefix=None, **more)
        finally:
            otel.detach(token)
        if answer.failure is None and (how := await self._ended_by(answer.tag)) is not None:
            answer.failure = Refused(
                "invalid_transaction_state",
                f"The statement ended the transaction that db.transaction had opened: it was {how}. "
                "A transaction is opened and ended by db.transaction.",
            )
            self._end(
                {"committed": "committed", "rolled back": "rolled_back"}.get(how, "unknown"), answer.failure
            )
        return answer

    async def _ended_by(self, tag: str) -> str | None:
        """How the statement that was answered with `tag` ended the transaction; None where it goes on."""
        connection = self._connection
        inside = connection.is_in_transaction()
        if inside and tag not in ("COMMIT", "ROLLBACK"):
            return None
        if inside and tag == "ROLLBACK" and await connection.has_begun_here():
            return None  # TO SAVEPOINT; not AND CHAIN, which begins another transaction
        return {"COMMIT": "committed", "ROLLBACK": "rolled back", "PREPARE TRANSACTION": "prepared"}.get(
            tag, "ended"
        )

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
            tag = await connection.control(self._commit())
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
            await self._connection.control("ROLLBACK" + self._after)
        except BaseException as error:
            self._end("rolled_back", error)
            raise
        self._end("rolled_back")

    def abandon(self) -> None:
        """Nobody will end it any more: give the connection back as it is, the pool rolls back."""
        if self.ended is None:
            self._end("rolled_back")

    @property
    def _after(self) -> str:
        """What must go with the end: behind a transaction pooler the session is lost with it."""
        return f"; {self._connection.resetting()}" if self._pooled else ""

    def _commit(self) -> str:
        if self._pooled:
            # flux.leave() fails where the transaction has: COMMIT's own tag is not to be had here.
            return "SELECT flux.leave(); COMMIT" + self._after
        return "COMMIT" if self._plain() else "SELECT flux.leave(); COMMIT"

    def _plain(self) -> bool:
        """COMMIT alone tells all there is to know: the xid is known, and the snapshot was taken statement
        by statement."""
        return self.xid is not None and not self._stronger

    async def _abandon(self) -> str:
        try:
            await self._connection.control("ROLLBACK" + self._after)
            return "ROLLBACK"
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
        self._pool.release(self._connection, self._user)


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
