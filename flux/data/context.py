"""Whose doing a change is, as the capture triggers are told.

Two ways. A session of the role that functions run as is *entered* for an execution by `flux.enter()`,
where no SQL of a function reaches: see `Credential`. Any other asyncpg program sets `flux.ctx`
(`<request_id>|<day>`), which its SQL could change; it is trusted. Used by flux.data.connection, and by
flux.data.hook for those programs.

An autocommit statement is entered within its own implicit transaction: the bytes of a prefix (Bind and
Execute of a prepared statement, no Sync) go out right before the statement's own messages. Server and
client see one request: no round trip more, and if the prefix should fail the server skips the statement too.
"""

from __future__ import annotations

import re
import secrets
import struct
from datetime import date

STATEMENT = "flux_ctx"
"""Name of the prepared TEXT on connections of other programs."""

TEXT = "SELECT WHERE pg_catalog.set_config('flux.ctx', $1, true) IS NULL"
"""Sets and returns no row: a row would be taken for one of the statement behind it."""

ENTER = "SELECT WHERE flux.enter($1, $2, $3, $4, $5, $6) IS NULL"
"""Enters, and returns no row for the same reason."""

_CONTEXT = re.compile(r"[0-9a-f]{32}\|\d{4}-\d\d-\d\d")
_INT = struct.Struct(">i")
_LONG = struct.Struct(">iq")
_EXECUTE = b"E" + _INT.pack(9) + b"\0" + _INT.pack(0)
_EPOCH = date(2000, 1, 1)


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


def prefix(text: str) -> bytes:
    """Protocol messages that set the context in the implicit transaction of the statement sent next.

    The prepared statement STATEMENT must stand on the connection.
    """
    value = text.encode("ascii")
    parameters = b"\0\0\0\1" + _INT.pack(len(value)) + value  # all as text; there is one
    return bind_execute(STATEMENT, parameters)


def bind_execute(statement: str, parameters: bytes = b"\0\0\0\0") -> bytes:
    """Bind of a prepared statement to the unnamed portal, and Execute. PostgreSQL's manual, "Message
    Formats".

    Args:
        statement: its name.
        parameters: their formats and values, each list with its count in front; none by default.
    """
    body = b"\0" + statement.encode("ascii") + b"\0" + parameters + b"\0\0"
    return b"B" + _INT.pack(len(body) + 4) + body + _EXECUTE


class Credential:
    """What enters a session for one execution.

    Attributes:
        context: `<request_id>|<day>`, for all to read.
        voice: what the database's announcements to this execution begin with. No SQL can read it, so none can
            speak with it.
        arguments: of ENTER.

    Args:
        token: what opens `flux.enter()`; it never enters SQL text, where other sessions could read it.
        request_id: 32 hex digits.
        day: YYYY-MM-DD.
    """

    __slots__ = ("_prefixes", "arguments", "context", "day", "voice")

    def __init__(self, token: bytes, request_id: str, day: str) -> None:
        self.context = context(request_id, day)
        self.day = date.fromisoformat(day)
        voice = secrets.randbits(63)
        high, low = struct.unpack(">qq", bytes.fromhex(request_id))
        self.voice = str(voice)
        self.arguments = (token, self.context, high, low, (self.day - _EPOCH).days, voice)
        self._prefixes: tuple[str, bytes] = ("", b"")

    def prefix(self, statement: str) -> bytes:
        """Protocol messages that enter the session in the implicit transaction of the statement sent next.

        Args:
            statement: the name that ENTER was prepared under on the connection.
        """
        if self._prefixes[0] != statement:
            self._prefixes = (statement, bind_execute(statement, self._parameters()))
        return self._prefixes[1]

    def _parameters(self) -> bytes:
        token, text, *numbers = self.arguments
        assert isinstance(token, bytes)
        assert isinstance(text, str)
        encoded = text.encode("ascii")
        return b"".join(
            (
                b"\0\1\0\1",  # all parameters in binary
                b"\0\6",
                _INT.pack(len(token)) + token,
                _INT.pack(len(encoded)) + encoded,
                *(_LONG.pack(8, number) for number in numbers),
            )
        )
