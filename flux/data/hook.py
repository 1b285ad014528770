"""What Flux adds to the asyncpg instrumentor, for connections that are not a Session's own.

It wraps twice. *Inside* the instrumentor's wrapper a statement gets its context, and its span what
it lacks. *Around* it control statements are kept from becoming spans, transactions become one, and
COPY gets one. flux.data.instrument puts both on. A flux.data.connection.Connection does all that
itself and passes through, as does everything under suppress_instrumentation.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from enum import Enum
from typing import Any
from weakref import WeakKeyDictionary

import asyncpg
from opentelemetry import context as otel
from opentelemetry import trace
from opentelemetry.instrumentation.utils import is_instrumentation_enabled, suppress_instrumentation
from opentelemetry.trace import Span, SpanKind, Tracer, TracerProvider

from flux.data import context
from flux.data.connection import Connection
from flux.data.errors import DATABASE_ERRORS, call_error
from flux.data.statements import Kind, classify
from flux.recorder.context import current_execution
from flux.semconv import (
    DB_COLLECTION_NAME,
    DB_NAMESPACE,
    DB_OPERATION_NAME,
    DB_QUERY_TEXT,
    DB_RESPONSE_RETURNED_ROWS,
    DB_RESPONSE_STATUS_CODE,
    DB_SYSTEM_NAME,
    ERROR_TYPE,
    FLUX_TRANSACTION_OUTCOME,
)

_SCOPE = "opentelemetry.instrumentation.asyncpg"
_STATEMENTS = {
    asyncpg.Connection: ("execute", "executemany", "fetch", "fetchval", "fetchrow", "fetchmany"),
    asyncpg.prepared_stmt.PreparedStatement: ("fetch", "fetchval", "fetchrow", "executemany", "fetchmany"),
    asyncpg.cursor.Cursor: ("fetch", "forward", "fetchrow"),
}
_COPIES = ("copy_from_table", "copy_from_query", "copy_to_table", "copy_records_to_table")
_PREPARED = "_PreparedStatement__do_execute"
"""What every way to run a prepared statement comes to: fetch*, executemany, fetchmany."""
_COMMITS = frozenset({"DO", "CALL"})
"""They may COMMIT inside, so they share no implicit transaction with what sets their context."""
_OUTSIDE = frozenset({"", "DISCARD"})
"""An empty query has no transaction; DISCARD ALL refuses a transaction block."""
_FORGETS = frozenset({"DISCARD", "DEALLOCATE"})
"""They may drop the prepared statement that sets the context: it is prepared anew."""
_EMPTY = re.compile(r"(?:\s|;|--[^\r\n]*|/\*.*?\*/)*", re.DOTALL)
_BATCH = re.compile(r"\s*(?:begin|start\s+transaction)\b[^;]*;", re.IGNORECASE)
_COUNT = re.compile(r"(\d+)$")
_BEGINS = ("BEGIN", "START")

_Method = Callable[..., Awaitable[Any]]
_inside: dict[tuple[type, str], Any] = {}
_around: dict[tuple[type, str], Any] = {}
_transactions: WeakKeyDictionary[Any, Span] = WeakKeyDictionary()
_contexts: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()
_tracer: Tracer = trace.get_tracer("flux.data")


def installed() -> bool:
    """The coats are on."""
    return bool(_inside)


def install_inside() -> None:
    """Before the instrumentor wraps asyncpg's methods."""
    _replace(_inside, asyncpg.Connection, "_do_execute", _do_execute)
    _replace(_inside, asyncpg.Connection, "execute", _execute_inside)
    _replace(_inside, asyncpg.prepared_stmt.PreparedStatement, _PREPARED, _execute_prepared)


def install_around(tracer_provider: TracerProvider | None) -> None:
    """After it."""
    global _tracer
    _tracer = trace.get_tracer("flux.data", tracer_provider=tracer_provider)
    for owner, names in _STATEMENTS.items():
        for name in names:
            if hasattr(owner, name):
                _replace(_around, owner, name, _under_transaction)
    _replace(_around, asyncpg.Connection, "execute", _execute_around)
    for name in _COPIES:
        _replace(_around, asyncpg.Connection, name, _copy)


