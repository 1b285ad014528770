"""A connection to the user's database that does what a Session needs and asyncpg's public methods can't say.

It is an asyncpg.Connection, so that the OpenTelemetry instrumentor sees its `fetch` like anybody's.
Beside that it enters its session for an execution without a round trip, returns rows, tag and column
types together, collects what capture triggers announce, puts onto the statement's span what the
instrumentor leaves out, and resets itself. Held by flux.data.pool, used by flux.data.session and
flux.data.transaction.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from typing import Any

import asyncpg
import msgspec
from opentelemetry import trace
from opentelemetry.trace import Span

from flux.data import context, values
from flux.data.attempts import MARK
from flux.data.context import Credential
from flux.data.errors import DATABASE_ERRORS, Refused, bad_argument, call_error
from flux.semconv import (
    DB_COLLECTION_NAME,
    DB_OPERATION_NAME,
    DB_RESPONSE_RETURNED_ROWS,
    DB_RESPONSE_STATUS_CODE,
    ERROR_TYPE,
)
from flux.store.keepalive import Watched
from flux.store.sql import Queries

_COUNT = re.compile(rb"(\d+)$")
_Q = Queries("flux.data")
_NOTHING = "SELECT WHERE false"
_UNCLEAN = "flux: the session is not clean"
_STALE = frozenset({"42804", "42883", "42P18", "42704", "XX000"})
"""What a statement that was prepared for another schema may fail with, beside Postgres' own word for it:
datatype_mismatch, undefined_function, indeterminate_datatype, undefined_object, a type that is gone."""
_SHAPES = 1000
_USERS = 16384
"""The first oid of a type that is not built in, and may be altered."""
_ASYNCPG: Any = asyncpg.Connection
"""The same class without its stubs, which leave out what it does inside."""


class Shape(msgspec.Struct, frozen=True):
    """A prepared statement's columns and parameters.

    Attributes:
        columns: their names in the result.
        types: those of them whose type the result names.
        parameters: asyncpg.Type of each.
    """

    columns: tuple[str, ...] = ()
    types: dict[str, str] = {}
    parameters: tuple[Any, ...] = ()


class Answer(msgspec.Struct):
    """What a statement gave back. `failure` is set in place of the rest where Postgres (or asyncpg) refused
    it; `unsent` says that nothing was done, only this connection can't be used: another one may try."""

    rows: list[asyncpg.Record] = []
    shape: Shape = Shape()
    tag: str = ""
    count: int = 0
    failure: Exception | None = None
    unsent: bool = False


class _Run(msgspec.Struct):
    """The statement that `fetch` is about to send for `run`."""

    arguments: Sequence[Any]
    prefix: bytes | None
    operation: str
    collection: str | None
    outer: Span
    answer: Answer


