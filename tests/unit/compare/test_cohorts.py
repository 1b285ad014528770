"""What separates failing executions from passing ones."""

from __future__ import annotations

import random

from flux.compare.cohorts import separate
from flux.shapes.record import CallFailure
from tests.unit.compare.traces import call, sql, trace


def test_a_field_of_the_input_that_only_failures_have_comes_first() -> None:
    rng = random.Random(7)
    bad = [trace(input={"email": f"{rng.random()}@x", "coupon": "SUMMER"}) for _ in range(12)]
    good = [trace(input={"email": f"{rng.random()}@x"}) for _ in range(80)]
    found = separate(bad, good)
    assert (found.bad, found.good) == (12, 80)
    assert found.separators[0].test == "input.coupon is there"
    assert (found.separators[0].bad, found.separators[0].good) == (12, 0)
    assert found.separators[0].bits == 1.0


def test_the_input_is_told_before_the_call_that_it_led_to() -> None:
    failure = CallFailure(type="TimeoutError", message="")
    slow = call(1, "fetch", {"method": "GET", "url": "http://eu/x"}, None, failure)
    bad = [trace(input={"region": "eu"}, calls=[slow]) for _ in range(5)]
    good = [trace(input={"region": "us"}, calls=[sql(1, "select 1")]) for _ in range(5)]
    assert separate(bad, good).separators[0].test == 'input.region = "eu"'


def test_a_number_above_a_place_separates() -> None:
    bad = [trace(input={"n": n}) for n in (101, 150, 180, 230, 999)]
    good = [trace(input={"n": n}) for n in range(0, 100, 7)]
    assert separate(bad, good).separators[0].test == "input.n > 98"


def test_the_failing_call_is_found_where_the_inputs_tell_nothing() -> None:
    failure = CallFailure(type="deadlock_detected", message="")
    bad = [trace(calls=[call(1, "db.sql", {"text": "update stock"}, None, failure)]) for _ in range(3)]
    good = [trace(calls=[sql(1, "update stock")]) for _ in range(30)]
    found = separate(bad, good)
    assert found.separators[0].test == "db.sql update stock fails with deadlock_detected"


def test_what_is_true_of_both_alike_is_not_told() -> None:
    everyone = [trace(input={"a": at % 2, "plan": "pro"}) for at in range(40)]
    assert separate(everyone[:20], everyone[20:]).separators == []


def test_without_one_of_the_cohorts_nothing_separates() -> None:
    assert separate([], [trace(input=1)]).separators == []
    assert separate([trace(input=1)], []).separators == []
