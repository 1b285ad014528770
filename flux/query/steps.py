"""An execution taken apart into steps, in the order in which its code saw them: its start, each host call as
it was answered, each log line, each span it began, its end. Behind `flux trace debug`. Pure.

A call is one step, at the moment at which its answer reached the function; one that was never answered
stands where it was asked. Calls are in the order of the node's counter, which is exact. Log lines share a
series with the calls as they are asked: between two answers they are placed by time.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple, overload

from flux.errors import UsageError
from flux.query import foreign
from flux.query.step_places import Places
from flux.query.step_rows import END, NOTHING, RowChanges
from flux.shapes.debug import DebugStep
from flux.shapes.record import CallFailure, Failure, HostCall, LogLine, Span, Trace
from flux.shapes.why import Location

START, CALL, LOG, SPAN, LAST = "start", "call", "log", "span", "end"


class Moment(NamedTuple):
    """One step before it is looked at: what it is, and how many log lines there are with it."""

    kind: str
    at: str
    what: HostCall | LogLine | Span | None
    logs: int

    @property
    def failed(self) -> bool:
        """Whether it is a call that failed."""
        return isinstance(self.what, HostCall) and self.what.error is not None


class Steps(Sequence[DebugStep]):
    """The steps of one execution. Each is made when it is asked for.

    Args:
        document: the execution.
        bundle: the tar of the deployment that ran, or None where it is not stored.
    """

    def __init__(self, document: Trace, bundle: bytes | None = None) -> None:
        self.document = document
        self.places = Places(bundle, document.function)
        self.moments: list[Moment] = list(_moments(document))
        self._spans = {span.span_id: span for span in document.spans}
        self._logs = sorted(document.logs, key=lambda line: line.seq)
        self._rows = RowChanges(document)
        self._thrown_by = _thrown_by(document)

    def __len__(self) -> int:
        return len(self.moments)

    @overload
    def __getitem__(self, index: int) -> DebugStep: ...
    @overload
    def __getitem__(self, index: slice) -> list[DebugStep]: ...
    def __getitem__(self, index: int | slice) -> DebugStep | list[DebugStep]:
        if isinstance(index, slice):
            return [self._step(at) for at in range(*index.indices(len(self)))]
        return self._step(range(len(self))[index])

    def at(self, number: int) -> DebugStep:
        """A step by its number, from 1.

        Raises:
            UsageError: there is none of that number.
        """
        if not 1 <= number <= len(self):
            raise UsageError(
                f"There is no step {number}: this execution has {len(self)}, numbered from 1.",
                f"The last one: --at {len(self)}",
            )
        return self[number - 1]

    @property
    def first_error(self) -> int | None:
        """The number of the first step that failed; None where none did."""
        for number, moment in enumerate(self.moments, start=1):
            if moment.failed:
                return number
        ended_badly = self.document.error is not None or self.document.outcome in ("error", "interrupted")
        return len(self) if ended_badly else None

    def _step(self, index: int) -> DebugStep:
        kind, at, what, logs = self.moments[index]
        document = self.document
        location, located = self._place(kind, what)
        call = what if isinstance(what, HostCall) else None
        error: Failure | CallFailure | None = None
        input, output, rows, changes = None, None, NOTHING, []
        if call is not None:
            input, output, error = call.arguments, call.result, call.error
            changes, rows = (
                self._rows.made(call.seq),
                self._rows.rows(call.seq, failed=call.error is not None),
            )
        elif kind in (START, LAST):
            input = document.input if document.input is not None else document.request.body
        if kind == LAST:
            output, error = document.output, document.error
            changes, rows = self._rows.made(END), self._rows.rows(END, failed=False)
        return DebugStep(
            step=index + 1,
            steps=len(self),
            kind=kind,
            at=at,
            span=self._span(what),
            call=call,
            location=location,
            located=located,
            input=input,
            output=output,
            error=error,
            rows=rows,
            changes=changes,
            logs=self._logs[:logs],
        )

    def _span(self, what: HostCall | LogLine | Span | None) -> Span | None:
        if isinstance(what, Span):
            return what
        own = self._spans.get(self.document.span_id or "")
        if what is None:
            return own
        of = what.span_id or (what.parent_span_id if isinstance(what, HostCall) else None)
        return self._spans.get(of or "", own)

    def _place(self, kind: str, what: HostCall | LogLine | Span | None) -> tuple[Location | None, str | None]:
        found, how = None, "text"
        if kind == LAST or (what is not None and what is self._thrown_by):
            found, how = self.places.of_error(self.document.error), "error"
        if found is None and isinstance(what, HostCall):
            found, how = self.places.of_call(what), "text"
        elif isinstance(what, LogLine):
            found = self.places.of_log(what)
        elif isinstance(what, Span):
            found = self.places.of_span(what.name)
        return found, how if found is not None else None


def _thrown_by(document: Trace) -> HostCall | None:
    """The one call whose error ended the execution: the line that the error names is its line."""
    error = document.error
    if error is None:
        return None
    same = [
        call
        for call in document.host_calls
        if call.error is not None and (call.error.type, call.error.message) == (error.type, error.message)
    ]
    return same[0] if len(same) == 1 else None


def _moments(document: Trace) -> Iterator[Moment]:
    yield Moment(START, document.started_at, None, 0)
    logs = 0
    for what in _ordered(document):
        if isinstance(what, LogLine):
            logs += 1
            yield Moment(LOG, what.at, what, logs)
        elif isinstance(what, Span):
            yield Moment(SPAN, what.start_time, what, logs)
        else:
            yield Moment(CALL, what.at, what, logs)
    end = document.started_at
    if document.duration_ms is not None:
        end = _later(document.started_at, document.duration_ms)
    yield Moment(LAST, end, None, len(document.logs))


def _ordered(document: Trace) -> list[HostCall | LogLine | Span]:
    """Calls as they were answered, with the log lines and the function's own spans between them."""
    answered = sorted(document.host_calls, key=_number)
    asked = sorted(document.host_calls, key=lambda call: call.seq)
    numbers = [call.seq for call in asked]
    placed: list[HostCall | LogLine | Span] = []
    waiting = deque(sorted(document.logs, key=lambda line: line.seq))
    for call in answered:
        while waiting:
            earlier = bisect_left(numbers, waiting[0].seq)
            if not _before(waiting[0], call, asked[earlier - 1] if earlier else None):
                break
            placed.append(waiting.popleft())
        placed.append(call)
    placed += waiting
    own = sorted(_own_spans(document), key=lambda span: -span.start_ns)
    if not placed:
        return [*reversed(own)]
    for span in own:
        placed.insert(_opening(span, placed), span)
    return placed