class Connection(Watched):
    """One connection of the pool. Not for concurrent use: its holder serialises."""

    announced: list[str]
    """What the capture triggers said since the last `run` or `control` began: JSON, see
    flux.data.attempts."""
    epoch: int
    """The pool's schema epoch that the cached statements belong to."""
    stale: bool
    """A statement met another schema than it was prepared for: other connections will, too."""
    user: str | None
    """The function whose SQL is prepared here, where other functions could read it."""
    default_isolation: str
    """Of a transaction that names none."""
    described: dict[str, dict[str, Any]]
    """What the instrumentor says of a statement on its span; flux.data.instrument keeps it here."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.announced = []
        self.epoch = 0
        self.stale = False
        self.user = None
        self.exposed = False
        """Functions can read what is prepared on this connection."""
        self.default_isolation = "read committed"
        self.described = {}
        self._pending: _Run | None = None
        self._shapes: dict[str, tuple[object, Shape]] = {}
        self._gate: Any = None
        self._begins: dict[str, str] = {}
        self._protected = False
        self._mark = MARK
        self._forgetful = ""

    @property
    def _inside(self) -> Any:
        """Itself, for asyncpg's private parts."""
        return self

    async def prepare_for_use(self, gate: str | None) -> list[str]:
        """Install codecs, ask what Flux must know and prepare what enters the session. Once, when opened.

        Args:
            gate: the name to prepare context.ENTER under; None behind a transaction pooler, where
                nothing may be prepared.

        Returns:
            Settings that somebody gave the role that functions run as (`name=value`): there should be none.
        """
        await values.install_codecs(self)
        self._gate = await self._inside._get_statement(
            context.ENTER, None, named=gate or False, use_cache=False
        )
        # asyncpg ends preparing without a Sync: until the next one Postgres holds a transaction open. This
        # sends it.
        [row] = await self._inside._execute(_Q.session_facts, (), 0, None)
        self.default_isolation = row["isolation"]
        self._protected = row["protected"]
        self.exposed = gate is not None and row["exposed"]
        self._forgetful = row["dblink"] or ""
        return list(row["settings"])

    @property
    def gate(self) -> str:
        """The name that context.ENTER is prepared under."""
        return str(self._gate.name)

    async def open_day(self, credential: Credential) -> None:
        """Have the day of an execution made ready in the database."""
        token = credential.arguments[0]
        await self._inside._execute(_Q.open_day, (token, credential.day.isoformat()), 0, None)

    async def enter(self, credential: Credential) -> None:
        """Say which execution the session works for, in a round trip of its own.

        Raises:
            asyncpg.PostgresError, OSError: it could not be said.
        """
        self.listen_to(credential)
        await self._inside._protocol.bind_execute(self._gate, credential.arguments, "", 0, True, None)

    async def begin(self, text: str, credential: Credential, *, snapshot: bool, entered: bool) -> str | None:
        """Begin a transaction, in one round trip where it can be entered from inside.

        Args:
            text: BEGIN and its options.
            credential: of the execution.
            snapshot: the transaction may be asked for its snapshot now: it takes one for each statement
                anyway.
            entered: the session has been entered; a read-only transaction can't be from inside.

        Returns:
            The snapshot, if it was to be asked for.

        Raises:
            asyncpg.PostgresError, OSError: it could not begin.
        """
        self._inside._check_open()
        self.announced = []
        if not snapshot:
            await self.control(f"{text}; SET LOCAL flux.transaction = 'begun'")
            return None
        name = ""
        if not self._gate.name:
            await self.control(text)
        else:
            name = self._begins.get(text, "")
            if not name:
                state = await self._inside._get_statement(text, None, named=True, use_cache=False)
                self._begins[text] = name = state.name
        ask, arguments = (_Q.snapshot, ()) if entered else (_Q.enter, credential.arguments)
        self.listen_to(credential)
        state = await self._inside._get_statement(ask, None)
        if name:
            self._inside._transport.write(context.bind_execute(name))
        rows, _, _ = await self._inside._protocol.bind_execute(state, arguments, "", 0, True, None)
        return str(rows[0]["snapshot"])

    async def has_begun_here(self) -> bool:
        """Whether the transaction is the one that `begin` began. To be asked right after a statement
        that may have ended that one and begun another."""
        self._inside._check_open()
        announced = self.announced
        try:
            [row] = await self._inside._execute(_Q.began, (), 0, None)
        finally:
            self.announced = announced
        return bool(row[0] == "begun")

    def listen_to(self, credential: Credential) -> None:
        """From now on, announcements with this execution's voice count, and no others."""
        self._mark = f"{MARK}{credential.voice}:" if self._protected else MARK

    async def run(
        self,
        text: str,
        arguments: Sequence[Any],
        *,
        prefix: bytes | None,
        operation: str = "",
        collection: str | None = None,
        traced: bool = True,
    ) -> Answer:
        """Send one statement.

        Args:
            text: SQL with $1, $2...
            arguments: as values.parameter makes them.
            prefix: Credential.prefix where the statement is a transaction of its own; None inside one.
            operation: for the span: SELECT, INSERT...
            collection: for the span: the table, where it is known.
            traced: False for Flux's own statements.

        Returns:
            An Answer; its `failure` is what Postgres or the encoding of a parameter objected to.

        Raises:
            asyncio.CancelledError: cancelled; Postgres has been asked to cancel the statement.
        """
        self.announced = []
        answer = Answer()
        self._pending = _Run(arguments, prefix, operation, collection, trace.get_current_span(), answer)
        try:
            if traced:
                await self.fetch(text)
            else:
                await self._inside._execute(text, (), 0, None)
        except DATABASE_ERRORS as error:
            answer.failure = answer.failure or error
            if isinstance(error, asyncpg.InternalClientError):
                self.terminate()
        finally:
            self._pending = None
        return answer

    async def control(self, text: str) -> str:
        """Send SQL without parameters as one simple query, untraced, and return the last command's tag."""
        self.announced = []
        self._inside._check_open()
        tag: str = await self._inside._protocol.query(text, None)
        return tag

    async def renew(self, timeout: float) -> None:
        """Take off what SQL may have left: settings, role, locks, cursors, listening, temporary objects, what
        sequences gave, connections of dblink. flux.enter() does the rest: it sees to random(), and refuses a
        session in which SQL has prepared something.

        Args:
            timeout: seconds that it may take.

        Raises:
            Exception: something could not be taken off; the connection must be closed.
        """
        rollback = "ROLLBACK; " if self._inside._protocol.is_in_transaction() else ""
        await self._inside._protocol.query(rollback + self.resetting(), timeout)
        self._mark = MARK + "-"

    def resetting(self) -> str:
        """SQL that does so outside a transaction."""
        left = f"flux.left_nothing('{self.gate}'), " if self.exposed or not self._gate.name else ""
        return (
            "SET SESSION AUTHORIZATION DEFAULT; RESET ALL; CLOSE ALL; UNLISTEN *; DISCARD TEMP; "
            f"DISCARD SEQUENCES; SELECT {left}pg_catalog.pg_advisory_unlock_all(){self._forgetful}"
        )

    async def forget_function(self, user: str) -> None:
        """Drop the statements of one function before another may read them here."""
        if self.user != user:
            if self.user is not None:
                await self.control("DEALLOCATE ALL")
                self.forget_statements()
                gate = self.gate
                self._gate = await self._inside._get_statement(
                    context.ENTER, None, named=gate, use_cache=False
                )
            self.user = user

    @property
    def cancelling(self) -> bool:
        """A statement was cancelled and Postgres has not yet acknowledged it."""
        return bool(self._inside._protocol is not None and self._inside._protocol._is_cancelling())

    async def cancelled(self, timeout: float) -> None:
        """Wait until Postgres has acknowledged a cancelled statement; past `timeout` seconds the connection
        is closed."""
        if self._inside._protocol is not None:
            await self._inside._protocol._wait_for_cancellation(timeout)

    def forget_schema(self) -> None:
        """Drop cached statements and types: the schema has changed."""
        self._inside._drop_local_type_cache()
        self.forget_statements()

    def forget_statements(self) -> None:
        """Use none of the prepared statements again but the one that enters."""
        self._inside._drop_local_statement_cache()
        self._shapes.clear()
        self._begins.clear()

    def _process_log_message(self, fields: dict[str, str], last_query: str | None) -> None:
        message = fields.get("M", "")
        if message.startswith(self._mark):
            self.announced.append(message[len(self._mark) :])
        elif not message.startswith(MARK):  # a function's own imitation is nobody's
            _ASYNCPG._process_log_message(self, fields, last_query)

    def _get_unique_id(self, prefix: str) -> str:
        """A prepared statement's name: nobody may guess it and put another statement in its place."""
        return f"flux_{secrets.token_hex(16)}"

    async def _introspect_types(self, typeoids: Any, timeout: Any) -> Any:
        """asyncpg's look at unknown types. A function may have hidden the catalog behind objects of its
        own, and what is learned here is kept for others: look with a search path that nothing can stand
        in front of."""
        [row] = await self._inside._execute(_Q.search_path, ("pg_catalog, pg_temp",), 0, None)
        try:
            return await _ASYNCPG._introspect_types(self, typeoids, timeout)
        finally:
            if not self.is_closed():
                await self._inside._execute(_Q.search_path, (row["was"],), 0, None)

    async def _execute(
        self, query: str, args: Sequence[Any], limit: int, timeout: float | None, **more: Any
    ) -> Any:
        """asyncpg's one way to execute a prepared statement. `run` has set `_pending`; anything else passes
        through."""
        pending, self._pending = self._pending, None
        if pending is None:
            return await _ASYNCPG._execute(self, query, args, limit, timeout, **more)
        await self._answer(query, pending)
        span = trace.get_current_span()
        if span is not pending.outer and span.is_recording():
            _describe(span, pending)
        return pending.answer.rows

    async def _answer(self, query: str, pending: _Run) -> None:
        """Prepare, send and take the answer. An error is kept in it: raising it here would cost the span a
        traceback."""
        answer = pending.answer
        inside = self._inside
        suspected: Exception | None = None
        for last in (False, True):
            known = query in self._shapes
            state = None
            try:
                state = await inside._get_statement(
                    query, None, named=suspected is not None, use_cache=suspected is None
                )
                shape = self._shape(query, state)
                known = known or any(parameter.oid >= _USERS for parameter in shape.parameters)
                rows, tag, _ = await self._send(state, shape.parameters, pending.arguments, pending.prefix)
                break
            except (Refused, *DATABASE_ERRORS) as error:
                answer.failure = suspected or error
                if isinstance(error, asyncpg.OutdatedSchemaCacheError):
                    # Done, and what it gave back was for another shape of a composite type.
                    self._outdated()
                    answer.failure = _unread(in_transaction=inside._protocol.is_in_transaction())
                    return
                if never_sent(error) or self.spoilt(error):
                    answer.unsent = True
                    self.terminate()
                    return
                certain = isinstance(error, asyncpg.InvalidCachedStatementError)
                if certain:
                    self._outdated()
                if last or (not certain and not (known and _may_be_stale(error))):
                    return
                if pending.prefix is None:
                    # Alone a statement may have committed a part; in a transaction all is lost.
                    self.forget_schema()
                    return
                if not certain:
                    # The same error again, for what is prepared anew, is the function's own.
                    suspected = error
                    inside._drop_local_type_cache()
            finally:
                if suspected is not None and last and state is not None:
                    inside._stmts_to_close.add(state)
        if suspected is not None:
            self._outdated()
        answer.failure = None
        answer.rows = rows or []
        answer.tag = (tag or b"").decode()
        match = _COUNT.search(tag or b"")
        answer.count = int(match[1]) if match else len(answer.rows)
        answer.shape = shape

    async def _send(
        self, state: Any, types: Sequence[Any], arguments: Sequence[Any], prefix: bytes | None
    ) -> Any:
        for coerced in (True,) if values.needs_coercion(arguments) else (False, True):
            try:
                sent = values.coerce(arguments, types) if coerced else arguments
                return await self._bind(state, sent, prefix)
            except values.Unfit as error:
                await self._settle()
                raise _unfit(error.number, types, error) from error
            except (asyncpg.DataError, asyncpg.InterfaceError) as error:
                if self.is_closed() or getattr(error, "severity", None) is not None:
                    raise  # the server's own, or no server to talk to any more
                await self._settle()
                number = bad_argument(error)
                if number is None:
                    raise
                if coerced:
                    raise _unfit(number, types, error) from error
        raise AssertionError("the last try returns or raises")

    async def _bind(self, state: Any, arguments: Sequence[Any], prefix: bytes | None) -> Any:
        if prefix is not None:
            self._inside._transport.write(prefix)
        return await self._inside._protocol.bind_execute(state, arguments, "", 0, True, None)

    async def _settle(self) -> None:
        """A parameter was refused after Parse or the prefix had gone out: end the implicit transaction they
        began."""
        if not self._inside._protocol.is_in_transaction():
            state = await self._inside._get_statement(_NOTHING, None)
            await self._inside._protocol.bind_execute(state, (), "", 0, True, None)

    def _outdated(self) -> None:
        self.forget_schema()
        self.stale = True

    def spoilt(self, error: BaseException) -> bool:
        """Whether the session could not be entered, for what SQL had done to it: what followed was
        skipped, and the connection is to be closed."""
        if not self._gate.name:
            return False
        if isinstance(error, asyncpg.InvalidSQLStatementNameError):
            return self.gate in str(error)
        return isinstance(error, asyncpg.ObjectInUseError) and _UNCLEAN in str(error)

    def _shape(self, query: str, state: Any) -> Shape:
        known = self._shapes.get(query)
        if known is not None and known[0] is state:
            return known[1]
        attributes = state._get_attributes()
        columns = values.unique_names(attribute.name for attribute in attributes)
        named = zip(columns, attributes, strict=True)
        types = {name: a.type.name for name, a in named if a.type.name in values.NAMED_TYPES}
        shape = Shape(columns, types, state._get_parameters())
        if len(self._shapes) >= _SHAPES:
            self._shapes.clear()
        self._shapes[query] = (state, shape)
        return shape


