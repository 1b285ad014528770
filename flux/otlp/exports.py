"""All spools of a folder on their way to a collector: the own one while it is written, and those that dead
servers left. Run by `flux.app.otlp`, in a process of its own, for a request to a collector blocks.
"""

from __future__ import annotations

import logging
import random
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from opentelemetry.sdk.trace import ReadableSpan

from flux.errors import SpoolError
from flux.otlp.sender import Answer, Away, Sender
from flux.otlp.settings import Settings
from flux.otlp.spans import Spans
from flux.otlp.spool_export import SpoolExport
from flux.otlp.tally import Counter
from flux.spool import folder as folders
from flux.spool import positions
from flux.spool.frames import DRAINED

log = logging.getLogger("flux.otlp")

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0
"""Seconds before a collector that is away is tried again: twice as long each time."""
LOOK = 0.1
"""Seconds between two looks at how much waits, while the collector keeps it waiting."""
SAY_AGAIN = 60.0
"""Seconds before it is said again that spans are dropped."""


class Exports:
    """Sends the spans of one folder's spools. For one thread.

    Args:
        spool_dir: `.flux/spool`. own: the id of the spool that this server writes. settings: what is sent,
        and how. sender: sends it. limit: bytes that may be kept on disk for the sake of sending alone;
        never more than the disk has free. free: bytes that the disk has free.
    """

    def __init__(
        self,
        spool_dir: Path,
        own: str,
        settings: Settings,
        sender: Sender,
        *,
        limit: int,
        free: Callable[[Path], int] = lambda path: shutil.disk_usage(path).free,
    ) -> None:
        self._spool_dir = spool_dir
        self._own = own
        self._settings = settings
        self._sender = sender
        self._thread = ThreadPoolExecutor(1, "otlp")
        self._limit = limit
        self._free = free
        self._spans = Spans(settings.limits)
        self._counter = Counter(spool_dir, settings.endpoint)
        self._spools: dict[str, SpoolExport] = {}
        self._refused: set[str] = set()
        self._away: str | None = None
        self._said = -SAY_AGAIN

    def run(self, stop: threading.Event) -> None:
        """Send until `stop` is set; while the collector is away, try again after longer and longer pauses."""
        pause = FIRST_PAUSE
        self._counter.flush(now=True)
        while not stop.is_set():
            away = self.once(stop)
            if away is None:
                pause = FIRST_PAUSE
                stop.wait(self._settings.delay)
                continue
            until = time.monotonic() + max(pause * random.uniform(0.8, 1.2), away.after)
            pause = min(pause * 2, LONGEST_PAUSE)
            while not stop.is_set() and (left := until - time.monotonic()) > 0:
                stop.wait(min(left, LOOK))
                self._bound()
                self._flush()

    def finish(self, seconds: float) -> None:
        """The server is gone: send what is left, unless the collector is away. What remains is the next
        server's.
        """
        deadline = time.monotonic() + seconds
        late = threading.Event()
        while time.monotonic() < deadline:
            if self.once(late) is not None or self._own not in self._spools:
                break
            late.wait(0.02)

    def once(self, stop: threading.Event) -> Away | None:
        """Send all there is now, a batch of each spool in turn; Away where the collector takes no more."""
        self._look()
        away = None
        more = True
        while more and away is None and not stop.is_set():
            self._bound()
            more = False
            for name, spool in list(self._spools.items()):
                went = spool.advance(self)
                if isinstance(went, Away):
                    away = went
                    break
                more = more or went
                if spool.finished:
                    self._forget(name)
                    folders.retire(spool.folder)
            self._counter.flush()
        self._note(away)
        self._flush()
        return away

    def send(self, spans: Sequence[ReadableSpan]) -> Answer:
        """Send one request in a thread, keeping an eye on what piles up meanwhile."""
        answer = self._thread.submit(self._sender.send, spans)
        while True:
            try:
                return answer.result(LOOK)
            except TimeoutError:
                self._bound()
                self._flush()

    def close(self) -> None:
        """Write down how far it is and let go. Idempotent."""
        for name in list(self._spools):
            self._spools[name].flush()
            self._forget(name)
        self._counter.flush(now=True)

    def _look(self) -> None:
        """Take on spools that nobody sends; forget those that are gone."""
        found = {folder.name: folder for folder in folders.spools(self._spool_dir)}
        for gone in self._spools.keys() - found.keys():
            self._forget(gone)
        for name, folder in found.items():
            if name in self._spools:
                continue
            position = positions.read(folder)
            if position is None:
                continue
            if position.finished:
                if (folder / DRAINED).exists():
                    folders.retire(folder)
                continue
            self._take(folder)

    def _take(self, folder: Path) -> None:
        try:
            folders.verify(folder)
        except SpoolError as error:
            if folder.name not in self._refused:
                self._refused.add(folder.name)
                log.warning("%s", error.message)
            return
        lock = positions.claim(folder)
        if lock is None:
            return
        spool = SpoolExport(
            folder,
            lock,
            positions.read(folder) or positions.Position(self._limit),
            self._settings,
            self._spans,
            self._counter,
        )
        self._spools[folder.name] = spool

    def _bound(self) -> None:
        """Skip ahead where what waits takes more room than it may, the oldest first."""
        held = [(spool, *kept) for spool in self._spools.values() for kept in spool.held()]
        total = sum(size for _, _, size in held)
        if not total:
            return
        room = min(self._limit, self._free(self._spool_dir))
        dropped = 0
        for spool, segment, size in held:
            if total <= room:
                break
            dropped += spool.skip(segment)
            total -= size
        if dropped:
            self._counter.add(dropped=dropped)
            if time.monotonic() - self._said >= SAY_AGAIN:
                self._said = time.monotonic()
                log.warning(
                    "%d spans were dropped: what waits for the collector takes more than %d bytes (%s). "
                    "The record is whole.",
                    dropped,
                    room,
                    "`otlp_limit`" if room == self._limit else "what its disk has free",
                )

    def _note(self, away: Away | None) -> None:
        reason = None if away is None else away.reason
        if away is not None:
            self._counter.trouble(away.reason, away=True)
        if (reason is None) != (self._away is None):
            if reason is None:
                log.warning("the collector at %s takes spans again", self._settings.endpoint)
            else:
                log.warning("spans wait for the collector at %s: %s", self._settings.endpoint, reason)
        self._away = reason

    def _flush(self) -> None:
        for spool in self._spools.values():
            spool.flush()
        self._counter.flush()

    def _forget(self, name: str) -> None:
        self._spools.pop(name).close()
