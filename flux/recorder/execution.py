"""An open execution: what is kept of it until its record is appended. Made by Recorder.open.

A host call is written with the Intent that follows it, or with the End. With `record` "errors" all
is held in memory until the outcome is known. With "none" payloads, calls, logs and spans are not
kept at all. Not for use from several threads.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from opentelemetry.sdk.trace import Span

from flux import semconv
from flux.record.call import Attempt, HostCall, Outcome
from flux.record.events import Answered, Arrival, Call, End, Failure, Intent, LogLine, Tally
from flux.recorder.journal import Journal
from flux.recorder.payloads import cut, cut_text, digest, secret_reading
from flux.recorder.scrub import Originals, original

MOST_LINES = 10_000
MOST_LOGGED = 16 * 2**20
"""Log lines and bytes of them that one execution keeps; further ones are counted."""
MOST_WARNINGS = 100


class Execution:
    """One execution being recorded.

    Attributes:
        request_id, day, trace_id: its identity. record: `all`, `errors` or `none`. arrival: how it began
        (redacted).
        answered: whether its answer is in the spool, while it goes on.
        ended: whether its End is in the spool; afterwards nothing is taken any more.
        payload: bytes of calls' arguments and results that are kept. held: of them, those in memory.
    """

    __slots__ = (
        "_arrival_originals",
        "_attempts",
        "_began",
        "_calls",
        "_done",
        "_guest",
        "_invocation",
        "_journal",
        "_left_out",
        "_lines",
        "_logged",
        "_logs",
        "_next",
        "_open",
        "_originals",
        "_params",
        "_sent",
        "_spans",
        "_timeline",
        "_transactions",
        "_warnings",
        "answered",
        "arrival",
        "day",
        "ended",
        "held",
        "payload",
        "record",
        "request_id",
        "trace_id",
    )

    def __init__(self, journal: Journal, arrival: Arrival, originals: Originals) -> None:
        self._journal = journal
        self.arrival = arrival
        self._arrival_originals = originals
        self.request_id = arrival.request_id
        self.day = arrival.day
        self.trace_id = arrival.trace_id
        self.record = arrival.record
        self.answered = self.ended = False
        self.payload = self.held = 0
        self._began = journal.ticks()
        self._timeline = arrival.started_ns - self._began
        self._next = 1
        self._guest: str | None = None
        self._invocation: int | None = None
        self._sent: int | None = None
        self._open: dict[int, tuple[Call, int]] = {}
        self._done: list[Call] = []
        self._logs: list[LogLine] = []
        self._lines = self._logged = self._left_out = 0
        self._originals: Originals = {}
        self._transactions: dict[int, int] = {}
        self._attempts: list[Attempt] = []
        self._spans: list[Span] = []
        self._warnings: list[str] = []
        before = originals.get(id(arrival))
        self._params: dict[str, str] = arrival.params if before is None else before[1].get("params", {})

    def now(self) -> int:
        """The execution's own time, ns since the epoch: the wall clock's at its start, carried on by the
        monotonic one. So nothing in it comes before what caused it when the wall clock is set.
        """
        return self._timeline + self._journal.ticks()

    def sent(self, guest: str, invocation: int) -> None:
        """The invocation goes to its guest now: takes its number in the node's order."""
        self._guest, self._invocation, self._sent = guest, invocation, self._journal.number()

    def start(self, call: HostCall, parent_span_id: str | None) -> None:
        """A host call begins: gives it its `seq` and its started number."""
        call.seq = seq = self._next
        self._next = seq + 1
        if call.op == "db.begin":
            self._transactions[call.n] = seq
        if self.record == "none":
            return
        journal = self._journal
        arguments = journal.redaction.arguments(call.op, call.arguments)
        kept, size = cut(arguments, journal.redaction)
        record = Call(
            seq,
            call.op,
            kept,
            "unknown",
            journal.number(),
            self.now(),
            tx=None if call.tx is None else self._transactions.get(call.tx),
            arguments_size=size,
            parent_span_id=parent_span_id,
            arguments_sha256=digest(call.arguments, size),
        )
        if arguments is not call.arguments and size is None:
            original(self._originals, record, "arguments", call.arguments)
        self._weigh(kept)
        self._open[seq] = (record, journal.ticks())

    def intend(self, call: HostCall) -> None:
        """The effect is about to be sent: append what finished since the last append, and it as `unknown`.

        Raises:
            SpoolError: it was not written; nothing may be sent.
        """
        if self.record != "all":
            return
        record, _ = self._open[call.seq]
        event = Intent(self.request_id, [*self._done, record], self._logs)
        event.guest, event.invocation, event.sent = self._guest, self._invocation, self._sent
        self._journal.write(event, self._originals)
        self._written()
        record.arguments = b""  # stands in the Intent; the drain takes it from there
        record.sealed = None

    def finish(self, call: HostCall, outcome: Outcome) -> None:
        """The answer goes to the function now: takes its delivered number and keeps what came."""
        if outcome.attempts:
            self.attempts(outcome.attempts, seq=call.seq)
        found = self._open.pop(call.seq, None)
        if found is None:
            return
        record, began = found
        journal = self._journal
        record.delivered = journal.number()
        record.duration_ns = journal.ticks() - began
        record.now_ns = outcome.now_ns
        record.status = "done"
        record.error = outcome.error
        record.span_id = outcome.span_id or record.span_id
        record.xid = outcome.xid
        record.snapshot = outcome.snapshot
        record.first_n = outcome.first_n
        record.last_n = outcome.last_n
        if outcome.result is not None:
            self._keep_result(record, call.arguments, outcome.result)
        self._done.append(record)

    def log(
        self, call: HostCall, level: str, message: str, fields: bytes | None, span_id: str | None
    ) -> None:
        """A line that the function logged. `fields` is exact JSON. Gives the call its `seq`.

        Beyond MOST_LINES or MOST_LOGGED lines are only counted.
        """
        call.seq = seq = self._next
        self._next = seq + 1
        if self.record == "none":
            return
        if self._lines >= MOST_LINES or self._logged >= MOST_LOGGED:
            self._left_out += 1
            return
        redaction = self._journal.redaction
        kept = None
        if fields is not None:
            kept, _ = redaction.json_bytes(fields)
            kept, size = cut(kept, redaction)
            if size is not None:
                self.warn(f"The fields of log line {seq} were cut: {size} bytes.")
        said = redaction.message(message)
        line = LogLine(seq, self.now(), level, cut_text(said, redaction), kept, span_id)
        if said is not message:
            original(self._originals, line, "message", message)
        if kept is not fields:
            original(self._originals, line, "fields", fields)
        self._lines += 1
        self._logged += len(line.message) + len(kept or b"")
        self._logs.append(line)

    def tally(self, count: int) -> None:
        """It stands for `count` requests by now. Append it before the last one's answer leaves.

        Raises:
            SpoolError: it was not written.
        """
        self._journal.write(Tally(self.request_id, count), {})

    def warn(self, text: str) -> None:
        """Say something about the execution that whoever reads its record should know."""
        if len(self._warnings) < MOST_WARNINGS:
            self._warnings.append(text)
        elif len(self._warnings) == MOST_WARNINGS:
            self._warnings.append(f"There were more warnings than the {MOST_WARNINGS} kept.")

    def call_span(self, seq: int, span_id: str) -> None:
        """A span began in an open call: the first is the call's own."""
        found = self._open.get(seq)
        if found is not None and found[0].span_id is None:
            found[0].span_id = span_id

    def attempts(self, attempts: Sequence[Attempt], *, seq: int | None = None) -> None:
        """Rows that triggers announced; whether they were committed is found out later. Kept at every
        record level.
        """
        for attempt in attempts:
            if attempt.seq is None:
                attempt.seq = seq
            self._journal.redaction.attempt(attempt)
            self._attempts.append(attempt)

    def track(self, span: Span) -> None:
        """A span of this execution has started. Called by the span processor."""
        cast(Any, span).flux_execution = self
        if self.record != "none":
            self._spans.append(span)

    def adopt(self, span: Any) -> None:
        """Take over a span that was started before this execution was opened (its root)."""
        if not isinstance(span, Span):
            return
        self._journal.loose.discard(span.context.span_id)
        before = cast("Execution | None", getattr(span, "flux_execution", None))
        if before is self:
            return
        if before is not None:
            before._release(span)
        self.track(span)

    def answer(
        self,
        *,
        status: int | None,
        outcome: str,
        output: bytes | None = None,
        output_kind: str = "json",
        response_headers: Sequence[tuple[str, str]] = (),
        error: Failure | None = None,
        guest: str | None = None,
        invocation: int | None = None,
        duration_ns: int,
    ) -> None:
        """Its answer is about to leave while it goes on (ctx.waitUntil): appends all that is known by now.
        `end` follows, with the same. The arguments are those of `end`.

        Raises:
            SpoolError: it was not written; it may be answered when it has ended.
        """
        event = Answered(self.request_id, status, outcome, duration_ns, guest=guest, invocation=invocation)
        event.output_kind, event.error, event.warnings = output_kind, error, [*self._warnings]
        event.sent = self._sent
        if self.record == "all":
            event.calls, event.logs = self._done, self._logs
            self._keep_output(event, output, response_headers)
        try:
            self._journal.write(event, self._originals)
        finally:
            self._originals.pop(id(event), None)
        self.answered = True
        self._written()

    def end(
        self,
        *,
        status: int | None,
        outcome: str,
        output: bytes | None = None,
        output_kind: str = "json",
        response_headers: Sequence[tuple[str, str]] = (),
        error: Failure | None = None,
        guest: str | None = None,
        invocation: int | None = None,
        duration_ns: int | None = None,
    ) -> None:
        """It is over: ends open spans, leaves open calls as abandoned, appends all that is not in the spool
        yet.

        Call it before the answer leaves. A second call after a success does nothing; after a failure it
        tries again.

        Args:
            status: what was answered. outcome: `ok`, `error` or `rejected`.
            output: what the handler returned, exact; output_kind: `json` or `response`.
            error: why it failed. guest, invocation: the process it ran in, and the run's number there.
            duration_ns: by default the time since it was opened.

        Raises:
            SpoolError: it was not written.
        """
        if self.ended:
            return
        journal = self._journal
        duration = journal.ticks() - self._began if duration_ns is None else duration_ns
        end = End(self.request_id, status, outcome, duration, output_kind=output_kind, error=error)
        end.guest, end.invocation, end.sent = guest, invocation, self._sent
        end.attempts, end.warnings = self._attempts, [*self._warnings]
        if self._left_out:
            end.warnings.append(
                f"{self._left_out} log lines more were not kept: an execution keeps {MOST_LINES}, "
                f"or {MOST_LOGGED // 2**20} MiB of them."
            )
        before = b""
        if self.record == "all" or (self.record == "errors" and outcome != "ok"):
            self._abandon()
            end.calls, end.logs = self._done, self._logs
            for span in self._spans:
                if span.end_time is None:
                    span.end()
            end.spans = journal.span_rows(self._spans, self._params)
            if not (self.answered and self.record == "all"):
                self._keep_output(end, output, response_headers)
            if self.record == "errors":
                before = journal.framed(self.arrival, self._arrival_originals)
        journal.spool.write(before + journal.framed(end, self._originals))
        self.ended = True
        # Spans point back here: without this every execution would wait for the garbage collector.
        self._spans = []

    def _keep_output(
        self, event: Answered | End, output: bytes | None, response_headers: Sequence[tuple[str, str]]
    ) -> None:
        redaction = self._journal.redaction
        if output is not None:
            kept, _ = redaction.json_bytes(output)
            event.output, event.output_size = cut(kept, redaction)
            event.output_sha256 = digest(output, event.output_size)
            if kept is not output and event.output_size is None:
                original(self._originals, event, "output", output)
        headers = list(response_headers)
        event.response_headers = redaction.headers(headers)
        if event.response_headers is not headers:
            original(self._originals, event, "response_headers", headers)

    def _written(self) -> None:
        """What was finished by now is in the spool, where this execution's calls are written as they go."""
        if self.record != "all":
            return
        for done in (*self._done, *self._logs):
            self._originals.pop(id(done), None)
        self._done = []
        self._logs = []
        self.held = 0

    def _abandon(self) -> None:
        for record, _ in self._open.values():
            record.status = "abandoned"
            self._done.append(record)
        self._open.clear()

    def _keep_result(self, record: Call, arguments: bytes, result: bytes) -> None:
        redaction = self._journal.redaction
        if record.op == "secrets.get":
            kept = secret_reading(arguments, result, redaction)
        else:
            kept = redaction.result(record.op, arguments, result)
        record.result, record.result_size = cut(kept, redaction)
        record.result_sha256 = digest(result, record.result_size)
        if kept is not result and record.result_size is None:
            original(self._originals, record, "result", result)
        self._weigh(record.result)

    def _weigh(self, kept: bytes) -> None:
        self.payload += len(kept)
        self.held += len(kept)

    def _release(self, span: Span) -> None:
        """A span turned out to be the root of another execution (a nested one)."""
        self._spans = [own for own in self._spans if own is not span]
        if span._attributes is not None:
            cast(Any, span._attributes).pop(semconv.FLUX_CALL, None)