def remove_around() -> None:
    """Undo install_around."""
    _restore(_around)


def remove_inside() -> None:
    """Undo install_inside."""
    _restore(_inside)


def current_context(span: Span | None = None) -> str | None:
    """The context of what runs now: its execution, else the trace of `span` (the current one); None outside
    both."""
    execution = current_execution()
    if execution is not None:
        return context.context(execution.request_id, execution.day)
    trace_id = (span or trace.get_current_span()).get_span_context().trace_id
    return context.context(f"{trace_id:032x}", f"{datetime.now(UTC):%Y-%m-%d}") if trace_id else None


def _replace(
    kept: dict[tuple[type, str], Any], owner: Any, name: str, make: Callable[[Any, str], _Method]
) -> None:
    original = getattr(owner, name)
    kept.setdefault((owner, name), owner.__dict__.get(name, original))
    setattr(owner, name, make(original, name))


def _restore(kept: dict[tuple[type, str], Any]) -> None:
    for (owner, name), original in kept.items():
        setattr(owner, name, original)
    kept.clear()


def _ours(connection: Any) -> bool:
    return type(connection) is Connection


def _statement_span() -> Span | None:
    """The instrumentor's span, where it is the current one."""
    span = trace.get_current_span()
    scope = getattr(span, "instrumentation_scope", None)
    return span if scope is not None and scope.name == _SCOPE else None


class _Way(Enum):
    """How a statement that is a transaction of its own gets its context."""

    NONE = "none"
    LOCAL = "local"
    """Set in the statement's own implicit transaction."""
    SESSION = "session"
    """Set for the session before it and reset after it."""


def _way(connection: Any, query: str) -> _Way:
    if connection._protocol.is_in_transaction():
        return _Way.NONE
    keyword, kind = classify(query)[:2]
    if kind is Kind.PLAIN:
        return _Way.NONE if keyword in _OUTSIDE else _Way.LOCAL
    # Behind a transaction pooler the next client would have the session's setting.
    return _Way.SESSION if keyword in _COMMITS and connection._stmt_cache_enabled else _Way.NONE


async def _for_session(connection: Any, text: str, send: Callable[[], Awaitable[Any]]) -> Any:
    await connection._protocol.query(f"SET flux.ctx = '{text}'", None)
    try:
        return await send()
    finally:
        if not connection.is_closed():
            await connection._protocol.query("RESET flux.ctx", None)


async def _prefix(connection: Any, text: str) -> bytes:
    """The context's messages, for a statement that is a transaction of its own."""
    if connection not in _contexts:
        _contexts[connection] = await connection._get_statement(
            context.TEXT, None, named=context.STATEMENT, use_cache=False
        )
    return context.prefix(text)


async def _stamped(connection: Any, query: str, send: Callable[[], Awaitable[Any]]) -> Any:
    """Send a prepared statement with its context, and describe its failure on its span."""
    span = _statement_span()
    if _ours(connection) or not is_instrumentation_enabled():
        return await send()
    text = current_context()
    way = _way(connection, query) if text is not None else _Way.NONE
    prefix: bytes | None = None
    try:
        if text is not None and way is _Way.SESSION:
            return await _for_session(connection, text, send)
        if text is not None and way is _Way.LOCAL and connection._stmt_cache_enabled:
            prefix = await _prefix(connection, text)
            connection._transport.write(prefix)
        return await send()
    except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        if prefix is not None and getattr(error, "severity", None) is None and not connection.is_closed():
            # Refused before it was sent: end the implicit transaction that the prefix began.
            await connection._protocol.bind_execute(_contexts[connection], ("",), "", 0, True, None)
        if span is not None:
            _describe_error(span, error)
        raise


