"""What one execution does with the user's database: the db.* host calls, and queue.push inside a transaction.

Made by flux.data.database for each execution, held by its host (flux.host.live). Autocommit calls each take a
connection for as long as they run, so concurrent ones run beside each other; the calls of a transaction
run on its connection one by one, in the order they came.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import asyncpg
import msgspec
import orjson
from opentelemetry.propagate import inject

from flux.data import builder, values
from flux.data.attempts import Summary, summarise
from flux.data.connection import Answer, Connection, must_be_alone, never_sent
from flux.data.context import Credential
from flux.data.errors import DATABASE_ERRORS, Refused, call_error
from flux.data.pool import Pool
from flux.data.statements import Kind, classify
from flux.data.transaction import Transaction, checked_isolation
from flux.record import arguments, half_pairs, ops
from flux.record.call import HostCall, Outcome
from flux.record.ops import InvalidArguments, asked, refusal
from flux.recorder.job_payloads import Conceal, in_the_open
from flux.store.sql import Queries

_Q = Queries("flux.data")
_EMPTY = b"{}"


class _Statement(msgspec.Struct, frozen=True):
    """A statement of the function's.

    Attributes:
        text, params: SQL with $1, $2..., and what values.parameter made of their values.
        kind: how it is run.
        operation, table: for its span: INSERT..., and the table where it is known.
    """

    text: str
    params: Sequence[Any]
    kind: Kind
    operation: str
    table: str | None


class Session:
    """One execution's use of the database. Used from one event loop.

    Args:
        pool: connections.
        request_id: the execution's id, 32 hex digits; its rows are captured under it.
        day: the execution's UTC day, YYYY-MM-DD.
        token: what opens `flux.enter()`.
        function: whose execution it is; the pool's connections are shared among functions.
        pooled: True behind a transaction pooler: every statement inside BEGIN and COMMIT.
        deadline: on the event loop's clock, until when a call may wait for a connection.
        now_ns: the wall clock.
        conceal: what is stored of a job's payload and idempotency key.
    """

    def __init__(
        self,
        pool: Pool,
        request_id: str,
        day: str,
        *,
        token: bytes,
        function: str = "",
        pooled: bool = False,
        deadline: float | None = None,
        now_ns: Callable[[], int] = time.time_ns,
        conceal: Conceal = in_the_open,
    ) -> None:
        self._pool = pool
        self._request_id = request_id
        self._day = day
        self._pooled = pooled
        self._deadline = deadline
        self._now_ns = now_ns
        self._conceal = conceal
        self._function = function
        self._token = token
        self._known: Credential | None = None
        self._transactions: dict[int, Transaction] = {}
        self._closed = False

    @property
    def _credential(self) -> Credential:
        known = self._known
        if known is None:
            known = self._known = Credential(self._token, self._request_id, self._day)
        return known

    async def perform(self, call: HostCall) -> Outcome:
        """Do a db.* call, or queue.push with `tx`.

        Whatever the database answers is an Outcome: an error there has Postgres' condition name as its type.

        Raises:
            asyncio.CancelledError: cancelled; a statement under way is being cancelled in Postgres, its
            connection is not lost.
        """
        try:
            return await self._perform(call)
        except (Refused, *DATABASE_ERRORS) as error:
            return Outcome(error=call_error(error), now_ns=self._now_ns())
        except InvalidArguments as error:
            outcome = refusal(str(error))
            outcome.now_ns = self._now_ns()
            return outcome
        except msgspec.DecodeError as error:
            reason = ops.HALF if half_pairs.stand_in(call.arguments) else str(error)
            refused = Refused("invalid_parameter", f"{call.op}: {reason}")
            return Outcome(error=call_error(refused), now_ns=self._now_ns())

    async def close(self) -> None:
        """Roll back what is open and give every connection back. Idempotent; done to its end even when
        cancelled."""
        self._closed = True
        open_ones = [tx for tx in self._transactions.values() if tx.ended is None]
        for transaction in open_ones:
            transaction.abandon()

    async def _perform(self, call: HostCall) -> Outcome:
        if self._closed:
            raise Refused(
                "connection_does_not_exist", "The execution is over: its database session is closed."
            )
        match call.op:
            case ops.DB_QUERY:
                query = builder.build(call.arguments)
                return await self._statement(
                    call, _Statement(query.text, query.params, Kind.PLAIN, query.operation, query.table)
                )
            case ops.DB_SQL:
                return await self._sql(call)
            case ops.DB_BEGIN:
                return await self._begin(call)
            case ops.DB_COMMIT:
                return await self._commit(call)
            case ops.DB_ROLLBACK:
                return await self._rollback(call)
            case ops.QUEUE_PUSH if call.tx is not None:
                return await self._push(call)
            case _:
                raise Refused("feature_not_supported", f"{call.op} is not a call of the database.")

    async def _sql(self, call: HostCall) -> Outcome:
        sql = asked(call, arguments.Sql)
        keyword, kind = classify(sql.text)
        if kind is Kind.CONTROL:
            raise Refused(
                "invalid_transaction_state",
                f"db.sql can't run {keyword}: a transaction is opened and ended by db.transaction.",
            )
        if kind is Kind.SAVEPOINT and call.tx is None:
            raise Refused("no_active_sql_transaction", f"db.sql can't run {keyword} outside db.transaction.")
        if kind is Kind.COPY:
            raise Refused(
                "feature_not_supported", "db.sql can't run COPY: it has no stream to copy from or to."
            )
        params = [values.parameter(raw) for raw in sql.params]
        return await self._statement(call, _Statement(sql.text, params, kind, keyword, None))

    async def _statement(self, call: HostCall, statement: _Statement) -> Outcome:
        if call.tx is not None:
            transaction = self._find(call)
            async with transaction.lock:
                self._check_open(transaction, call)
                answer = await transaction.run(
                    statement.text,
                    statement.params,
                    operation=statement.operation,
                    collection=statement.table,
                )
                summary = summarise(transaction.connection.announced, call.seq)
                transaction.xid = summary.xid or transaction.xid
            return self._outcome(call, answer, summary)
        connection = await self._acquire()
        try:
            if self._pooled:
                answer, said = await self._pooled_statement(connection, statement)
            else:
                answer, said = await self._autocommit(connection, statement)
        finally:
            self._pool.release(connection, self._function)
        if answer.unsent:
            return await self._statement(call, statement)
        return self._outcome(call, answer, summarise(said, call.seq))

    async def _acquire(self) -> Connection:
        """A connection, the execution's day made ready."""
        connection = await self._pool.acquire(self._deadline, self._function)
        if self._day not in self._pool.days:
            try:
                await connection.open_day(self._credential)
            except BaseException:
                self._pool.release(connection, self._function)
                raise
            self._pool.days.add(self._day)
        return connection

    async def _autocommit(self, connection: Connection, statement: _Statement) -> tuple[Answer, list[str]]:
        """A statement that is a transaction of its own; entered in the same round trip, if it can't be
        alone."""
        credential = self._credential
        alone = statement.kind is Kind.ALONE
        if not alone:
            connection.listen_to(credential)
            answer = await self._run(connection, statement, credential.prefix(connection.gate))
            if not statement.operation and answer.failure is None:
                answer.tag, answer.count = "", 0  # of no statement: it is what entered that was answered
            alone = answer.failure is not None and must_be_alone(answer.failure)
        if alone:
            try:
                await connection.enter(credential)
            except asyncpg.PostgresError as error:
                if not connection.spoilt(error):
                    raise
                connection.terminate()
                return Answer(unsent=True), []
            answer = await self._run(connection, statement, None)
        said = connection.announced
        if not connection.is_closed() and connection.is_in_transaction():
            # Not to be left to the reset: what is told here must be so.
            await connection.control("ROLLBACK")
            answer = Answer(
                failure=Refused(
                    "invalid_transaction_state",
                    "The statement began a transaction, which was rolled back: db.transaction begins one.",
                )
            )
        return answer, said

    async def _pooled_statement(
        self, connection: Connection, statement: _Statement
    ) -> tuple[Answer, list[str]]:
        """The same behind a transaction pooler, where a session is another one outside the transaction."""
        await connection.control("BEGIN READ WRITE")
        await connection.enter(self._credential)
        answer = await self._run(connection, statement, None)
        said = connection.announced
        if not connection.is_closed():
            inside = connection.is_in_transaction()
            if answer.failure is None and inside:
                await connection.control(f"SELECT flux.leave(); COMMIT; {connection.resetting()}")
                said = said + connection.announced
            elif answer.failure is None:
                answer = Answer(
                    failure=Refused("invalid_transaction_state", "The statement ended its transaction.")
                )
            else:
                await connection.control(f"ROLLBACK; {connection.resetting()}")
        return answer, said

    async def _run(self, connection: Connection, statement: _Statement, prefix: bytes | None) -> Answer:
        return await connection.run(
            statement.text,
            statement.params,
            prefix=prefix,
            operation=statement.operation,
            collection=statement.table,
        )

    async def _begin(self, call: HostCall) -> Outcome:
        begin = asked(call, arguments.Begin)
        isolation = checked_isolation(begin.isolation)
        if call.n in self._transactions:
            raise Refused("active_sql_transaction", f"Transaction {call.n} has been opened already.")
        connection = await self._acquire()
        if self._closed:
            self._pool.release(connection, self._function)
            raise Refused(
                "connection_does_not_exist", "The execution is over: its database session is closed."
            )
        transaction = Transaction(
            self._pool,
            connection,
            self._function,
            isolation=isolation,
            readonly=begin.readonly is True,
            pooled=self._pooled,
        )
        self._transactions[call.n] = transaction
        try:
            async with transaction.lock:
                snapshot = await transaction.begin(self._credential)
        except (asyncpg.InternalClientError, asyncpg.PostgresError) as error:
            if not never_sent(error) and not connection.spoilt(error):
                raise
            connection.terminate()
            del self._transactions[call.n]
            return await self._begin(call)
        return self._done(call, _EMPTY, Summary(snapshot=snapshot))

    async def _commit(self, call: HostCall) -> Outcome:
        transaction = self._find(call)
        async with transaction.lock:
            self._check_open(transaction, call)
            connection = transaction.connection
            try:
                said = await transaction.commit()
            except (Refused, *DATABASE_ERRORS) as error:
                said = connection.announced
                outcome = self._done(call, None, summarise(said, call.seq))
                outcome.error = call_error(error)
                if transaction.ended == "unknown":
                    outcome.error.message += " The transaction may have been committed."
                return outcome
        outcome = self._done(call, _EMPTY, summarise(said, call.seq))
        outcome.xid = outcome.xid or transaction.xid
        return outcome

    async def _rollback(self, call: HostCall) -> Outcome:
        transaction = self._find(call)
        async with transaction.lock:
            self._check_open(transaction, call)
            await transaction.rollback()
        return Outcome(result=_EMPTY, now_ns=self._now_ns(), xid=transaction.xid)

    async def _push(self, call: HostCall) -> Outcome:
        push = asked(call, arguments.Push)
        options = push.options or arguments.PushOptions()
        carrier: dict[str, str] = {}
        inject(carrier)
        stored = self._conceal(bytes(push.payload), options.idempotency_key)
        params = (
            push.name,
            stored.payload,
            options.delay_ms,
            stored.key,
            options.max_attempts,
            call.seq if call.seq >= 0 else None,
            carrier.get("traceparent"),
            stored.sealed,
            self._credential.arguments[-1],
        )
        transaction = self._find(call)
        async with transaction.lock:
            self._check_open(transaction, call)
            answer = await transaction.run(_Q.push_job, params, traced=False)
        if answer.failure is not None:
            raise answer.failure
        job = answer.rows[0]
        return self._done(call, orjson.dumps({"id": job["id"], "duplicate": job["duplicate"]}), Summary())

    def _find(self, call: HostCall) -> Transaction:
        transaction = None if call.tx is None else self._transactions.get(call.tx)
        if transaction is None:
            raise Refused(
                "no_active_sql_transaction",
                f"{call.op}: there is no transaction {call.tx}."
                if call.tx
                else f"{call.op} is outside a transaction.",
            )
        return transaction

    def _check_open(self, transaction: Transaction, call: HostCall) -> None:
        if transaction.ended is not None:
            how = {"committed": "it was committed", "rolled_back": "it was rolled back"}.get(
                transaction.ended, "its outcome is unknown"
            )
            raise Refused("no_active_sql_transaction", f"{call.op}: transaction {call.tx} is over: {how}.")

    def _outcome(self, call: HostCall, answer: Answer, summary: Summary) -> Outcome:
        if answer.failure is not None:
            outcome = self._done(call, None, summary)
            if call.tx is None:
                outcome.error = call_error(answer.failure)
            else:
                outcome.error = call_error(answer.failure, lost="its transaction was rolled back")
            return outcome
        more: dict[str, object] = {"count": answer.count}
        if call.op == ops.DB_SQL:
            more["tag"] = answer.tag
        more["types"] = answer.shape.types
        return self._done(call, values.rows_json(answer.rows, answer.shape.columns, **more), summary)

    def _done(self, call: HostCall, result: bytes | None, summary: Summary) -> Outcome:
        return Outcome(
            result=result,
            now_ns=self._now_ns(),
            xid=summary.xid,
            snapshot=summary.snapshot,
            first_n=summary.first_n,
            last_n=summary.last_n,
            attempts=summary.attempts,
        )
