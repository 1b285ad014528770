"""What became of the spans that were to be sent: counts that outlive the process, for doctor and metrics.

They stand in one file in the folder of spools, for all processes that serve this project on this disk;
`otlp_status` reads it. A process that is killed may have sent what it hadn't counted yet.
"""

from __future__ import annotations

import fcntl
import os
import time
from dataclasses import dataclass
from pathlib import Path

import msgspec

from flux.spool import folder as folders
from flux.spool import positions

FILE, LOCK = ".otlp.json", ".otlp.lock"


class Tally(msgspec.Struct):
    """Spans, by what became of them; since the file was made.

    Attributes:
        exported: the collector took them.
        rejected: it said that it took the request without them (partial success).
        refused: it refused the request for their sake, or they can't be encoded.
        dropped: skipped, because what waited took more room than it may.
        lost_segments: files deleted before their spans were looked at: nobody was sending.
        unsampled: left out by OTEL_TRACES_SAMPLER.
        endpoint: where they are sent. away: why they can't be sent just now, or None.
        last_export_ns: when the collector last took some; last_error, last_error_ns: the latest trouble.
    """

    exported: int = 0
    rejected: int = 0
    refused: int = 0
    dropped: int = 0
    lost_segments: int = 0
    unsampled: int = 0
    endpoint: str | None = None
    away: str | None = None
    last_export_ns: int | None = None
    last_error: str | None = None
    last_error_ns: int | None = None


@dataclass(frozen=True)
class OtlpStatus:
    """How sending does. `waiting`: bytes in files that only it still needs, over all spools."""

    tally: Tally
    waiting: int


def otlp_status(spool_dir: Path) -> OtlpStatus | None:
    """How the export of spans does; None where none was ever sent from here. Reads files, asks nobody.

    Args:
        spool_dir: `.flux/spool`.
    """
    tally = _read(spool_dir / FILE)
    if tally is None:
        return None
    waiting = 0
    for folder in folders.spools(spool_dir):
        position = positions.read(folder)
        if position is not None:
            waiting += positions.size(folder, positions.held(folder, position))
    return OtlpStatus(tally, waiting)


class Counter:
    """Counts in memory, and adds to the file now and then. For one process.

    Args:
        spool_dir: `.flux/spool`.
        endpoint: said in the file.
    """

    EVERY = 1.0
    """Seconds between two writes at least."""

    def __init__(self, spool_dir: Path, endpoint: str) -> None:
        self._folder = spool_dir
        self._new = Tally(endpoint=endpoint)
        self._written = 0.0

    def add(
        self,
        *,
        exported: int = 0,
        rejected: int = 0,
        refused: int = 0,
        dropped: int = 0,
        lost_segments: int = 0,
        unsampled: int = 0,
    ) -> None:
        """Count."""
        new = self._new
        new.exported += exported
        new.rejected += rejected
        new.refused += refused
        new.dropped += dropped
        new.lost_segments += lost_segments
        new.unsampled += unsampled
        if exported:
            new.last_export_ns = time.time_ns()
            new.away = None

    def trouble(self, error: str, *, away: bool = False) -> None:
        """Note what went wrong; `away`: nothing can be sent for now."""
        self._new.last_error = error
        self._new.last_error_ns = time.time_ns()
        self._new.away = error if away else self._new.away

    def flush(self, *, now: bool = False) -> None:
        """Add to the file what was counted, unless that was done a moment ago."""
        if not now and time.monotonic() - self._written < self.EVERY:
            return
        self._written = time.monotonic()
        try:
            self._add_to_file()
        except OSError:  # a full disk: counted later
            return
        self._new = Tally(endpoint=self._new.endpoint, away=self._new.away)

    def _add_to_file(self) -> None:
        lock = os.open(self._folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            path = self._folder / FILE
            there, new = _read(path) or Tally(), self._new
            temporary = path.with_suffix(".new")
            temporary.write_bytes(msgspec.json.encode(_sum(there, new)))
            temporary.replace(path)
        finally:
            os.close(lock)


def _sum(there: Tally, new: Tally) -> Tally:
    return Tally(
        there.exported + new.exported,
        there.rejected + new.rejected,
        there.refused + new.refused,
        there.dropped + new.dropped,
        there.lost_segments + new.lost_segments,
        there.unsampled + new.unsampled,
        new.endpoint,
        new.away,
        new.last_export_ns or there.last_export_ns,
        new.last_error or there.last_error,
        new.last_error_ns or there.last_error_ns,
    )


def _read(path: Path) -> Tally | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Tally)
    except (OSError, msgspec.DecodeError):
        return None