def never_sent(error: BaseException) -> bool:
    """Whether asyncpg refused to begin: Postgres has ended the connection while it was idle and said so, only
    the end of the stream has not come yet. Another connection may be used in its place."""
    return isinstance(error, asyncpg.InternalClientError) and str(error).startswith("cannot switch to state")


def must_be_alone(error: Exception) -> bool:
    """Whether Postgres refused a statement because it may share its transaction with nothing, not even
    with what entered the session in front of it. Nothing was done."""
    return (
        isinstance(error, asyncpg.ActiveSQLTransactionError)
        and getattr(error, "server_source_function", None) == "PreventInTransactionBlock"
        and getattr(error, "context", None) is None
    )


def _may_be_stale(error: Exception) -> bool:
    """Whether a statement that was prepared earlier may have failed because the schema is another one now."""
    if isinstance(error, Refused):
        return error.type == "invalid_parameter"
    return isinstance(error, asyncpg.PostgresError) and str(error.sqlstate) in _STALE


def _unread(*, in_transaction: bool) -> Refused:
    done = "The statement was done" if in_transaction else "The statement was done and has been committed"
    return Refused(
        "outdated_schema",
        f"{done}, but the rows that it gave back can't be read: a type in them has just been altered. "
        "The next statement sees it as it is now.",
    )


def _unfit(number: int, types: Sequence[Any], error: Exception) -> Refused:
    reason = error.__cause__ or error
    return Refused(
        "invalid_parameter", f"Parameter ${number} can't be sent as {types[number - 1].name}: {reason}."
    )


def _describe(span: Span, run: _Run) -> None:
    """What the instrumentor's span lacks."""
    attributes: dict[str, str | int] = {}
    if run.operation:
        attributes[DB_OPERATION_NAME] = run.operation
    if run.collection:
        attributes[DB_COLLECTION_NAME] = run.collection
    if run.answer.failure is None:
        attributes[DB_RESPONSE_RETURNED_ROWS] = len(run.answer.rows)
    else:
        error = call_error(run.answer.failure)
        attributes[ERROR_TYPE] = error.type
        if error.detail.get("sqlstate"):
            attributes[DB_RESPONSE_STATUS_CODE] = error.detail["sqlstate"]
        span.set_status(trace.StatusCode.ERROR, error.message)
    span.set_attributes(attributes)
