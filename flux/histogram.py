"""How often something took how long: plain integers, cheap enough for a request's way. Read by metrics."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

HTTP = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
"""The boundaries that OpenTelemetry advises for HTTP durations, seconds."""
WAITS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0)
"""Those for a database client's waits, seconds."""


class Histogram:
    """Counts by bucket.

    Attributes:
        bounds: upper bounds of the buckets, ascending; one more, without bound, follows them.
        counts: what fell into each bucket. total: the sum of all values.
    """

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def add(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value