def _do_execute(original: Any, name: str) -> _Method:
    """asyncpg's one way to run a prepared statement of its cache: fetch*, execute with arguments,
    executemany."""

    async def do_execute(
        self: Any, query: str, executor: _Method, timeout: Any, *rest: Any, **more: Any
    ) -> Any:
        if _ours(self) or query == context.TEXT:
            return await original(self, query, executor, timeout, *rest, **more)
        span = _statement_span()

        async def stamped(statement: Any, budget: Any) -> Any:
            return await _stamped(self, query, lambda: executor(statement, budget))

        result = await original(self, query, stamped, timeout, *rest, **more)
        if span is not None and isinstance(result, tuple):
            rows = result[0][0] if isinstance(result[0], tuple) else result[0]
            _describe(span, query, len(rows) if isinstance(rows, list) else None)
        return result

    return do_execute


def _execute_prepared(original: Any, name: str) -> _Method:
    """Statements that the program prepared itself."""

    async def execute(self: Any, executor: _Method) -> Any:
        result = await _stamped(self._connection, self._query, lambda: original(self, executor))
        span = _statement_span()
        if span is not None:
            rows = result[0] if isinstance(result, tuple) else result
            _describe(span, self._query, len(rows) if isinstance(rows, list) else None)
        return result

    return execute


def _execute_inside(original: Any, name: str) -> _Method:
    """execute without arguments is a simple query: the context goes into its text."""

    async def execute(self: Any, query: str, *args: Any, **more: Any) -> Any:
        if args or _ours(self) or not is_instrumentation_enabled():
            return await original(self, query, *args, **more)
        if _EMPTY.fullmatch(query):  # Postgres answers nothing, on which asyncpg trips
            self._check_open()
            return ""
        span = _statement_span()
        text = current_context()
        if classify(query)[0] in _FORGETS:
            _contexts.pop(self, None)
        at, stamp = 0, ""
        try:
            if text is not None:
                way = _way(self, query)
                if way is _Way.SESSION:
                    return await _for_session(self, text, lambda: original(self, query, **more))
                if way is _Way.LOCAL:
                    stamp = f"{context.set_local(text)};"
                elif not self._protocol.is_in_transaction() and (begin := _BATCH.match(query)):
                    at, stamp = begin.end(), f"{context.set_local(text)};"
            result = await original(self, query[:at] + stamp + query[at:], **more)
        except asyncpg.PostgresError as error:
            _move(error, at, len(stamp))
            if span is not None:
                _describe_error(span, error)
            raise
        if span is not None:
            _describe(span, query, None)
        return result

    return execute


def _move(error: Any, at: int, by: int) -> None:
    """An error's position in the query that was sent, as one in the query that was asked for."""
    position = getattr(error, "position", None)
    if by and position is not None and int(position) > at:
        error.position = str(int(position) - by)


def _under_transaction(original: Any, name: str) -> _Method:
    """A statement in a transaction: its span is a child of the transaction's."""

    async def inside(connection: Any, span: Span, self: Any, args: Any, more: Any) -> Any:
        token = otel.attach(trace.set_span_in_context(span))
        try:
            return await original(self, *args, **more)
        finally:
            otel.detach(token)
            if connection.is_closed():
                _end(connection, "unknown")

    def method(self: Any, *args: Any, **more: Any) -> Any:
        connection = getattr(self, "_connection", self)
        connection = getattr(connection, "_con", connection)
        span = None if _ours(connection) else _transactions.get(connection)
        if span is None:
            return original(self, *args, **more)
        return inside(connection, span, self, args, more)

    return method