def _number(call: HostCall) -> int:
    """The place of a call in the node's counter: where it was answered, else where it was asked."""
    return call.started if call.delivered is None else call.delivered


def _before(line: LogLine, call: HostCall, last_asked: HostCall | None) -> bool:
    """Whether a line was logged before a call was answered.

    Args:
        line, call: which.
        last_asked: the last call that was asked before the line.
    """
    if line.seq < call.seq:
        return True
    if last_asked is not None and last_asked.seq > call.seq and last_asked.started > _number(call):
        return False
    return line.at < _later(call.at, call.duration_ms or 0.0)


def _own_spans(document: Trace) -> list[Span]:
    """The spans that the function began itself: neither the execution's, nor a call's."""
    calls = {call.span_id for call in document.host_calls}
    if document.record == foreign.ALONE:
        return [span for span in document.spans if span.span_id != document.span_id]
    return [
        span
        for span in document.spans
        if span.kind == "INTERNAL"
        and span.span_id not in calls
        and span.span_id != document.span_id
        and "faas.invocation_id" not in span.attributes
        and "db.system.name" not in span.attributes
    ]


def _opening(span: Span, placed: list[HostCall | LogLine | Span]) -> int:
    """The place of a span's start: before the first thing that happened in it, else by its time."""
    for index, what in enumerate(placed):
        parent = what.span_id if isinstance(what, LogLine) else what.parent_span_id
        if parent == span.span_id:
            return index
    for index, what in enumerate(placed):
        moment = what.start_time if isinstance(what, Span) else what.at
        if moment > span.start_time:
            return index
    return len(placed)


def _later(moment: str, ms: float) -> str:
    """A moment `ms` after another, in the record's way of writing."""
    later = datetime.fromisoformat(moment) + timedelta(milliseconds=ms)
    return later.isoformat(timespec="microseconds")
