"""Whether a spool stays flat under load: sampled several times a second while a server is loaded."""

from __future__ import annotations

import statistics
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from flux.spool.frames import segment_path, segments
from flux.spool.waiting import word

EVERY = 0.25
"""Seconds between two looks. Two segments of 64 MiB are never filled in that time."""
SETTLING = 2.0
"""Seconds at the beginning that are not looked at: the backlog goes from nothing to what it stays at."""
ENOUGH = 20.0
"""Seconds after which a slope means anything."""
FLAT = 0.02
"""Part of what is written that may stay behind."""


@dataclass(frozen=True)
class SpoolUnderLoad:
    """What was seen.

    Attributes:
        disk: most bytes of spool files on disk at once. behind: most bytes that Postgres did not have yet.
        slope: bytes a second by which that backlog grew, by least squares. written: bytes a second appended.
        seconds: how long it was looked at.
    """

    disk: float
    behind: float
    slope: float
    written: float
    seconds: float

    @property
    def flat(self) -> bool | None:
        """Whether the drain kept up; None where that was too short to say."""
        return None if self.seconds < ENOUGH else self.slope <= FLAT * self.written


class SpoolWatch:
    """Looks at all spools of a folder while it is entered. `result` afterwards."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._sizes: dict[Path, int] = {}
        self._samples: list[tuple[float, int, int]] = []

    def __enter__(self) -> Self:
        self._look()
        self._before = sum(self._sizes.values())
        self._began = time.monotonic()
        self._samples.clear()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        self._thread.join()
        self._look()

    @property
    def result(self) -> SpoolUnderLoad:
        """What was seen."""
        seconds = self._samples[-1][0] - self._began
        settled = [(at, behind) for at, _, behind in self._samples if at - self._began > SETTLING]
        slope = 0.0
        if len(settled) > 2:
            slope = statistics.linear_regression(*zip(*settled, strict=True)).slope
        return SpoolUnderLoad(
            disk=max(disk for _, disk, _ in self._samples),
            behind=max(behind for _, _, behind in self._samples),
            slope=slope,
            written=(sum(self._sizes.values()) - self._before) / seconds,
            seconds=seconds,
        )

    def _run(self) -> None:
        while not self._end.wait(EVERY):
            self._look()

    def _look(self) -> None:
        disk = behind = 0
        for folder in self._folder.glob("*/"):
            segment, offset = word(folder)
            for number in segments(folder):
                path = segment_path(folder, number)
                try:
                    size = path.stat().st_size
                except FileNotFoundError:
                    continue
                self._sizes[path] = max(size, self._sizes.get(path, 0))
                disk += size
                if number >= segment:
                    behind += max(0, size - offset) if number == segment else size
        self._samples.append((time.monotonic(), disk, behind))
