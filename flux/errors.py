"""Every error that Flux shows to a person.

FluxError
  UsageError            the command or the request was put wrongly        exit 2
  ConfigError           flux.toml, flux.json or the environment is wrong  exit 2
  NotFound              no such execution, function, table or row         exit 1
  Ambiguous             a prefix names several executions                 exit 1
  StoreError            Postgres could not be started, reached or used    exit 1
    WrongOwner          the data folder belongs to something else
    MigrationError      the schema is not what this version expects
  SpoolError            the spool on disk can't be read or written        exit 1
    SpoolFull           no room: answered with 503 and Retry-After
    Unconfirmed         it is in the spool, and Postgres has not confirmed it in time: 503
  RuntimeFault          a guest could not be started or has died          exit 1
    Overloaded          the pool has no room: 503
    GuestDied           the guest process ended in mid-invocation: 502
    DeadlineExceeded    the function did not answer in time: 504
    Unanswered          the host answers nothing more in this execution
    FunctionError       the function threw: 500 (or 422 with fields)

A message says what is wrong and where; `hint` says what to do about it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from typing import Any


class FluxError(Exception):
    """Base of all errors with a message meant for people.

    Args:
        message: what is wrong, and where; one sentence.
        hint: what to do about it, or None.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    @property
    def type(self) -> str:
        """The stable name of the error, as printed with `--json`."""
        return type(self).__name__


class UsageError(FluxError):
    """The command or the request was put wrongly."""

    exit_code = 2


class ConfigError(FluxError):
    """flux.toml, flux.json or the environment holds something Flux can't use."""

    exit_code = 2


class NotFound(FluxError):
    """Nothing stands under that name."""


class Ambiguous(FluxError):
    """A prefix names several executions; `candidates` lists them."""

    def __init__(self, message: str, candidates: list[str], hint: str | None = None) -> None:
        super().__init__(message, hint)
        self.candidates = candidates


class StoreError(FluxError):
    """Postgres could not be started, reached or used."""


class WrongOwner(StoreError):
    """The data folder or the socket belongs to something else."""


class MigrationError(StoreError):
    """The schema in the database is not one this version can work with."""


class SpoolError(FluxError):
    """The spool on disk can't be read or written."""


class Unconfirmed(SpoolError):
    """A record is in the spool, and `durability = "postgres"` could not be kept: the commit did not come in
    time.
    """


class SpoolGone(SpoolError):
    """The spool's files were deleted under it and can't be made anew; the request must be refused."""


class SpoolFull(SpoolError):
    """There is no room for another record; the request must be refused."""


class RuntimeFault(FluxError):
    """A guest could not be started, or failed in a way that is not the function's own error.

    `guest` names the process and `invocation` the run's number in it, where one was reached. `warnings` are
    what the function left behind. `rest`, where it is set, is what goes on after the answer (see
    `flux.runtime.engine.Reply`).
    """

    guest: str | None = None
    invocation: int | None = None
    warnings: Sequence[str] = ()
    rest: Awaitable[list[str]] | None = None


class Overloaded(RuntimeFault):
    """The pool has no room for another invocation."""


class GuestDied(RuntimeFault):
    """The guest process ended while the invocation was in flight."""


class DeadlineExceeded(RuntimeFault):
    """The function did not answer before its deadline."""


class Unanswered(RuntimeFault):
    """The host answers nothing more in this execution: whoever waits for its open calls waits in vain."""


class FunctionError(RuntimeFault):
    """The function threw.

    Args:
        error_type: the class name of what was thrown (`TypeError`, `ValueError`...).
        message: its message.
        stack: the stack as text, paths relative to the project, or None.
        file: the user's file of the innermost user frame, relative to the project, or None.
        line: 1-based line in `file`, or None.
        column: 1-based column in `file`, or None.
        fields: for a validation error, the offending fields and what is wrong with each.
    """

    def __init__(
        self,
        error_type: str,
        message: str,
        *,
        stack: str | None = None,
        file: str | None = None,
        line: int | None = None,
        column: int | None = None,
        fields: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.error_type = error_type
        self.stack = stack
        self.file = file
        self.line = line
        self.column = column
        self.fields = fields
