"""`ctx.db`: statements, queries by description, and transactions. Part of ctx."""

from collections.abc import Awaitable, Callable, Generator, Mapping
from typing import Any

from flux_guest.invocation import Invocation
from flux_guest.queue import Queue
from flux_guest.values import Row, Rows, dumps, rows

_OPERATIONS = frozenset(
    {
        "table",
        "operation",
        "filters",
        "columns",
        "data",
        "order",
        "limit",
        "offset",
        "returning",
        "on_conflict",
    }
)
_ISOLATION = ("read committed", "repeatable read", "serializable")


class Statements:
    """What a database and a transaction have in common."""

    __slots__ = ("_invocation", "_tx")

    def __init__(self, invocation: Invocation, tx: int | None = None) -> None:
        self._invocation = invocation
        self._tx = tx

    async def query(self, spec: Mapping[str, Any] | None = None, /, **members: Any) -> Rows:
        """Run a query that is described rather than written.

        Args:
            spec, members: table, operation (select, insert, update, delete), filters, columns, data, order,
                limit, offset, returning, on_conflict; as one mapping or by name.

        Returns:
            The rows; those that insert, update and delete touched too.
        """
        members = {**(spec or {}), **members}
        unknown = members.keys() - _OPERATIONS
        if unknown:
            named, known = ", ".join(sorted(map(repr, unknown))), ", ".join(sorted(_OPERATIONS))
            raise TypeError(f"db.query has no {named}; it has: {known}")
        return rows(await self._invocation.call("db.query", dumps(members), self._tx))

    async def sql(self, text: str, params: Any = ()) -> Rows:
        """Run `text` with `params` for $1, $2..., and give its rows."""
        if isinstance(params, (str, bytes, Mapping)):
            raise TypeError("db.sql takes its parameters as a list: db.sql(text, [value])")
        arguments = dumps({"text": text, "params": list(params)})
        return rows(await self._invocation.call("db.sql", arguments, self._tx))

    async def fetch(self, text: str, *params: Any) -> Rows:
        """Every row of a statement."""
        return await self.sql(text, params)

    async def fetchrow(self, text: str, *params: Any) -> Row | None:
        """The first row, or None."""
        found = await self.sql(text, params)
        return found[0] if found else None

    async def fetchval(self, text: str, *params: Any, column: int | str = 0) -> Any:
        """One value of the first row, or None where there is no row."""
        found = await self.sql(text, params)
        if not found:
            return None
        return list(found[0].values())[column] if isinstance(column, int) else found[0][column]

    async def execute(self, text: str, *params: Any) -> str:
        """Run a statement for what it does; the server's tag, e.g. `UPDATE 3`."""
        return (await self.sql(text, params)).tag or ""


class Transaction(Statements):
    """An open transaction: the same statements, run inside it, and `queue` for jobs that exist only if it
    commits.
    """

    __slots__ = ("queue",)

    def __init__(self, invocation: Invocation, tx: int) -> None:
        super().__init__(invocation, tx)
        self.queue = Queue(invocation, tx)


class _Opening:
    """`async with db.transaction() as tx`, or `await db.transaction(function)`."""

    __slots__ = ("_arguments", "_function", "_invocation", "_tx")

    def __init__(self, invocation: Invocation, function: Any, arguments: dict[str, Any]) -> None:
        self._invocation = invocation
        self._function = function
        self._arguments = arguments
        self._tx: int | None = None

    async def __aenter__(self) -> Transaction:
        if self._tx is not None:
            raise RuntimeError("A transaction can be entered once; call db.transaction() again.")
        begun = self._invocation.call("db.begin", dumps(self._arguments))
        self._tx = self._invocation.last
        await begun
        return Transaction(self._invocation, self._tx)

    async def __aexit__(self, kind: Any, error: Any, trace: Any) -> None:
        op = "db.commit" if kind is None else "db.rollback"
        try:
            await self._invocation.call(op, b"{}", self._tx)
        except Exception:
            if kind is None:
                raise

    def __await__(self) -> Generator[Any, None, Any]:
        return self._run().__await__()

    async def _run(self) -> Any:
        if self._function is None:
            raise TypeError("use `async with ctx.db.transaction() as tx:`, or ctx.db.transaction(function)")
        async with self as tx:
            return await self._function(tx)


class Database(Statements):
    """The user's database. Each statement is a transaction of its own, outside `transaction`."""

    __slots__ = ()

    def transaction(
        self,
        function: Callable[[Transaction], Awaitable[Any]] | None = None,
        *,
        isolation: str | None = None,
        readonly: bool | None = None,
    ) -> _Opening:
        """Run several statements as one: committed at the end, rolled back if anything is raised.

        Args:
            function: awaited with the transaction; or None, with `async with`.
            isolation: `read committed`, `repeatable read` or `serializable`.
            readonly: whether to refuse changes.
        """
        arguments: dict[str, Any] = {}
        if isolation is not None:
            if isolation.lower().replace("_", " ") not in _ISOLATION:
                raise ValueError(f"isolation must be one of {', '.join(_ISOLATION)}, not {isolation!r}")
            arguments["isolation"] = isolation.lower().replace("_", " ")
        if readonly is not None:
            arguments["readonly"] = bool(readonly)
        return _Opening(self._invocation, function, arguments)
