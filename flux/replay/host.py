"""Replay: the host that answers from a record. One per execution that is replayed, inside a Recording.

What the function asks is compared with what it asked then, in the same order. An answer is given in the
step in which it was given then. An effect that has no recording is neither guessed nor sent: the execution
has diverged.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable
from typing import Any

import orjson

from flux.compare.values import places
from flux.errors import DeadlineExceeded, FluxError, RuntimeFault, Unanswered
from flux.host.recording import read_line
from flux.record import arguments, ops
from flux.record.call import CallError, HostCall, Outcome
from flux.record.ops import InvalidArguments, asked
from flux.recorder.payloads import LONGEST
from flux.replay.order import Left, Order
from flux.replay.record import Recorded, RecordedCall, RecordedLine
from flux.shapes.record import Json
from flux.shapes.replay import Divergence
from flux_postgres_exporter.rows import text

DIVERGED = "Diverged"
"""`error.type` of what a function gets for the call with which it diverged."""
_CUT = " [cut: "


class Replay:
    """Answers from the record.

    Args:
        recorded: the execution as it was.
        order: the turns of the guest process, which others may share.
        tell: called with the name and the value of each secret that is answered.

    Attributes:
        divergence: the first thing that was not as recorded.
    """

    def __init__(self, recorded: Recorded, order: Order, tell: Callable[[str, str], None]) -> None:
        self._recorded = recorded
        self._order = order
        self._tell = tell
        self._loop = asyncio.get_running_loop()
        self._last = recorded.last
        self._at = 0
        self._calls: dict[int, RecordedCall] = {}
        self._beyond: set[int] = set()
        self._transactions: dict[int, int] = {}
        self._spans: dict[int, str] = {}
        self._opened = 0
        self._owed = {call.seq for call in recorded.calls.values() if call.delivered is not None}
        self._over: asyncio.Future[None] = self._loop.create_future()
        self._told = False
        self.divergence: Divergence | None = None
        self._look()

    @property
    def request_id(self) -> str:
        """The original's."""
        return self._recorded.request_id

    # Host

    def sent(self, guest: str, invocation: int) -> None:
        """It has begun: the next turn is another's."""
        self._order.take((self.request_id, 0))

    def begin(self, call: HostCall) -> None:
        """Find the recorded call that this is, and compare it."""
        self._order.moved()
        if call.op == ops.DB_BEGIN:
            self._transactions[call.n] = self._at + 1
        if self.divergence is not None:
            return
        self._at += 1
        was = self._recorded.calls.get(self._at)
        if was is None:
            self._unrecorded(call)
            return
        self._calls[call.n] = was
        self._compare(was, call)
        self._look()

    def give_up(self, n: int) -> None:
        """Its turn need not be waited for."""
        was = self._calls.get(n)
        if was is not None and was.seq in self._owed:
            self._owed.discard(was.seq)
            self._order.drop((self.request_id, was.seq))
            self._look()

    async def perform(self, call: HostCall) -> Outcome:
        """The recorded answer, in its turn.

        Raises:
            Unanswered: it was never answered, and nothing else will be.
            DeadlineExceeded: likewise, and the deadline ended the execution.
            Diverged: the function went another way.
        """
        if self.divergence is not None:
            return self._refuse()
        was = self._calls.get(call.n)
        if was is None or was.delivered is None:
            await asyncio.shield(self._over)
            if self.divergence is not None:
                return self._refuse()
            raise self._end()
        try:
            await self._order.turn((self.request_id, was.seq))
        except Left:
            return self._refuse()
        # This very step is the delivery: only now may the next one be woken.
        self._order.take((self.request_id, was.seq))
        self._owed.discard(was.seq)
        self._look()
        if was.op == ops.SECRETS_GET and was.result is not None:
            self._tell_secret(was)
        return Outcome(result=was.result, error=was.error, now_ns=was.now_ns)

    def notify(self, call: HostCall) -> None:
        """Compare a log line, or the name of a span."""
        self._order.moved()
        if call.op == ops.LOG:
            self._line(call)
        elif call.op == ops.SPAN_START:
            self._span(call)

    async def close(self) -> None:
        """Nobody waits for it any more."""
        self._order.leave(self.request_id)
        if not self._over.done():
            self._over.cancel()

    # What run.py asks

    def stalled(self) -> None:
        """The function does nothing more, though what it was answered next has not been asked for."""
        self.missing()
        self.diverge(None, "outcome", "", None, None, "It does nothing more, which it did not do then.")

    def missing(self) -> None:
        """The function has ended, or does nothing more: what it has not asked for is missing."""
        if self.divergence is not None or self._at >= self._last:
            return
        known: dict[int, RecordedCall | RecordedLine] = {**self._recorded.calls, **self._recorded.lines}
        for seq in range(self._at + 1, self._last + 1):
            was = known.get(seq)
            if isinstance(was, RecordedCall):
                self.diverge(seq, was.op, "", _value(was.arguments), None, f"It did not call {was.op} again.")
                return
            if isinstance(was, RecordedLine):
                self.diverge(seq, ops.LOG, "", was.message, None, "It did not log a line again.")
                return

    def diverge(
        self, seq: int | None, op: str, field: str, recorded: Json, actual: Json, message: str
    ) -> None:
        """Something is not as recorded. Only the first counts."""
        if self.divergence is None:
            self.divergence = Divergence(
                seq=seq, op=op, field=field, recorded=recorded, actual=actual, message=message
            )
            self._order.leave(self.request_id)
            if not self._over.done():
                self._over.set_result(None)

    # Comparing

    def _compare(self, was: RecordedCall, call: HostCall) -> None:
        if was.op != call.op:
            said = f"Host call {was.seq} was {was.op}, now it is {call.op}."
            self.diverge(was.seq, call.op, "op", was.op, call.op, said)
        elif not was.whole:
            if was.sha256 != hashlib.sha256(call.arguments).digest():
                said = f"The arguments of {was.op} differ; only their beginning was kept."
                self.diverge(was.seq, was.op, "", len(was.arguments), len(call.arguments), said)
        elif was.arguments != call.arguments:
            self._differ(was.seq, was.op, was.arguments, call.arguments, f"The arguments of {was.op} differ")
        elif was.tx != (None if call.tx is None else self._transactions.get(call.tx)):
            now = None if call.tx is None else self._transactions.get(call.tx)
            self.diverge(was.seq, was.op, "tx", was.tx, now, f"{was.op} runs in another transaction.")
        elif was.span != (span := None if call.span is None else self._spans.get(call.span)):
            self.diverge(was.seq, was.op, "span", was.span, span, f"{was.op} is made in another span.")

    def _unrecorded(self, call: HostCall) -> None:
        line = self._recorded.lines.get(self._at)
        if self._recorded.cut_short is not None and line is None:
            self._beyond.add(call.n)  # the record ended before it: it is not answered
            self._look()
            return
        what, now = f"{call.op}", _value(call.arguments)
        if line is not None:
            said = f"It logged a line, now it calls {what}."
            self.diverge(self._at, call.op, "op", ops.LOG, call.op, said)
        else:
            said = f"It calls {what}, which it did not do when it was recorded."
            self.diverge(self._at, call.op, "", None, now, said)

    def _line(self, call: HostCall) -> None:
        if self.divergence is not None:
            return
        self._at += 1
        was = self._recorded.lines.get(self._at)
        level, message, fields = read_line(call)
        if was is None:
            call_then = self._recorded.calls.get(self._at)
            if call_then is not None:
                said = f"It called {call_then.op}, now it logs a line."
                self.diverge(self._at, ops.LOG, "op", call_then.op, message, said)
            elif self._at > self._last and self._recorded.cut_short is None:
                self.diverge(self._at, ops.LOG, "", None, message, "It logs a line more.")
        else:
            self._compare_line(was, level, message, fields)
        self._look()

    def _compare_line(self, was: RecordedLine, level: str, message: str, fields: bytes | None) -> None:
        if was.level != level:
            self.diverge(was.seq, ops.LOG, "level", was.level, level, "A line is logged at another level.")
        elif not _same_text(was.message, message):
            self.diverge(was.seq, ops.LOG, "message", was.message, message, "It logs another line.")
        elif was.fields != fields and not _cut_from(was.fields, fields):
            self._differ(was.seq, ops.LOG, was.fields, fields, "The fields of a log line differ")

    def _span(self, call: HostCall) -> None:
        try:
            name = asked(call, arguments.SpanStart).name
        except InvalidArguments:
            return
        self._spans[call.n] = name
        spans, at = self._recorded.spans, self._opened
        self._opened += 1
        if self._recorded.outcome == "interrupted":
            return
        was = spans[at] if at < len(spans) else None
        if was is None and self._recorded.cut_short is not None:
            return
        if was is None or not _same_text(was, name):
            self.diverge(None, ops.SPAN_START, "name", was, name, "It opens another span.")

    def _differ(self, seq: int | None, op: str, was: bytes | None, now: bytes | None, said: str) -> None:
        """Say where two JSON texts differ."""
        recorded, actual = _value(was), _value(now)
        place = next(places(recorded, actual), None)
        if place is None:  # the same value, written otherwise: the order of members, 1.0 for 1
            self.diverge(seq, op, "", _raw(was), _raw(now), f"{said}: they are written otherwise.")
            return
        where = f" at {place.field}" if place.field else ""
        self.diverge(seq, op, place.field, place.a, place.b, f"{said}{where}.")

    def output(self, now: bytes) -> None:
        """Compare what the handler returned."""
        was = self._recorded.output
        if not self._recorded.whole:
            if self._recorded.sha256 != hashlib.sha256(now).digest():
                said = "The output differs; only its beginning was kept."
                self.diverge(None, "output", "", len(was or b""), len(now), said)
        elif was != now:
            self._differ(None, "output", was, now, "The output differs")

    # Ends

    def _refuse(self) -> Outcome:
        """What the call gets with which the function diverged: an error that names its place in the code."""
        found = self.divergence
        if found is None or self._told:
            raise Diverged("The replay has diverged from the record.")
        self._told = True
        return Outcome(error=CallError(DIVERGED, found.message), now_ns=self._clock())

    def _clock(self) -> int:
        return max((call.now_ns for call in self._calls.values()), default=self._recorded.now_ns)

    def _end(self) -> FluxError:
        if self._recorded.cut_short is None:
            return Unanswered("Nothing more was answered when it was recorded.")
        error = self._recorded.error
        if error is not None and error.type == "DeadlineExceeded":
            return DeadlineExceeded(error.message)
        return RuntimeFault(f"The record ends here: {self._recorded.cut_short}.")

    def _look(self) -> None:
        """All that was recorded has happened: what is still open was never answered."""
        if self._at >= self._last and not self._owed and not self._over.done():
            self._over.set_result(None)

    def _tell_secret(self, was: RecordedCall) -> None:
        assert was.result is not None
        answer, question = orjson.loads(was.result), orjson.loads(was.arguments)
        value = answer.get("value")
        if isinstance(value, str) and value != question.get("fallback"):
            self._tell(str(question.get("key")), value)


class Diverged(RuntimeFault):
    """The function went another way than it did when it was recorded."""


def _same_text(was: str, now: str) -> bool:
    """Whether a text is the recorded one, as far as that was kept."""
    now = text(now)
    head, cut, _ = was.rpartition(_CUT)
    return was == now or text(was) == now or (bool(cut) and now.startswith(head))


def _cut_from(was: bytes | None, now: bytes | None) -> bool:
    """Whether what was kept is the beginning of a long payload that is the same so far."""
    return was is not None and now is not None and len(was) == LONGEST < len(now) and now.startswith(was)


def _value(data: bytes | None) -> Any:
    """A payload as a value; text where it is no JSON."""
    if data is None:
        return None
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return data.decode("utf-8", "replace")


def _raw(data: bytes | None) -> str | None:
    return None if data is None else data.decode("utf-8", "replace")
