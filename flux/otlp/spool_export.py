"""One spool on its way to a collector: how far it is, and what is under way.

At least once: the position is moved when the collector has taken what stands before it, so a kill in between
sends a batch again. A span's ids make it the same span.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from opentelemetry.sdk.trace import ReadableSpan

from flux.otlp import events
from flux.otlp.sender import Away, Refused, Sender, Sent
from flux.otlp.settings import Settings
from flux.otlp.spans import Spans
from flux.otlp.tally import Counter
from flux.spool import positions
from flux.spool.frames import DRAINED, Place, segment_path
from flux.spool.positions import Position
from flux.spool.reader import Damage, Record, SpoolReader
from flux_postgres_exporter import rows

BATCH_BYTES = 2**21
"""Records' bytes that are put into one request at most: receivers take 4 MiB by default."""
NO_SPAN = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError)
"""What comes of a row that is no span's."""
DOUBTS = 3
"""Times that a request is sent again whose refusal may be the collector's own fault."""
SIGN_OF_LIFE = 10.0
REFUSALS = 64
"""Refusals of one batch after which what is still refused is not split any further."""


@dataclass
class _Batch:
    """Spans up to a place, in requests; all of one segment."""

    end: Place
    requests: deque[list[ReadableSpan]] = field(default_factory=deque)
    resources: dict[str, str] = field(default_factory=dict)
    unsampled: int = 0
    settled: int = 0
    """Spans of it that are sent or refused."""
    sending: int = 0
    """Spans of it that the collector has just been given."""
    refusals: int = 0
    doubts: int = 0


