"""Errors that functions meet or raise.

Exception
  HostError            a host call failed; `type` is its stable class, `detail` what its source said besides
    DatabaseError      `code` is the SQLSTATE, `constraint` the one that was violated
    FetchError         a request could not be made (httpx raises its own errors)
    InvokeError        the invoked function failed
    QueueError         a job could not be pushed
    SecretError        a secret can't be had
  ValidationError      raised by a function whose input is wrong: answered with 422 and the fields
  InvocationOver       a host call after the handler has returned
  NotPermitted         something that functions may not do: sockets, processes, threads
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class HostError(Exception):
    """A host call failed.

    Args:
        type: stable name of the kind of error, e.g. `unique_violation`; it is what is recorded as
            `error.type`.
        message: what went wrong.
        detail: what the source of the error said besides.
    """

    def __init__(self, type: str, message: str, detail: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.type = type
        self.message = message
        self.detail = dict(detail or {})


class DatabaseError(HostError):
    """Postgres refused a statement."""

    @property
    def code(self) -> str | None:
        """The SQLSTATE, e.g. `23505`."""
        return self.detail.get("sqlstate")

    @property
    def constraint(self) -> str | None:
        """The constraint that was violated."""
        return self.detail.get("constraint")


class FetchError(HostError):
    """A request could not be made."""


class InvokeError(HostError):
    """The invoked function failed; `type` is its error's."""


class QueueError(HostError):
    """A job could not be pushed."""


class SecretError(HostError):
    """A secret can't be had."""


class ValidationError(Exception):
    """The input is wrong: the caller is answered with 422 and the fields.

    Args:
        fields: what is wrong with each field, by its name; or one sentence about the whole input.
        message: the sentence that goes with them.
    """

    def __init__(self, fields: Mapping[str, Any] | str, message: str = "The input is not valid.") -> None:
        if isinstance(fields, str):
            fields, message = {"input": fields}, fields  # type: ignore[assignment]
        super().__init__(message)
        self.message = message
        self.fields = dict(fields) or {"input": message}


class InvocationOver(Exception):
    """The handler has returned, or its caller no longer waits: no further host call can be made."""


class NotPermitted(RuntimeError):
    """Functions may not do this; the message says what to do instead."""
