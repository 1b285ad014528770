"""Recording: any Host, with everything that crosses it written down. One around each execution's host.

Live is `Recording(Live(...))`; a replay is `Recording(Replay(...))`. Nothing here knows which.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final

from msgspec import Raw
from opentelemetry import trace
from opentelemetry.context import Context, attach, detach
from opentelemetry.trace import Tracer

from flux.errors import FunctionError, RuntimeFault, SpoolError
from flux.host.protocol import Host
from flux.host.spans import MOST_SPANS, GuestSpans
from flux.record import arguments, ops
from flux.record.call import CallError, HostCall, Outcome
from flux.record.ops import InvalidArguments, asked
from flux.recorder.context import with_call
from flux.recorder.execution import Execution

log = logging.getLogger("flux.host")

MOST_CALLS = 100_000
"""Host calls of one execution; one more ends it. They are all held until it ends."""

MOST_PAYLOAD = 128 * 2**20
"""Bytes that the record of one execution keeps of its calls' arguments and results; more ends it. Whoever
drains it holds them all until it ends.
"""
MOST_HELD = 4 * 2**20
"""Of them, bytes that are kept in memory before the next call is written like one that leaves."""

_TRACER = trace.get_tracer("flux.function")
_LEVELS: Final = {"debug": "debug", "info": "info", "warn": "warn", "warning": "warn", "error": "error"}


class Recording:
    """A Host that numbers and records what `inner` is asked, in the order its answers are delivered.

    Args:
        inner: does the calls.
        execution: the open record; the caller ends it after `close`.
        span_context: OpenTelemetry context holding the execution and the function span.
        tracer: makes the spans that the guest opens.
        clock: wall clock, ns; dates refusals that `inner` never sees.
    """

    __slots__ = ("_clock", "_closed", "_execution", "_inner", "_noted", "_seen", "_spans")

    def __init__(
        self,
        inner: Host,
        execution: Execution,
        span_context: Context,
        *,
        tracer: Tracer = _TRACER,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self._inner = inner
        self._execution = execution
        self._spans = GuestSpans(span_context, tracer)
        self._clock = clock
        self._seen: set[int] = set()
        self._noted = 0
        self._closed = False

    def sent(self, guest: str, invocation: int) -> None:
        """Number the step in which the guest is told."""
        self._execution.sent(guest, invocation)
        self._inner.sent(guest, invocation)

    def begin(self, call: HostCall) -> None:
        """Number `call`: so it is recorded though it be given up before anything is done, and what the guest
        says after it comes after it. What can't be taken is left for `perform` to refuse.
        """
        execution = self._execution
        if (
            self._closed
            or call.n in self._seen
            or len(self._seen) >= MOST_CALLS
            or execution.payload > MOST_PAYLOAD
        ):
            return
        self._seen.add(call.n)
        execution.start(call, self._spans.at(call.span).span_id)
        self._inner.begin(call)

    def give_up(self, n: int) -> None:
        """It stays open in the record."""
        self._inner.give_up(n)

    async def perform(self, call: HostCall) -> Outcome:
        """Record `call`, do it, record what came of it. See Host.perform.

        Raises FunctionError at the call after MOST_CALLS, or beyond MOST_PAYLOAD: the execution is to end.

        An effect's intent is on disk before `inner` is asked. A cancelled call stays open in the record
        (`abandoned` once the execution ends). An exception out of `inner` is Flux's own fault; it becomes the
        call's error, named by its class.
        """
        if self._closed:
            return self._refused("ExecutionOver", f"{call.op}: the execution is over; nothing was done.")
        if call.seq < 0:
            self.begin(call)
        execution = self._execution
        place = self._spans.at(call.span)
        if call.seq < 0:
            if call.n in self._seen:
                return self._refuse_twice(call, place.span_id)
            self._see_that_it_fits()
            raise FunctionError(
                "TooManyCalls", f"The function made more than {MOST_CALLS} host calls in one execution."
            )
        if execution.held > MOST_HELD or ops.leaves(call):
            try:
                execution.intend(call)
            except SpoolError as error:
                execution.finish(call, self._refused(error.type, f"{error.message} Nothing was sent."))
                raise
        token = attach(with_call(place.context, call.seq))
        try:
            outcome = await self._inner.perform(call)
        except RuntimeFault:
            raise  # it is never answered; the execution is to end
        except Exception as error:
            log.exception("host call %s %s failed inside Flux", execution.request_id, call.op)
            outcome = self._refused(type(error).__name__, f"{call.op}: {error}")
        finally:
            detach(token)
        execution.finish(call, outcome)
        self._see_that_it_fits()
        return outcome

    def notify(self, call: HostCall) -> None:
        """Take a log line or a guest span. What can't be understood is kept as a warning of the execution."""
        if self._closed:
            return
        if call.n <= self._noted or call.n in self._seen:
            self._execution.warn(_twice(call))
            return
        self._noted = call.n
        self._inner.notify(call)
        try:
            if call.op == ops.LOG:
                self._log(call)
            elif call.op == ops.SPAN_START:
                start = asked(call, arguments.SpanStart)
                self._spans.start(call.n, call.span, start.name, start.attributes)
            elif call.op == ops.SPAN_END:
                end = asked(call, arguments.SpanEnd)
                failed = (end.error.type, end.error.message) if end.error else (None, "")
                if not self._spans.end(end.start, *failed):
                    self._execution.warn(f"span.end: no span numbered {end.start} is open.")
            else:
                self._execution.warn(f"`{call.op}` is not a one-way call; it was ignored.")
        except InvalidArguments as error:
            self._execution.warn(str(error))

    async def close(self) -> None:
        """Take no more calls and close `inner`. Spans left open are ended with the execution."""
        if not self._closed:
            self._closed = True
            if self._spans.left_out:
                self._execution.warn(
                    f"{self._spans.left_out} spans more were not kept: an execution keeps {MOST_SPANS}."
                )
            await self._inner.close()

    def _log(self, call: HostCall) -> None:
        level, message, fields = read_line(call)
        self._execution.log(call, level, message, fields, self._spans.at(call.span).span_id)

    def _see_that_it_fits(self) -> None:
        if self._execution.payload > MOST_PAYLOAD:
            raise FunctionError(
                "TooMuchPayload",
                f"The function's host calls passed more than {MOST_PAYLOAD // 2**20} MiB in one execution, "
                'all of which would be recorded. Do the work in several jobs, or set `"record": "none"` in '
                "its flux.json.",
            )

    def _refused(self, kind: str, message: str) -> Outcome:
        return Outcome(error=CallError(kind, message), now_ns=self._clock())

    def _refuse_twice(self, call: HostCall, span_id: str | None) -> Outcome:
        """Recorded under no number of the guest's, so that the first call of that number stands."""
        outcome = self._refused(ops.INVALID, _twice(call))
        nameless = HostCall(call.op, call.arguments, -1, call.tx, call.span)
        self._execution.start(nameless, span_id)
        self._execution.finish(nameless, outcome)
        return outcome


def read_line(call: HostCall) -> tuple[str, str, bytes | None]:
    """Level, message and exact fields of a log line; one that can't be understood is its text."""
    try:
        line = asked(call, arguments.Log)
    except InvalidArguments:
        return "info", call.arguments.decode("utf-8", "replace"), None
    fields = bytes(line.fields) if isinstance(line.fields, Raw) else None
    return _LEVELS.get(line.level, "info"), line.message, fields


def _twice(call: HostCall) -> str:
    return f"{call.op}: the call number {call.n} was used before in this invocation."