class SpoolExport:
    """The export's view of one spool, whose position it holds.

    Args:
        folder: the spool's.
        lock: the descriptor of the claimed position; closed with this.
        position: as read after it was claimed.
    """

    def __init__(
        self, folder: Path, lock: int, position: Position, settings: Settings, spans: Spans, counter: Counter
    ) -> None:
        self.folder = folder
        self._lock = lock
        self._position = position
        self._settings = settings
        self._spans = spans
        self._counter = counter
        self._reader = SpoolReader(folder, position.place)
        self._ahead: deque[Record | Damage] = deque()
        self._batch: _Batch | None = None
        self._segment = 0
        self._unwritten = False
        self._written = 0.0
        for identity, attributes in position.resources.items():
            spans.learn(identity, attributes)

    @property
    def finished(self) -> bool:
        """Whether all of a spool whose writer is gone was sent."""
        return self._position.finished

    def advance(self, sender: Sender) -> Away | bool:
        """Send the next batch: True where there was one; False at the end of what there is; Away where the
        collector can't take it now.
        """
        drained = (self.folder / DRAINED).exists()
        self._reader.final = drained
        if self._batch is None:
            self._batch = self._next_batch()
        if self._batch is None:
            if drained:
                self._position.finished = True
                self._write()
            return False
        batch = self._batch
        away = self._send(batch, sender)
        if away is None and self._batch is batch:
            self._settle(batch)
        return True if away is None else away

    def held(self) -> Iterator[tuple[int, int]]:
        """The segments kept for this export alone, oldest first, and their sizes in bytes."""
        for number in positions.held(self.folder, self._position):
            yield number, positions.size(self.folder, [number])

    def skip(self, segment: int) -> int:
        """Give up what is unsent up to a segment's end; how many spans those were.

        What the collector has just been given is not among them, until it answers.
        """
        batch = self._batch
        if batch is not None and batch.end[0] > segment:
            self._pass(segment)
            return 0
        settled = 0 if batch is None else batch.settled + batch.sending
        self._batch = None
        self._ahead.clear()
        self._reader.place = self._position.place
        dropped = 0
        self._reader.final = True  # of a live spool only segments that are complete are given up
        while self._reader.place[0] <= segment and (found := self._read()):
            if found[0].place[0] > segment:
                break
            for record in found:
                dropped += self._learn_and_count(record)
        self._reader.place = (segment + 1, 0)
        self._pass(segment)
        return dropped - settled

    def _pass(self, segment: int) -> None:
        self._position.segment, self._position.offset = segment + 1, 0
        self._write()

    def flush(self) -> None:
        """Write the position down where it has moved over records without spans, and now and then besides,
        for an old one says that nobody sends.
        """
        if self._unwritten or time.monotonic() - self._written >= SIGN_OF_LIFE:
            self._write()

    def close(self) -> None:
        """Let go. Idempotent."""
        if self._lock >= 0:
            self._reader.close()
            os.close(self._lock)
            self._lock = -1

    def _next_batch(self) -> _Batch | None:
        batch = None
        made: list[ReadableSpan] = []
        size = 0
        while (
            len(made) < self._settings.batch and size < BATCH_BYTES and (record := self._next()) is not None
        ):
            end = (record.place[0], record.end)
            if batch is None:
                batch = _Batch(end)
            elif batch.end[0] != end[0]:
                break
            batch.end = end
            self._ahead.popleft()
            read = None if isinstance(record, Damage) else events.read(record.data)
            if isinstance(read, events.NamedResource):
                if self._spans.learn(read.id, read.attributes):
                    batch.resources[read.id] = read.attributes
            elif read is not None and read.spans:
                size += record.end - record.place[1]
                made.extend(self._made(read.spans, batch))
        if batch is not None:
            most = self._settings.batch
            batch.requests.extend(made[at : at + most] for at in range(0, len(made), most))
        return batch

    def _made(self, found: Sequence[Sequence[object]], batch: _Batch) -> Iterator[ReadableSpan]:
        for row in found:
            try:
                if self._keeps(row):
                    yield self._spans.span(row)
                else:
                    batch.unsampled += 1
            except NO_SPAN as error:
                self._counter.add(refused=1)
                self._counter.trouble(f"a span can't be sent: {type(error).__name__}: {error}")

    def _keeps(self, row: Sequence[object]) -> bool:
        origin = row[rows.ORIGIN] if len(row) > rows.ORIGIN else None
        return self._settings.sampler.keeps(
            str(row[rows.TRACE_ID]), origin if isinstance(origin, int) else None
        )

    def _next(self) -> Record | Damage | None:
        if not self._ahead:
            self._ahead.extend(self._read())
        return self._ahead[0] if self._ahead else None

    def _read(self) -> list[Record | Damage]:
        """What follows. Segments that were deleted before anyone looked at them are counted."""
        before = self._reader.place[0]
        gone = before not in (0, self._segment) and not segment_path(self.folder, before).exists()
        found = self._reader.read()
        if found:
            self._segment = found[0].place[0]
            self._counter.add(lost_segments=max(self._segment - before - 1, 0) + gone)
        return found

    def _send(self, batch: _Batch, sender: Sender) -> Away | None:
        """Send what is left of a batch. What is refused is halved until the span at fault is alone."""
        while batch.requests:
            spans = batch.requests[0]
            batch.sending = len(spans)
            answer = sender.send(spans)
            batch.sending = 0
            if self._batch is not batch:  # given up meanwhile
                taken = len(spans) if isinstance(answer, Sent) else 0
                self._counter.add(exported=taken, dropped=len(spans) - taken)
                return answer if isinstance(answer, Away) else None
            if isinstance(answer, Away):
                return answer
            if isinstance(answer, Refused) and answer.doubtful and batch.doubts < DOUBTS:
                batch.doubts += 1
                return Away(answer.reason)
            batch.requests.popleft()
            if isinstance(answer, Sent):
                rejected = min(answer.rejected, len(spans))
                self._counter.add(exported=len(spans) - rejected, rejected=rejected)
                if answer.message:
                    self._counter.trouble(f"the collector says: {answer.message}")
                batch.settled += len(spans)
                continue
            batch.refusals += 1
            if len(spans) > 1 and batch.refusals < REFUSALS:
                half = len(spans) // 2
                batch.requests.extendleft((spans[half:], spans[:half]))
            else:
                self._counter.add(refused=len(spans))
                self._counter.trouble(f"the collector refuses {len(spans)} spans: {answer.reason}")
                batch.settled += len(spans)
        return None

    def _settle(self, batch: _Batch) -> None:
        """All before the batch's end is done with."""
        self._batch = None
        self._counter.add(unsampled=batch.unsampled)
        position = self._position
        moved = batch.end[0] != position.segment
        position.segment, position.offset = batch.end
        position.resources.update(batch.resources)
        self._unwritten = True
        if moved or batch.settled:
            self._write()

    def _learn_and_count(self, record: Record | Damage) -> int:
        read = None if isinstance(record, Damage) else events.read(record.data)
        if isinstance(read, events.NamedResource):
            if self._spans.learn(read.id, read.attributes):
                self._position.resources[read.id] = read.attributes
            return 0
        return 0 if read is None else sum(map(self._counts, read.spans))

    def _counts(self, row: Sequence[object]) -> bool:
        try:
            return self._keeps(row)
        except NO_SPAN:
            return True

    def _write(self) -> None:
        """A position that can't be written costs no more than sending once more what stands after the old."""
        self._written = time.monotonic()
        self._unwritten = True
        with contextlib.suppress(OSError):
            positions.write(self.folder, self._position)
            self._unwritten = False
