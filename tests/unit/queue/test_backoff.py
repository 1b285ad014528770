"""The wait between attempts."""

from __future__ import annotations

import pytest

from flux.queue.backoff import Backoff


@pytest.mark.parametrize(
    ("attempt", "seconds"), [(1, 1.0), (2, 2.0), (3, 4.0), (9, 256.0), (10, 300.0), (10**6, 300.0)]
)
def test_it_doubles_up_to_the_longest(attempt: int, seconds: float) -> None:
    assert Backoff(random=lambda: 1.0).delay(attempt) == seconds


def test_half_of_it_is_jitter() -> None:
    assert Backoff(random=lambda: 0.0).delay(3) == 2.0
    assert Backoff(random=lambda: 0.5).delay(3) == 3.0
