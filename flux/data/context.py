"""The context (`<request_id>|<day>` in `flux.ctx`) tells the triggers whose doing a change is.

A transaction takes it in BEGIN's own simple query. An autocommit statement takes it *local to its
own implicit transaction*: the bytes of `prefix` (Bind and Execute of a prepared set_config, no
Sync) go out right before the statement's own messages. Server and client see one request: no round
trip more, nothing left on the connection afterwards, and if the prefix should fail the server skips
the statement too. Used by flux.data.connection and flux.data.instrument.
"""

from __future__ import annotations

import re
import struct

STATEMENT = "flux_ctx"
"""Name of the prepared statement on each connection."""

TEXT = "SELECT WHERE pg_catalog.set_config('flux.ctx', $1, true) IS NULL"
"""Sets and returns no row: a row would be taken for one of the statement behind it."""

_CONTEXT = re.compile(r"[0-9a-f]{32}\|\d{4}-\d\d-\d\d")
_INT = struct.Struct(">i")
_EXECUTE = b"E" + _INT.pack(9) + b"\0" + _INT.pack(0)


def context(request_id: str, day: str) -> str:
    """The setting's value.

    Raises:
        ValueError: the ids are not 32 hex digits and a day; nothing else may enter a simple query.
    """
    text = f"{request_id}|{day}"
    if not _CONTEXT.fullmatch(text):
        raise ValueError(f"not an execution's context: {text!r}")
    return text


def set_local(text: str) -> str:
    """SQL that sets the context until the transaction ends."""
    return f"SET LOCAL flux.ctx = '{text}'"


def set_session(text: str) -> str:
    """SQL that sets the context until it is reset: for statements that can't run inside a transaction."""
    return f"SET flux.ctx = '{text}'"


def prefix(text: str) -> bytes:
    """Protocol messages (Bind, Execute) that set the context in the implicit transaction of the statement
    sent next.

    The prepared statement STATEMENT must stand on the connection. PostgreSQL's manual, "Message Formats".
    """
    value = text.encode("ascii")
    body = b"".join(
        (
            b"\0",  # the unnamed portal
            STATEMENT.encode("ascii"),
            b"\0\0\0\0\1",  # all parameters as text; there is one
            _INT.pack(len(value)),
            value,
            b"\0\0",  # results as text: there are none
        )
    )
    return b"B" + _INT.pack(len(body) + 4) + body + _EXECUTE
