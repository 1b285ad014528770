"""Reader: every question that can be asked of the record, answered in the JSON shapes.

The CLI, the HTTP API and Python programs hold one. It only reads. What compares executions is imported when
it is asked for: `flux trace` starts without it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import asyncpg
from asyncpg import Connection

from flux.errors import NotFound, StoreError, UsageError
from flux.query import (
    blame,
    find,
    from_rows,
    history,
    keys,
    logs,
    provenance,
    rows,
    statement,
    tail,
    trace,
)
from flux.query.queries import Q
from flux.query.steps import Steps
from flux.query.withhold import Withheld
from flux.shapes.debug import DebugStep
from flux.shapes.diff import Cohorts, Diff
from flux.shapes.record import Blame, Execution, LogLine, Mutation, Trace
from flux.shapes.why import Why, Writer

if TYPE_CHECKING:
    from flux.expression import Expression

AWAY = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.TooManyConnectionsError,
    asyncpg.CannotConnectNowError,
    asyncpg.InterfaceError,
)
"""What it looks like when there is no Postgres to ask."""


class Source(Protocol):
    """What Reader needs of a Store."""

    def internal(self, *, patience: float | None = None) -> AbstractAsyncContextManager[Any]:
        """A connection that may read `flux.*` and the user's tables, its statements untraced; given back on
        exit, given up after `patience` seconds.
        """
        ...

    async def close(self) -> None:
        """Give everything back."""
        ...


class Reader:
    """Answers from one database. Any number of questions at once, each on a connection of its own.

    Args:
        store: where connections come from; `close` closes it.
        spool_dir: the project's spools, where this machine has them: what they hold is waited for (`find`).
        redact_columns: `table.column` whose values no answer shows; only `sql` doesn't know them.
        patience: seconds that Postgres has for one question, StoreError after it; None: as long as it takes.
    """

    def __init__(
        self,
        store: Source,
        *,
        spool_dir: Path | None = None,
        redact_columns: Sequence[str] = (),
        patience: float | None = None,
    ) -> None:
        self._store = store
        self._patience = patience
        self._spool_dir = spool_dir
        self._withheld = Withheld(redact_columns)

    async def close(self) -> None:
        """Close the store. Idempotent where the store's `close` is."""
        await self._store.close()

    async def executions(
        self,
        *,
        function: str | None = None,
        status: str | None = None,
        failed: bool = False,
        since: datetime | None = None,
        limit: int = 50,
    ) -> list[Execution]:
        """The newest executions that fit, oldest first.

        Args:
            function: only of this one.
            status: only with this status, or of this class (`5xx`).
            failed: only those that did not end well.
            since: only those begun after.
            limit: at most so many.
        """
        async with self._connect() as connection:
            found = await tail.newest(connection, tail.Filter(function, status, failed), limit, since)
            return [from_rows.execution(row) for row in found]

    async def tail(
        self,
        *,
        function: str | None = None,
        status: str | None = None,
        failed: bool = False,
        backlog: int = 10,
    ) -> AsyncIterator[Execution]:
        """The last `backlog` executions that fit, then each further one as it is recorded; endless."""
        async for shape in tail.stream(self._connect, tail.Filter(function, status, failed), backlog):
            yield shape

    async def resolve(self, name: str) -> str:
        """The whole request_id that `name` means: an id, the first digits of one, a trace_id, or `last`.

        Raises:
            NotFound, Ambiguous, UsageError.
        """
        async with self._connect() as connection:
            return (await self._find(connection, name)).request_id

    async def trace(self, name: str) -> Trace:
        """One execution with its spans, host calls, mutations and logs, and those it invoked.

        Raises:
            NotFound, Ambiguous, UsageError: `name` doesn't name one.
        """
        async with self._connect() as connection:
            document = await trace.load(connection, await self._find(connection, name))
            return self._withheld.trace(document)

    async def why(self, name: str) -> Why:
        """Why one execution ended as it did.

        Raises:
            NotFound, Ambiguous, UsageError: `name` doesn't name one.
        """
        from flux.query import why

        async with self._connect() as connection:
            told = await why.load(connection, await self._find(connection, name))
            return self._withheld.why(told)

    async def steps(self, name: str) -> Steps:
        """One execution taken apart into steps, with the code that ran where its deployment is stored.

        Raises:
            NotFound, Ambiguous, UsageError: `name` doesn't name one.
        """
        async with self._connect() as connection:
            document = await trace.load(connection, await self._find(connection, name))
            bundle = await connection.fetchval(Q.bundle, document.deployment) if document.deployment else None
            return Steps(self._withheld.trace(document), bundle)

    async def origins(self, step: DebugStep) -> list[Writer]:
        """Who had written the rows that a step changed or read, column by column, as of before it.

        Empty where no row is known by its key, or none of its writers was recorded.
        """
        async with self._connect() as connection:
            return self._withheld.writers(await provenance.of_step(connection, step))

    async def diff(self, a: str, b: str | None = None) -> Diff:
        """How two executions differ.

        Args:
            a, b: executions, named as for `trace`. Without `b`, the success of the same function that is
                nearest to `a` is the first, and `a` the second.

        Raises:
            NotFound: `a` or `b` is none, or there is no success to compare `a` with.
            Ambiguous, UsageError: as for `trace`.
        """
        from flux.compare import compare
        from flux.query import nearest

        async with self._connect() as connection:
            one = await trace.load(connection, await self._find(connection, a))
            if b is not None:
                other = await trace.load(connection, await self._find(connection, b))
            else:
                near = await nearest.successes(connection, one, 1)
                if not near:
                    raise NotFound(
                        f"No other execution of `{one.function}` went well: there is none to compare with.",
                        "Name a second one: flux trace diff A B",
                    )
                one, other = near[0], one
            return compare(self._withheld.trace(one), self._withheld.trace(other))

    async def cohorts(
        self,
        *,
        bad: Expression | None = None,
        good: Expression | None = None,
        function: str | None = None,
        since: datetime | None = None,
        limit: int | None = None,
    ) -> Cohorts:
        """What separates failing executions from passing ones, by two expressions; one of them may be left
        out and is then the rest.

        Args:
            function: only of this one.
            since: only those begun after.
            limit: the newest so many are looked at; `cohorts.MOST` without it.

        Raises:
            NotFound: no execution is bad, or none is good.
        """
        from flux.query import cohorts

        most = cohorts.MOST if limit is None else limit
        async with self._connect() as connection:
            return await cohorts.load(
                connection, bad=bad, good=good, function=function, since=since, limit=most
            )

    async def history(
        self,
        table: str,
        key: str,
        *,
        column: str | None = None,
        since: datetime | None = None,
        limit: int | None = None,
    ) -> list[Mutation]:
        """What was done to one row, oldest first, rolled-back attempts among it.

        Args:
            table: `table` or `schema.table`.
            key: the primary key's value; of several columns `column=value,column=value`, or JSON.
            column: only what changed this column.
            since, limit: only from then on; only the newest so many.

        Raises:
            NotFound: there is no such table, or nothing is known of such a row.
            UsageError: the key is not one of that table's.
        """
        async with self._connect() as connection, keys.canonical(connection):
            where = await rows.find_table(connection, table)
            identity = await keys.read_key(connection, where, key)
            _check_column(where, column)
            found = await history.load(connection, where, identity)
            if not found and await keys.current_row(connection, where, identity) is None:
                raise _no_row(where, key)
            selected = history.select(found, column=column, since=since, limit=limit)
            return self._withheld.mutations(selected)

    async def blame(self, table: str, key: str) -> Blame:
        """Who last set each column of one row.

        Args and errors as for `history`.
        """
        async with (
            self._connect() as connection,
            keys.canonical(connection, isolation="repeatable_read"),
        ):
            where = await rows.find_table(connection, table)
            identity = await keys.read_key(connection, where, key)
            mutations = await history.load(connection, where, identity)
            current = await keys.current_row(connection, where, identity)
            if not mutations and current is None:
                raise _no_row(where, key)
            columns = blame.blame(mutations, _columns(where, mutations), current)
            return self._withheld.blame(where.shown, columns)

    async def logs(
        self,
        name: str | None = None,
        *,
        function: str | None = None,
        level: str | None = None,
        since: datetime | None = None,
        limit: int = 100,
    ) -> list[LogLine]:
        """Log lines, oldest first: all of one execution's, or the newest `limit` of all.

        Args:
            name: an execution, as for `trace`; None for all executions.
            function: only of this function.
            level: of this level (debug, info, warn, error) or a more serious one.
            since: only those logged after.
        """
        wanted = logs.Filter(function, level, since)
        async with self._connect() as connection:
            if name is not None:
                return await logs.of(connection, await self._find(connection, name), wanted)
            return await logs.latest(connection, wanted, limit)

    async def follow_logs(
        self, *, function: str | None = None, level: str | None = None, backlog: int = 20
    ) -> AsyncIterator[LogLine]:
        """The last `backlog` log lines that fit, then each further one as it is recorded; endless."""
        async for shape in logs.stream(self._connect, logs.Filter(function, level), backlog):
            yield shape

    async def sql(self, text: str, *, limit: int = statement.ROWS) -> statement.Result:
        """Run one statement, read-only.

        Raises:
            UsageError: no statement, or several.
            QueryError: Postgres refused it.
        """
        async with self._connect() as connection:
            return await statement.run(connection, text, limit=limit)

    async def _find(self, connection: Connection[Any], name: str) -> find.Found:
        return await find.resolve(connection, name, spool_dir=self._spool_dir)

    @asynccontextmanager
    async def _connect(self) -> AsyncIterator[Connection[Any]]:
        try:
            async with self._store.internal(patience=self._patience) as connection:
                yield connection
        except (asyncpg.InvalidSchemaNameError, asyncpg.UndefinedTableError) as error:
            raise NotFound(
                "Nothing has been recorded in this database yet.",
                "Start the server with `flux dev` and send a request.",
            ) from error
        except asyncpg.InsufficientPrivilegeError as error:
            raise StoreError(
                f"This database user may not read the record: {error}.",
                "Read as the owner of the schema `flux`.",
            ) from error
        except AWAY as error:
            raise StoreError(
                f"The record can't be read now: {str(error) or 'Postgres did not answer in time'}.",
                "See whether Postgres can be reached: flux doctor",
            ) from error


def _columns(table: rows.Table, mutations: list[Mutation]) -> list[str]:
    if table.exists:
        return list(table.columns)
    names: dict[str, None] = {}
    for mutation in reversed(mutations):
        names.update(dict.fromkeys(mutation.after or mutation.before or {}))
    return list(names)


def _check_column(table: rows.Table, column: str | None) -> None:
    if column is not None and table.exists and column not in table.columns:
        raise UsageError(f"`{table.shown}` has no column `{column}`.", f"It has {', '.join(table.columns)}.")


def _no_row(table: rows.Table, key: str) -> NotFound:
    return NotFound(
        f"`{table.shown}` has no row {key}, and none is recorded.", f"Its key is {keys.describe_key(table)}."
    )
