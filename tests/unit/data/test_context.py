"""The context that goes to the capture triggers."""

from __future__ import annotations

import pytest

from flux.data import context


def test_only_ids_and_days_may_enter_a_simple_query() -> None:
    assert context.context("0" * 32, "2024-01-01") == "0" * 32 + "|2024-01-01"
    for request_id, day in [
        ("'; drop", "2024-01-01"),
        ("0" * 32, "today"),
        ("0" * 31, "2024-01-01"),
        ("", ""),
    ]:
        with pytest.raises(ValueError):
            context.context(request_id, day)


def test_the_prefix_is_a_bind_and_an_execute_without_sync() -> None:
    data = context.prefix("0" * 32 + "|2024-01-01")
    kinds, at = [], 0
    while at < len(data):
        kinds.append(chr(data[at]))
        at += 1 + int.from_bytes(data[at + 1 : at + 5], "big")
    assert (kinds, at) == (["B", "E"], len(data))
