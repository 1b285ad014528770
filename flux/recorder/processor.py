"""The span processor of the record: spans of an execution stay on it until its end; the rest is written
down in batches.

It *is* the provider's processor (the SDK's own composite, extended), so a span costs one call at its start
and nothing at its end. Exporters added to the provider run beside it as usual.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, cast

from opentelemetry.context import Context, get_current
from opentelemetry.sdk.trace import ReadableSpan, Span, SynchronousMultiSpanProcessor

from flux import semconv
from flux.errors import SpoolError
from flux.recorder.context import CALL_KEY, EXECUTION_KEY
from flux.recorder.recorder import Recorder

log = logging.getLogger(__name__)

BATCH = 256
DELAY = 0.1
"""Seconds that a span of no execution waits for others at most, where an event loop runs."""


class RecordProcessor(SynchronousMultiSpanProcessor):
    """Gives every span to its execution, found in the span's parent context.

    Args:
        recorder: takes the spans that have none.
    """

    def __init__(self, recorder: Recorder) -> None:
        cast(Any, super()).__init__()
        self._recorder = recorder
        self._loose = recorder.journal.loose
        self._waiting: list[ReadableSpan] = []
        self._timer: asyncio.TimerHandle | None = None

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Note whose span it is; stamp it with the number of the host call it is in."""
        context = get_current() if parent_context is None else parent_context
        execution: Any = context.get(EXECUTION_KEY)
        if execution is None or execution.ended:
            self._loose.add(span.context.span_id)
        else:
            execution.track(span)
            seq: Any = context.get(CALL_KEY)
            if seq is not None:
                span.set_attribute(semconv.FLUX_CALL, seq)
                execution.call_span(seq, f"{span.context.span_id:016x}")
        for processor in self._span_processors:
            processor.on_start(span, parent_context=parent_context)

    def on_end(self, span: ReadableSpan) -> None:
        """Keep a span of no execution for the next batch."""
        if self._loose:
            number = span.context.span_id
            if number in self._loose:
                self._loose.discard(number)
                self._wait(span)
        for processor in self._span_processors:
            processor.on_end(span)

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Append what waits."""
        self._flush()
        return super().force_flush(timeout_millis)

    def shutdown(self) -> None:
        """Append what waits; called by the provider at its shutdown."""
        self._flush()
        super().shutdown()

    def _wait(self, span: ReadableSpan) -> None:
        self._waiting.append(span)
        if len(self._waiting) >= BATCH:
            self._flush()
        elif self._timer is None:
            try:
                self._timer = asyncio.get_running_loop().call_later(DELAY, self._flush)
            except RuntimeError:
                self._flush()

    def _flush(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        try:
            self._recorder.spans(waiting)
        except SpoolError as error:
            self._recorder.dropped += len(waiting)
            log.warning("%d spans of no execution were not recorded: %s", len(waiting), error.message)
