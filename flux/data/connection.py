"""A connection to the user's database that does what a Session needs and asyncpg's public methods can't say.

It is an asyncpg.Connection, so that the OpenTelemetry instrumentor sees its `fetch` like anybody's. Beside
that it sets the
context of a statement without a round trip, returns rows, tag and column types together, collects what
capture triggers
announce, and puts onto the statement's span what the instrumentor leaves out. Held by flux.data.pool, used by
flux.data.session and flux.data.transaction.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import asyncpg
import msgspec
from opentelemetry import trace
from opentelemetry.trace import Span

from flux.data import context, values
from flux.data.attempts import MARK
from flux.data.errors import DATABASE_ERRORS, Refused, bad_argument, call_error
from flux.data.statements import Residue
from flux.semconv import (
    DB_COLLECTION_NAME,
    DB_OPERATION_NAME,
    DB_RESPONSE_RETURNED_ROWS,
    DB_RESPONSE_STATUS_CODE,
    ERROR_TYPE,
)
from flux.store.keepalive import Watched

_COUNT = re.compile(rb"(\d+)$")
_RESET = """
SET SESSION AUTHORIZATION DEFAULT; RESET ALL; CLOSE ALL; UNLISTEN *; SELECT pg_advisory_unlock_all();
DISCARD TEMP;
DISCARD SEQUENCES
"""
_ASK = "SELECT current_setting('default_transaction_isolation')"
_SHAPES = 1000
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
    it; `unsent` says that it never left, see `never_sent`."""

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
    """Messages of the capture triggers since the last `run` or `control` began."""
    residue: Residue
    """What has to be removed before somebody else may have the connection."""
    epoch: int
    """The pool's schema epoch that the cached statements belong to."""
    default_isolation: str
    """Of a transaction that names none."""
    described: dict[str, dict[str, Any]]
    """What the instrumentor says of a statement on its span; flux.data.instrument keeps it here."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.announced = []
        self.residue = Residue.NONE
        self.epoch = 0
        self.default_isolation = "read committed"
        self.described = {}
        self._pending: _Run | None = None
        self._shapes: dict[str, tuple[object, Shape]] = {}
        self._context_statement: Any = None

    @property
    def _inside(self) -> Any:
        """Itself, for asyncpg's private parts."""
        return self

    async def prepare_for_use(self, *, prefixes: bool) -> None:
        """Install codecs, ask what Flux must know and, unless behind a transaction pooler, prepare the
        statement behind
        context.prefix. Once, when opened.
        """
        await values.install_codecs(self)
        if prefixes:
            self._context_statement = await self._inside._get_statement(
                context.TEXT, None, named=context.STATEMENT, use_cache=False
            )
        # asyncpg ends preparing without a Sync: until the next one Postgres holds a transaction open. This
        # sends it.
        rows = await self._inside._execute(_ASK, (), 0, None)
        self.default_isolation = rows[0][0]

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
            prefix: context.prefix where the statement is a transaction of its own; None inside one.
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

    async def clean(self) -> None:
        """Undo what statements may have left on the connection.

        Raises:
            Exception: whatever went wrong; the connection must then be closed.
        """
        if self._inside._protocol.is_in_transaction():
            await self.control("ROLLBACK")
        if self.residue is Residue.SETTINGS:
            await self.control(_RESET)
        self.residue = Residue.NONE

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
        self._inside._drop_local_statement_cache()
        self._shapes.clear()

    def _process_log_message(self, fields: dict[str, str], last_query: str | None) -> None:
        if fields.get("M", "").startswith(MARK):
            self.announced.append(fields["M"])
        else:
            _ASYNCPG._process_log_message(self, fields, last_query)

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
        try:
            for attempt in (1, 2):
                state = await self._inside._get_statement(query, None)
                try:
                    shape = self._shape(query, state)
                    rows, tag, _ = await self._send(
                        state, shape.parameters, pending.arguments, pending.prefix
                    )
                    break
                except asyncpg.InvalidCachedStatementError:
                    self.forget_schema()
                    if attempt == 2 or self._inside._protocol.is_in_transaction():
                        raise
        except (Refused, *DATABASE_ERRORS) as error:
            answer.failure = error
            if never_sent(error):
                answer.unsent = True
                self.terminate()
            elif isinstance(error, asyncpg.InvalidSQLStatementNameError):
                self.residue = Residue.STATEMENTS  # a user's function has dropped what was prepared here
            return
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
        if self._context_statement is not None and not self._inside._protocol.is_in_transaction():
            await self._inside._protocol.bind_execute(self._context_statement, ("",), "", 0, True, None)

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
