"""Events into finished executions, by request_id. Pure: the drain feeds it records and stores what comes out.

An execution is open from its Arrival to its End; of two events about one call the later wins. Nothing here
is lost silently: what fits nowhere comes out as a Misfit, for the quarantine.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import msgspec

from flux.record.events import (
    Answered,
    Arrival,
    Call,
    Deployed,
    End,
    Event,
    Intent,
    LogLine,
    Resource,
    Spans,
    Surroundings,
    Tally,
)
from flux.spool.frames import Place
from flux.spool.reader import Damage, Record

_decode = msgspec.msgpack.Decoder(Event).decode

Span = tuple[Place, int]
"""Where a record's frame stands and where it ends."""


@dataclass(slots=True)
class Assembled:
    """An execution: open while `end` is None, interrupted where it stays so."""

    arrival: Arrival
    where: list[Span]
    calls: dict[int, Call] = field(default_factory=dict)
    logs: dict[int, LogLine] = field(default_factory=dict)
    answered: Answered | None = None
    """How it was answered, where it went on after that."""
    end: End | None = None
    intent: Intent | None = None
    """The first of its intents: where it runs, should its end never come."""
    count: int = 1
    """Requests that it stands for."""

    @property
    def request_id(self) -> str | None:
        return self.arrival.request_id

    @property
    def size(self) -> int:
        """About how many rows it makes."""
        return 1 + len(self.calls) + len(self.logs) + (len(self.end.spans) if self.end else 0)


@dataclass(slots=True)
class Single:
    """An event that stands for itself."""

    event: Spans | Deployed | Resource | Surroundings
    where: list[Span]
    request_id: str | None = None

    @property
    def size(self) -> int:
        """About how many rows it makes."""
        return len(self.event.spans) if isinstance(self.event, Spans) else 1


@dataclass(slots=True)
class Misfit:
    """Bytes that are no event, or an event that belongs to nothing; `raw` where the spool's bytes are no
    whole frame.
    """

    reason: str
    where: list[Span]
    request_id: str | None = None
    raw: bytes | None = None
    size: int = 1


Unit = Assembled | Single | Misfit
"""What is stored, or refused, as one."""


class Assembler:
    """Puts the records of one spool together.

    Attributes:
        open: executions that have begun and not ended, by request_id.
    """

    def __init__(self) -> None:
        self.open: dict[str, Assembled] = {}

    def feed(self, record: Record | Damage) -> Unit | None:
        """Take the next record; what it completes, if anything."""
        where = (record.place, record.end)
        if isinstance(record, Damage):
            return Misfit(f"Damaged: {record.reason}.", [where], raw=record.data)
        try:
            event = _decode(record.data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            return Misfit(f"Not an event: {error}", [where])
        if isinstance(event, Arrival):
            found = self.open.get(event.request_id)
            if found is None:
                self.open[event.request_id] = Assembled(event, [where])
            else:  # the same once more, with its payloads
                found.arrival = event
                found.where.append(where)
            return None
        if isinstance(event, Tally):
            return self._count(event, where)
        if isinstance(event, Intent | Answered | End):
            return self._go_on(event, where)
        return Single(event, [where])

    def segments(self) -> set[int]:
        """The segments in which open executions have records."""
        return {place[0] for execution in self.open.values() for place, _ in execution.where}

    def interrupted(self) -> Iterator[Assembled]:
        """The writer is gone: what is open will never end."""
        yield from self.open.values()

    def _count(self, event: Tally, where: Span) -> Unit | None:
        found = self.open.get(event.request_id)
        if found is None:
            return Misfit("A tally of an execution whose arrival is not there.", [where], event.request_id)
        found.count = event.count
        found.where[1:] = [where]  # each tally holds those before it
        return None

    def _go_on(self, event: Intent | Answered | End, where: Span) -> Unit | None:
        found = self.open.get(event.request_id)
        if found is None:
            kind = type(event).__name__.lower()
            return Misfit(f"An {kind} of an execution whose arrival is not there.", [where], event.request_id)
        found.where.append(where)
        for call in event.calls:
            found.calls[call.seq] = _merged(found.calls.get(call.seq), call)
        for line in event.logs:
            found.logs[line.seq] = line
        if isinstance(event, Intent):
            found.intent = found.intent or event
        if isinstance(event, Answered):
            found.answered = event
        if isinstance(event, End):
            if found.answered is not None and event.output is None:
                _repeat(found.answered, event)
            found.end = event
            del self.open[event.request_id]
            return found
        return None


def _repeat(answered: Answered, end: End) -> None:
    """Say in an End what stands in the answer before it alone."""
    end.output, end.output_size, end.output_kind = answered.output, answered.output_size, answered.output_kind
    end.output_sha256 = answered.output_sha256
    end.response_headers = answered.response_headers


def _merged(before: Call | None, call: Call) -> Call:
    """The later word on a call; its arguments stand in the intent alone."""
    if before is not None and not call.arguments:
        call.arguments = before.arguments
        call.arguments_size = before.arguments_size
        call.arguments_sha256 = before.arguments_sha256
        if call.sealed is None:
            call.sealed = before.sealed
    return call
