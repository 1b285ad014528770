"""The operations that a function can ask of its host: one table, read by all who tell them apart.

The guests' frames are checked against it, Recording asks it what has to be on disk first, Live and the data
engine read arguments through it, and what shows a record takes its groups from here.
"""

from __future__ import annotations

import enum
from typing import Final, TypeVar

import msgspec

from flux.record import arguments, half_pairs
from flux.record.call import CallError, HostCall, Outcome

INVALID: Final = "invalid_arguments"
"""`error.type` of a call whose arguments can't be understood."""

HALF: Final = "half a surrogate pair stands in a string; Postgres holds whole characters only."

T = TypeVar("T", bound=msgspec.Struct)


class Leaves(enum.Enum):
    """Whether the world may be changed by the call itself, so that its intent has to be on disk first."""

    NEVER = enum.auto()
    ALWAYS = enum.auto()
    OUTSIDE = enum.auto()
    """Outside a transaction; inside one nothing changes before its COMMIT."""
    WRITING = enum.auto()
    """Outside a transaction, where it is more than a select."""


class Op(msgspec.Struct, frozen=True):
    """One operation.

    Attributes:
        name: as frames and records have it.
        arguments: the struct that its arguments are read into.
        leaves: whether its intent has to be on disk before it is done.
        note: True for one that is told and not answered.
        whole: its strings go to Postgres, which has no halves of surrogate pairs: they are refused. In
            others half a pair is read as U+FFFD.
    """

    name: str
    arguments: type[msgspec.Struct]
    leaves: Leaves = Leaves.NEVER
    note: bool = False
    whole: bool = False

    @property
    def family(self) -> str:
        """What stands before the first dot: `db`, `queue`; the name itself where it has none."""
        return self.name.partition(".")[0]


DB_QUERY: Final = "db.query"
DB_SQL: Final = "db.sql"
DB_BEGIN: Final = "db.begin"
DB_COMMIT: Final = "db.commit"
DB_ROLLBACK: Final = "db.rollback"
FETCH: Final = "fetch"
QUEUE_PUSH: Final = "queue.push"
INVOKE: Final = "invoke"
SECRETS_GET: Final = "secrets.get"
SLEEP: Final = "sleep"
LOG: Final = "log"
SPAN_START: Final = "span.start"
SPAN_END: Final = "span.end"

OPS: Final = {
    op.name: op
    for op in (
        Op(DB_QUERY, arguments.Query, Leaves.WRITING),
        Op(DB_SQL, arguments.Sql, Leaves.OUTSIDE, whole=True),
        Op(DB_BEGIN, arguments.Begin),
        Op(DB_COMMIT, arguments.Nothing, Leaves.ALWAYS),
        Op(DB_ROLLBACK, arguments.Nothing),
        Op(FETCH, arguments.Fetch, Leaves.ALWAYS),
        Op(QUEUE_PUSH, arguments.Push, Leaves.OUTSIDE),
        Op(INVOKE, arguments.Invoke, Leaves.ALWAYS),
        Op(SECRETS_GET, arguments.Secret),
        Op(SLEEP, arguments.Sleep),
        Op(LOG, arguments.Log, note=True),
        Op(SPAN_START, arguments.SpanStart, note=True),
        Op(SPAN_END, arguments.SpanEnd, note=True),
    )
}

CALLS: Final = frozenset(op.name for op in OPS.values() if not op.note)
"""Those that are answered."""
NOTES: Final = frozenset(op.name for op in OPS.values() if op.note)
"""Those that are told."""
DATABASE: Final = frozenset(op.name for op in OPS.values() if op.family == "db")
"""Those that the data engine does."""
ENDS_TRANSACTION: Final = frozenset({DB_COMMIT, DB_ROLLBACK})
CONTROLS_TRANSACTION: Final = ENDS_TRANSACTION | {DB_BEGIN}
GIVES_ROWS: Final = frozenset({DB_QUERY, DB_SQL})
BEGETS: Final = frozenset({INVOKE, QUEUE_PUSH})
"""Those of which another execution comes."""

_DECODERS: Final = {name: msgspec.json.Decoder(op.arguments) for name, op in OPS.items()}


class InvalidArguments(Exception):
    """A guest's arguments can't be understood; the message says which and why."""


def asked(call: HostCall, kind: type[T]) -> T:
    """The call's arguments, read once: the operation's struct, which is of this `kind`.

    Half a surrogate pair, which JavaScript's strings can hold, is read as U+FFFD. In names and keys, and in
    all of an `Op.whole`, it is refused. Exact JSON stays as it was written.

    Raises:
        InvalidArguments: they are not JSON, or not what the operation takes.
    """
    found = call.asked
    if found is None:
        found = call.asked = _read(call)
    assert isinstance(found, kind)
    return found


def check(call: HostCall) -> None:
    """Read the arguments, whatever they are.

    Raises:
        InvalidArguments: as `asked`.
    """
    if call.asked is None:
        call.asked = _read(call)


def leaves(call: HostCall) -> bool:
    """Whether the world may be changed by `call` itself, so that its intent has to be on disk first. What
    can't be read is taken for something that leaves.
    """
    how = OPS[call.op].leaves if call.op in OPS else Leaves.NEVER
    if how is Leaves.NEVER or how is Leaves.ALWAYS:
        return how is Leaves.ALWAYS
    if call.tx is not None:
        return False
    if how is Leaves.OUTSIDE:
        return True
    try:
        return asked(call, arguments.Query).writes
    except InvalidArguments:
        return True


def refusal(message: str) -> Outcome:
    """The outcome of a call whose arguments were refused."""
    return Outcome(error=CallError(INVALID, message))


def _read(call: HostCall) -> msgspec.Struct:
    op = OPS[call.op]
    decoder = _DECODERS[call.op]
    try:
        if op.whole:
            return _whole(decoder, call.arguments)
        found = half_pairs.decode(decoder, call.arguments)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        reason = HALF if op.whole and half_pairs.stand_in(call.arguments) else error
        raise InvalidArguments(f"{call.op}: {reason}") from error
    if (
        isinstance(found, arguments.Named)
        and half_pairs.READ_AS in found.names
        and half_pairs.stand_in(call.arguments)
    ):
        raise InvalidArguments(f"{call.op}: half a surrogate pair stands in a name or a key")
    return found


def _whole(decoder: msgspec.json.Decoder[msgspec.Struct], data: bytes) -> msgspec.Struct:
    try:
        return decoder.decode(data)
    except RecursionError as error:
        raise msgspec.DecodeError("nested too deeply (about 1,000 levels are read)") from error
