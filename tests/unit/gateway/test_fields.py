"""Header fields that came more than once: joined, refused, or as none; never the last one."""

from __future__ import annotations

import pytest

from flux.gateway.fields import SINGLE, Repeated, by_name


def test_lists_are_joined_in_their_order() -> None:
    pairs = [("accept", "a"), ("cookie", "x=1"), ("accept", "b"), ("cookie", "y=2"), ("tracestate", "k=1")]
    assert by_name([*pairs, ("tracestate", "l=2")]) == {
        "accept": "a, b",
        "cookie": "x=1; y=2",
        "tracestate": "k=1, l=2",
    }


@pytest.mark.parametrize("name", sorted(SINGLE))
def test_a_field_that_decides_may_not_have_two_values(name: str) -> None:
    assert by_name([(name, "a"), ("accept", "b"), (name, "a")]) == {name: "a", "accept": "b"}
    with pytest.raises(Repeated, match=name):
        by_name([(name, "a"), (name, "b")])


@pytest.mark.parametrize("name", ["traceparent", "x-request-id"])
def test_several_ids_are_none(name: str) -> None:
    assert by_name([(name, "a"), ("accept", "b"), (name, "a")]) == {"accept": "b"}