def _execute_around(original: Any, name: str) -> _Method:
    """Control statements are no spans; what they begin and end is one."""

    async def execute(self: Any, query: str, *args: Any, **more: Any) -> Any:
        if args or _ours(self) or not is_instrumentation_enabled():
            return await original(self, query, *args, **more)
        keyword, kind = classify(query)
        if query == self._reset_query or kind is Kind.SAVEPOINT:
            with suppress_instrumentation():
                return await original(self, query, **more)
        if kind is not Kind.CONTROL or ";" in query.rstrip("; \n"):
            return await original(self, query, **more)
        if keyword in _BEGINS:
            return await _begin(self, original, query, more)
        try:
            with suppress_instrumentation():
                tag = await original(self, query, **more)
        except DATABASE_ERRORS as error:
            _end(self, "unknown" if self.is_closed() else "rolled_back", error)
            raise
        except BaseException:
            _end(self, "unknown")
            raise
        _end(self, "committed" if tag.startswith("COMMIT") else "rolled_back")
        return tag

    return execute


async def _begin(connection: Any, original: _Method, query: str, more: dict[str, Any]) -> Any:
    attributes = {DB_SYSTEM_NAME: "postgresql", DB_NAMESPACE: connection._params.database}
    span = _tracer.start_span("transaction", attributes=attributes)
    text = current_context(span)
    if text is not None and not connection._protocol.is_in_transaction():
        query = f"{query.rstrip('; ' + chr(10))}; {context.set_local(text)}"
    try:
        with suppress_instrumentation():
            result = await original(connection, query, **more)
    except BaseException as error:
        _transactions[connection] = span
        _end(connection, "rolled_back", error)
        raise
    _transactions[connection] = span
    return result


def _end(connection: Any, outcome: str, error: BaseException | None = None) -> None:
    span = _transactions.pop(connection, None)
    if span is None:
        return
    span.set_attribute(FLUX_TRANSACTION_OUTCOME, outcome)
    if error is not None:
        _describe_error(span, error)
    span.end()


def _copy(original: Any, name: str) -> _Method:
    """The four COPY methods: one CLIENT span each; outside a transaction in one of their own, which carries
    the context."""

    async def copy(self: Any, subject: str, *args: Any, **more: Any) -> Any:
        if _ours(self) or not is_instrumentation_enabled():
            return await original(self, subject, *args, **more)
        attributes = {
            DB_SYSTEM_NAME: "postgresql",
            DB_NAMESPACE: self._params.database,
            DB_OPERATION_NAME: "COPY",
        }
        if name == "copy_from_query":
            attributes[DB_QUERY_TEXT] = subject
        else:
            schema = more.get("schema_name")
            attributes[DB_COLLECTION_NAME] = f"{schema}.{subject}" if schema else subject
        parent = _transactions.get(self)
        where = trace.set_span_in_context(parent) if parent is not None else None
        writes = name != "copy_from_table"  # a query that is copied may be an INSERT, or call what writes
        with _tracer.start_as_current_span(
            "COPY", context=where, kind=SpanKind.CLIENT, attributes=attributes
        ) as span:
            text = current_context() if writes else None
            own = text is not None and not self._protocol.is_in_transaction()
            try:
                with suppress_instrumentation():
                    if own and text is not None:
                        await self._protocol.query(f"BEGIN; {context.set_local(text)}", None)
                    tag = await original(self, subject, *args, **more)
                    if own:
                        await self._protocol.query("COMMIT", None)
            except BaseException as error:
                if own and not self.is_closed():
                    await self._protocol.query("ROLLBACK", None)
                _describe_error(span, error)
                raise
            if count := _COUNT.search(tag or ""):
                span.set_attribute(DB_RESPONSE_RETURNED_ROWS, int(count[1]))
            return tag

    return copy


def _describe(span: Span, query: str, rows: int | None) -> None:
    keyword = classify(query)[0]
    if keyword:
        span.set_attribute(DB_OPERATION_NAME, keyword)
    if rows is not None:
        span.set_attribute(DB_RESPONSE_RETURNED_ROWS, rows)


def _describe_error(span: Span, error: BaseException) -> None:
    told = call_error(error)
    span.set_attribute(ERROR_TYPE, told.type)
    if told.detail.get("sqlstate"):
        span.set_attribute(DB_RESPONSE_STATUS_CODE, told.detail["sqlstate"])
    span.set_status(trace.StatusCode.ERROR, told.message)
