"""What a job says of where it came from."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from flux.queue.job import Job


def job(traceparent: str | None) -> Job:
    return Job("a" * 32, "f", b"null", 1, 5, None, traceparent, datetime.now(UTC))


def test_it_links_to_the_span_that_pushed_it() -> None:
    (link,) = job(f"00-{1:032x}-{2:016x}-01").links()
    assert (link.context.trace_id, link.context.span_id) == (1, 2)


@pytest.mark.parametrize("traceparent", [None, "", "nonsense", f"00-{0:032x}-{2:016x}-01"])
def test_it_links_to_nothing_where_no_span_is_known(traceparent: str | None) -> None:
    assert job(traceparent).links() == []
