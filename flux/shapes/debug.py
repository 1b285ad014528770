"""What `trace debug` answers: typed, frozen structs whose fields are the keys of its JSON (see `record`)."""

from __future__ import annotations

import msgspec

from flux.shapes.record import CallFailure, Failure, HostCall, Json, LogLine, Mutation, Span
from flux.shapes.why import Location


class StepRows(msgspec.Struct, frozen=True, kw_only=True):
    """The rows that a step changed, each once: their images before and after it.

    A row that was inserted is missing in `before`, one that was deleted in `after`.
    """

    before: list[Json]
    after: list[Json]


class DebugStep(msgspec.Struct, frozen=True, kw_only=True):
    """One step of an execution.

    Attributes:
        step, steps: its number, from 1, and how many there are.
        kind: `start`, `call`, `log`, `span` (the function began one) or `end`.
        at: when: a call's is when it was asked, the others' when it happened.
        span: the span that the step belongs to; None where none is recorded.
        call: the host call of a step of kind `call`.
        location: the line of user code; None where the record doesn't say.
        located: how the line is known: `error` (an error named it) or `text` (it is the only line of the
            deployed code that holds what the call asked for). None where there is no location.
        input, output: what the call was asked and answered; the execution's own at the first and last step.
        error: what the call, or at the last step the execution, failed of.
        rows: those that the step changed. An undone transaction changes them back.
        changes: the mutations that it made or tried, in order.
        logs: all lines up to and with this step. At a step of kind `log` the last one is its own.
    """

    step: int
    steps: int
    kind: str
    at: str
    span: Span | None
    call: HostCall | None
    location: Location | None
    located: str | None
    input: Json
    output: Json
    error: Failure | CallFailure | None
    rows: StepRows
    changes: list[Mutation]
    logs: list[LogLine]
