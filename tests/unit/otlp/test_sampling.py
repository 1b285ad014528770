"""The decision to send a span: the SDK's own, made from the record."""

from __future__ import annotations

import random

import pytest
from opentelemetry.sdk.trace.sampling import TraceIdRatioBased

from flux.otlp.sampling import sampler

SAMPLED, UNSAMPLED = 0x01, 0x00


@pytest.mark.parametrize(
    ("name", "here", "of_sampled", "of_unsampled"),
    [
        (None, True, True, False),
        ("always_on", True, True, True),
        ("always_off", False, False, False),
        ("parentbased_always_on", True, True, False),
        ("parentbased_always_off", False, True, False),
    ],
)
def test_who_decides(name: str | None, here: bool, of_sampled: bool, of_unsampled: bool) -> None:
    made, wrong = sampler(name, None)
    assert wrong == []
    ids = ["0" * 31 + "1", "f" * 32]
    assert [made.keeps(one, None) for one in ids] == [here, here]
    assert [made.keeps(one, SAMPLED | 0x100) for one in ids] == [of_sampled, of_sampled]
    assert [made.keeps(one, UNSAMPLED | 0x100) for one in ids] == [of_unsampled, of_unsampled]


@pytest.mark.parametrize("ratio", ["0", "0.1", "0.5", "1", "1e-3"])
def test_a_ratio_keeps_the_traces_that_the_sdk_would(ratio: str) -> None:
    made, _ = sampler("traceidratio", ratio)
    theirs = TraceIdRatioBased(float(ratio))
    numbers = random.Random(1)
    for _ in range(2000):
        trace_id = numbers.getrandbits(128)
        expected = theirs.should_sample(None, trace_id, "n").decision.is_sampled()
        assert made.keeps(f"{trace_id:032x}", None) == expected


@pytest.mark.parametrize("argument", ["half", "-0.1", "1.1", "nan"])
def test_a_ratio_that_is_none_is_named_and_all_is_kept(argument: str) -> None:
    made, wrong = sampler("parentbased_traceidratio", argument)
    assert made.keeps("f" * 32, None)
    assert [name for name, _, _ in wrong] == ["OTEL_TRACES_SAMPLER_ARG"]
