"""What `why` answers: typed, frozen structs whose fields are the keys of its JSON (see `shapes`)."""

from __future__ import annotations

import msgspec

from flux.shapes.record import Execution, HostCall, Json, Mutation, Request


class RootCause(msgspec.Struct, frozen=True, kw_only=True):
    """The failure that ended an execution.

    Attributes:
        span_id: the span it happened in; None where none is recorded.
        request_id: the execution it happened in: the one asked about, or one it invoked.
    """

    type: str
    message: str
    span_id: str | None
    request_id: str


class SourceLine(msgspec.Struct, frozen=True):
    """A line of source, numbered from 1."""

    line: int
    text: str


class Location(msgspec.Struct, frozen=True, kw_only=True):
    """Where an error was thrown.

    Attributes:
        file: relative to the project; line, column: from 1, None where not known.
        source: the line itself; None where the deployment's bundle lacks it.
        context: the lines around it, itself among them.
    """

    file: str
    line: int | None
    column: int | None
    source: str | None
    context: list[SourceLine]


class Writer(msgspec.Struct, frozen=True, kw_only=True):
    """Who last set one column of a row that the failure was about."""

    table: str
    key: Json
    column: str
    value: Json
    request_id: str | None
    at: str | None
    op: str | None
    actor: str | None


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """A place in which two executions differ.

    Attributes:
        where: `input`, `call N` or `outcome`.
        field: a JSON path (`input.lines[1].qty`).
        a, b: the two values; None where it is missing.
    """

    where: str
    field: str
    a: Json
    b: Json


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One value in two executions."""

    a: str | None
    b: str | None


class Suggestion(msgspec.Struct, frozen=True, kw_only=True):
    """What to do about a failure, and what in the record speaks for it."""

    text: str
    reason: str


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """A span on the way from the root down to the failing one."""

    span_id: str
    name: str
    kind: str
    status: str
    duration_ms: float


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """Where time went: a span's own part of it.

    Attributes:
        self_ms: `duration_ms` without its children's.
        share: of the execution's duration, 0 to 1.
    """

    name: str
    span_id: str
    duration_ms: float
    self_ms: float
    share: float


class Why(msgspec.Struct, frozen=True, kw_only=True):
    """Why an execution ended as it did.

    On an execution that went well `root_cause`, `location`, `previous_success` and `first_difference` are
    None. A refusal has no suggestions: the function dealt with it.

    Attributes:
        data_changes: rows changed, by it and by what it invoked.
        provenance: who wrote the rows that it tripped over.
        previous_success: request_id of the function's success that is nearest to it.
        failed: whether there is a cause to tell.
        refused: the function answered 400 or more itself.
        chain: the spans down to the failing one.
        failing_call: the host call that failed; survived: failed calls that the function got over.
        differences: from the previous success, in the order in which things happened.
        slowest: where the time went.
        deployment_changed: where the previous success ran other code.
    """

    execution: Execution
    root_cause: RootCause | None
    location: Location | None
    input: Json
    data_changes: list[Mutation]
    provenance: list[Writer]
    previous_success: str | None
    first_difference: Difference | None
    suggestions: list[Suggestion]
    failed: bool
    refused: bool
    output: Json
    request: Request
    chain: list[Step]
    failing_call: HostCall | None
    survived: list[HostCall]
    differences: list[Difference]
    slowest: list[Share]
    warnings: list[str]
    deployment_changed: Change | None
