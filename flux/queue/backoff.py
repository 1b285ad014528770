"""How long a failed job waits before its next attempt: exponential, jittered so that they spread out."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """Delay before attempt n+1: `first * factor^(n-1)` seconds, at most `longest`; half of it is jitter.

    ("Equal jitter", https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/.)

    Attributes:
        first, factor, longest: of the exponential, seconds.
        random: uniform in [0, 1).
    """

    first: float = 1.0
    factor: float = 2.0
    longest: float = 300.0
    random: Callable[[], float] = random.random

    def delay(self, attempt: int) -> float:
        """Seconds to wait after attempt number `attempt` (from 1) failed."""
        exponent = min(attempt - 1, 64)
        return min(self.longest, self.first * self.factor**exponent) * (0.5 + self.random() / 2)
