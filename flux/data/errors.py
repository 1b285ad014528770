"""Errors of the user's database as a function sees them: Postgres' own names, whatever library reported
them."""

from __future__ import annotations

import asyncio
import re

import asyncpg

from flux.data.conditions import CONDITIONS
from flux.record.call import CallError

_FIELDS = {
    "sqlstate": "sqlstate",
    "detail": "detail",
    "hint": "hint",
    "constraint": "constraint_name",
    "schema": "schema_name",
    "table": "table_name",
    "column": "column_name",
    "position": "position",
}
_STATES = {name: state for state, name in reversed(CONDITIONS.items())}
_ARGUMENT = re.compile(r"query argument \$(\d+)")


DATABASE_ERRORS = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)
"""What asyncpg raises for what the server answers, for a connection that is gone, and for one that can't be
used."""


class Refused(Exception):
    """Flux itself refuses a call before it reaches Postgres.

    Args:
        type: the error's type, a Postgres condition name where one fits.
        message: what is wrong, where, and what to do instead.
    """

    def __init__(self, type: str, message: str) -> None:
        super().__init__(message)
        self.type = type
        self.message = message


def call_error(
    error: BaseException, *, lost: str = "whether the statement was done is not known"
) -> CallError:
    """What the function is told of `error`: `type` is the condition's name (`unique_violation`), or Flux's
    own word for it.

    A connection that was lost in the middle is `connection_failure`.

    Args:
        error: as it was raised.
        lost: what follows where it is that the connection was lost.
    """
    if isinstance(error, Refused):
        state = _STATES.get(error.type)
        return CallError(error.type, error.message, {"sqlstate": state} if state else {})
    if isinstance(error, asyncpg.InternalClientError):
        return _lost(error, lost)
    if isinstance(error, asyncpg.ConnectionDoesNotExistError):
        return _lost(error.__cause__ if isinstance(error.__cause__, asyncpg.PostgresError) else error, lost)
    if isinstance(error, asyncpg.PostgresError) and error.sqlstate:
        state = str(error.sqlstate)
        detail = {key: str(value) for key, name in _FIELDS.items() if (value := getattr(error, name, None))}
        if isinstance(error, asyncpg.InvalidCachedStatementError):
            state = "0A000"
        return CallError(CONDITIONS.get(state) or f"sqlstate_{state}", str(error.args[0]), detail)
    if isinstance(error, asyncio.CancelledError):
        return CallError("query_canceled", "The call was cancelled.", {"sqlstate": "57014"})
    if isinstance(error, asyncpg.InterfaceError):
        if "connection is closed" in str(error) or "connection was closed" in str(error):
            return _lost(error, lost)
        return CallError("invalid_parameter", str(error.args[0]))
    if isinstance(error, TimeoutError):
        return CallError("query_canceled", "The statement took too long.", {"sqlstate": "57014"})
    if isinstance(error, OSError):
        return CallError(
            "sqlclient_unable_to_establish_sqlconnection",
            f"The database can't be reached: {error.strerror or error}.",
            {"sqlstate": "08001"},
        )
    return CallError("invalid_parameter", str(error))


def bad_argument(error: Exception) -> int | None:
    """The number of the parameter that asyncpg could not encode, from 1; None where the error is another
    one."""
    match = _ARGUMENT.search(str(error.args[0])) if error.args else None
    return int(match[1]) if match else None


def _lost(error: BaseException, follows: str) -> CallError:
    reason = str(error.args[0]) if error.args else "connection lost"
    return CallError(
        "connection_failure",
        f"The connection to the database was lost ({reason}); {follows}.",
        {"sqlstate": "08006"},
    )
