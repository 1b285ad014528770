"""What a replay found: the objects of `flux replay --json`."""

from __future__ import annotations

import msgspec

from flux.shapes.record import Json


class Divergence(msgspec.Struct, frozen=True, kw_only=True):
    """The first thing that was not as recorded.

    Attributes:
        seq: the host call's or log line's number in the execution; None for what the function returned.
        op: the call's operation, `log`, `span.start`; `output`, `status`, `headers`, `error` or `outcome` for
            how it ended.
        field: where in its arguments (or in the output) the values differ, a JSON path; empty for the whole.
        recorded, actual: the two values; None where there is none.
        message: the same as one sentence.
        file, line: the place in the function's code, where it is known. source: that line.
    """

    seq: int | None
    op: str
    field: str
    recorded: Json
    actual: Json
    message: str
    file: str | None = None
    line: int | None = None
    source: str | None = None


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """Why an execution can't be replayed: what its record lacks."""

    type: str
    message: str


class Replayed(msgspec.Struct, frozen=True, kw_only=True):
    """One execution that was replayed.

    Attributes:
        request_id: of the replay, an execution itself; None where it was refused.
        replay_of: of the original.
        function: its name.
        identical: whether everything was as recorded, as far as `prefix` says.
        divergence: the first difference.
        refused: set where it was not replayed.
        prefix: why only its beginning was compared; None where all of it was.
    """

    request_id: str | None
    replay_of: str
    function: str | None
    identical: bool
    divergence: Divergence | None = None
    refused: Refusal | None = None
    prefix: str | None = None


class Replays(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the executions of a window; `replayed` counts those that were not refused."""

    replayed: int
    identical: int
    diverged: int
    refused: int
    results: list[Replayed]
