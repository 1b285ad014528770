"""The Recorder opens executions and writes down what belongs to none. One per process; owns its spool."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence

import msgspec
from opentelemetry.sdk.trace import ReadableSpan, Span

from flux.errors import SpoolError
from flux.record.events import Arrival, Deployed, Spans, Surroundings
from flux.recorder.execution import Execution
from flux.recorder.journal import Journal
from flux.recorder.payloads import bare
from flux.recorder.redaction import Redaction
from flux.recorder.scrub import Originals, original
from flux.recorder.seal import Sealer
from flux.spool.writer import Spool

log = logging.getLogger(__name__)

MOST_OWED = 1000
PAY_EVERY = 0.25
"""Seconds between two tries to write what could not be written."""


class Recorder:
    """Writes the record of one process.

    Args:
        spool: this process's; closed with the recorder.
        sealer: seals seeds and what is redacted.
        redaction: what is withheld.
        clock: wall clock, ns. ticks: monotonic clock, ns.
    """

    def __init__(
        self,
        spool: Spool,
        sealer: Sealer,
        redaction: Redaction,
        *,
        clock: Callable[[], int] = time.time_ns,
        ticks: Callable[[], int] = time.perf_counter_ns,
    ) -> None:
        self.journal = Journal(spool, sealer, redaction, clock=clock, ticks=ticks)
        self.spool = spool
        self._owed: deque[Callable[[], object]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._surroundings: str | None = None
        self.dropped = 0
        """Spans of no execution that the spool could not take; nothing else is ever dropped."""

    @property
    def node(self) -> str:
        """The node's id, which is the spool's."""
        return self.spool.node

    def open(self, arrival: Arrival, *, seed: bytes, now_ns: int) -> Execution:
        """An execution begins: its arrival is in the spool when this returns.

        Args:
            arrival: who and what; taken over (redacted in place). `sealed` is set here.
            seed: the invocation's 32 bytes; now_ns: the guest's clock at its start. Kept sealed.

        Raises:
            SpoolFull: no room: nothing may run; answer 503.
            SpoolError: the spool can't be written.
        """
        originals: Originals = {id(arrival): (arrival, {"seed": seed, "now_ns": now_ns})}
        self._redact(arrival, originals)
        if arrival.surroundings is None:
            arrival.surroundings = self._surroundings
        level = arrival.record
        if level == "all":
            self.journal.write(arrival, originals, begins=True)
        else:
            self.journal.write(bare(arrival), {}, begins=True)
        return Execution(self.journal, arrival, originals)

    def deployed(self, event: Deployed) -> None:
        """A deployment was made; append it before the first execution that names it."""
        self.journal.write(event, {})

    def surroundings(self, env: Mapping[str, str], bounds: Mapping[str, int | bool]) -> str:
        """What this process's guests are started with, from now on named by each arrival. Returns its id."""
        sealer = self.journal.sealer
        content = msgspec.json.encode([dict(env), dict(bounds)], order="sorted")
        event = Surroundings(sealer.name(content), dict(bounds), sorted(env), sealer.seal({"env": dict(env)}))
        self.journal.write(event, {})
        self._surroundings = event.id
        return event.id

    def spans(self, spans: Sequence[ReadableSpan]) -> None:
        """Spans of no execution: they go to that of their parent where it is known, else under their
        trace_id.
        """
        if spans:
            self.journal.write(Spans(self.journal.span_rows(spans)), {})

    def forget(self, span: object) -> None:
        """A span that was started for an execution which could not be opened will never end."""
        if isinstance(span, Span):
            self.journal.loose.discard(span.context.span_id)

    async def settle(self) -> None:
        """Wait until all that was appended is as durable as the project asks; returns at once for `spool`.

        Raises:
            Unconfirmed: Postgres has not committed it in time; it is in the spool.
            SpoolError: it could not be made durable.
        """
        await self.spool.settle()

    def close(self) -> None:
        """Let go of the spool. Idempotent."""
        if self._timer is not None:
            self._timer.cancel()
        self._pay()
        self.spool.close()

    def owe(self, end: Callable[[], object]) -> None:
        """Write the end of an execution as soon as there is room.

        Args:
            end: called until it raises no SpoolError. Beyond MOST_OWED the oldest is given up: that execution
                will be `interrupted`.
        """
        if len(self._owed) >= MOST_OWED:
            self._owed.popleft()
            log.error("an execution's end could not be recorded; it will show as interrupted")
        self._owed.append(end)
        if self._timer is None:
            self._pay()

    def _pay(self) -> None:
        self._timer = None
        while self._owed:
            try:
                self._owed[0]()
            except SpoolError:
                with contextlib.suppress(RuntimeError):  # no loop runs: close() tries once more
                    self._timer = asyncio.get_running_loop().call_later(PAY_EVERY, self._pay)
                return
            self._owed.popleft()

    def _redact(self, arrival: Arrival, originals: Originals) -> None:
        redaction = self.journal.redaction
        headers = redaction.headers(arrival.headers)
        if headers is not arrival.headers:
            original(originals, arrival, "headers", arrival.headers)
            arrival.headers = headers
        if not redaction.paths:
            return
        content_type = next((value for name, value in headers if name.lower() == "content-type"), "")
        encoding = next((value for name, value in headers if name.lower() == "content-encoding"), "")
        for name, kind, packed in (("body", content_type, encoding), ("input", "application/json", "")):
            data = getattr(arrival, name)
            if data:
                kept, hit = redaction.body(kind, data, packed)
                if hit:
                    original(originals, arrival, name, data)
                    setattr(arrival, name, kept)
        for name, withheld in (("query", redaction.query), ("url", redaction.url)):
            text = getattr(arrival, name)
            if text and (kept_text := withheld(text)) != text:
                original(originals, arrival, name, text)
                setattr(arrival, name, kept_text)
        params = redaction.params(arrival.params)
        if params != arrival.params:
            original(originals, arrival, "params", arrival.params)
            for name in ("path", "url"):
                text = getattr(arrival, name)
                if text and (kept_text := redaction.path(text, arrival.params)) != text:
                    original(originals, arrival, name, text)
                    setattr(arrival, name, kept_text)
            arrival.params = params
