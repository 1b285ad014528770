"""A real recorder over a spool in a temporary folder, and what stands in that spool on disk."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import TracerProvider

from flux.record.events import Arrival, Call, End, Event, Intent
from flux.recorder.context import with_execution
from flux.recorder.execution import Execution
from flux.recorder.recorder import Recorder
from flux.recorder.redaction import Redaction
from flux.recorder.seal import Sealer
from flux.recorder.telemetry import setup
from flux.spool.frames import HEAD, segment_path, segments
from flux.spool.writer import Spool


class Record:
    """One open execution with its function span.

    Attributes:
        recorder, redaction, provider: of the process.
        execution: the open one; context: holds its function span.
    """

    def __init__(self, folder: Path, *, limit: int = 2**24, level: str = "all") -> None:
        self.redaction = Redaction([], [])
        self.spool = Spool.create(folder, "a" * 32, limit=limit)
        self.recorder = Recorder(self.spool, Sealer(None), self.redaction)
        self.provider: TracerProvider = setup(self.recorder, {"service.name": "test"}, everywhere=False)
        self.root = self.provider.get_tracer("test").start_span("root")
        where = self.root.get_span_context()
        self.execution: Execution = self.recorder.open(
            Arrival(
                request_id="b" * 32,
                day="2026-01-01",
                trace_id=format(where.trace_id, "032x"),
                span_id=format(where.span_id, "016x"),
                parent_span_id=None,
                parent_request_id=None,
                trigger="http",
                function="f",
                deployment="c" * 64,
                started_ns=1,
                record=level,
            ),
            seed=bytes(32),
            now_ns=1,
        )
        self.execution.adopt(self.root)
        base = with_execution(trace.set_span_in_context(self.root, Context()), self.execution)
        self.function_span = self.provider.get_tracer("test").start_span("f", base)
        self.context = trace.set_span_in_context(self.function_span, base)

    @property
    def function_span_id(self) -> str:
        return format(self.function_span.get_span_context().span_id, "016x")

    def events(self) -> list[Event]:
        """Everything in the spool, read from disk."""
        decoder = msgspec.msgpack.Decoder(Event)
        found: list[Event] = []
        for number in segments(self.spool.folder):
            data, at = segment_path(self.spool.folder, number).read_bytes(), 0
            while at < len(data):
                _, length, _ = HEAD.unpack_from(data, at)
                found.append(decoder.decode(data[at + HEAD.size : at + HEAD.size + length]))
                at += HEAD.size + length
        return found

    def intents(self) -> list[Intent]:
        return [event for event in self.events() if isinstance(event, Intent)]

    def end(self) -> End:
        """End the execution; gives its End from disk."""
        self.function_span.end()
        self.root.end()
        self.execution.end(status=200, outcome="ok")
        return next(event for event in self.events() if isinstance(event, End))

    def calls(self) -> dict[int, Call]:
        """Every call by seq as the drain will put it together: a later event about it wins."""
        found: dict[int, Call] = {}
        for event in self.events():
            if isinstance(event, Intent | End):
                for call in event.calls:
                    before = found.get(call.seq)
                    if before is not None and not call.arguments:
                        call.arguments = before.arguments
                    found[call.seq] = call
        return found


_SPAN = (
    "span_id",
    "trace_id",
    "parent",
    "name",
    "kind",
    "start",
    "duration",
    "status",
    "message",
    "attributes",
)


def spans(end: End) -> dict[str, dict[str, Any]]:
    """The End's spans by name."""
    return {str(row[3]): dict(zip((*_SPAN, "events"), row, strict=False)) for row in end.spans}


@contextmanager
def recording(folder: Path, **options: Any) -> Iterator[Record]:
    record = Record(folder, **options)
    try:
        yield record
    finally:
        record.recorder.close()
