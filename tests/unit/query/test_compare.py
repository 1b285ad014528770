"""Where two executions of one function part."""

from __future__ import annotations

from typing import Any

import pytest

from flux.query import Difference
from flux.query.compare import MOST, differences, walk
from tests.unit.cli.shapes import call, error, trace


@pytest.mark.parametrize(
    ("a", "b", "found"),
    [
        ({"x": 1}, {"x": 1}, []),
        ({"x": 1}, {"x": 2}, [("x", 1, 2)]),
        ({"u": {"mail": "a"}}, {"u": {"mail": "b"}}, [("u.mail", "a", "b")]),
        ({"i": [1, {"q": 2}]}, {"i": [1, {"q": 3}]}, [("i[1].q", 2, 3)]),
        ([1], [1, 2], [("[1]", None, 2)]),
        ({"x": 1, "gone": 2}, {"x": 1}, [("gone", 2, None)]),
        ({"x": 1}, {"x": True}, [("x", 1, True)]),
        ({"x": 1}, {"x": 1.0}, []),
        ("text", {"x": 1}, [("", "text", {"x": 1})]),
        (None, None, []),
    ],
)
def test_walk_names_each_place_in_which_values_differ(a: Any, b: Any, found: list[Any]) -> None:
    assert list(walk(a, b)) == found


def test_equal_executions_do_not_differ() -> None:
    a = trace(host_calls=[call(1, "clock.now", {}, 1)])
    b = trace(host_calls=[call(1, "clock.now", {}, 1, at="later", xid="9", span_id="zz")])
    assert differences(a, b) == []


def test_input_comes_first_then_calls_then_the_outcome() -> None:
    a = trace(input={"qty": 1}, host_calls=[call(1, "db.sql", {"text": "a"}, {"count": 1})])
    b = trace(
        input={"qty": 0},
        host_calls=[call(1, "db.sql", {"text": "a"}, {"count": 0})],
        outcome="error",
        status=500,
    )
    assert differences(a, b) == [
        Difference(where="input", field="input.qty", a=1, b=0),
        Difference(where="call 1", field="result.count", a=1, b=0),
        Difference(where="outcome", field="outcome", a="ok", b="error"),
    ]


def test_a_list_given_as_input_is_indexed_without_a_dot() -> None:
    (found, *_) = differences(trace(input=[1]), trace(input=[2]))
    assert found.field == "input[0]"


def test_what_differs_between_successes_too_is_passed_over() -> None:
    def paid(reference: str, card: str, items: list[str], result: Any) -> Any:
        payload = {"reference": reference, "items": items, "card": {"token": card}}
        return trace(input=payload, host_calls=[call(1, "invoke", {"payload": payload}, result)])

    first = paid("1", "ok", ["tea"], {"paid": True})
    last = paid("2", "ok", ["cup", "tea"], {"paid": True})
    failed = paid("3", "bad", ["pot", "cup"], {"paid": False})
    assert differences(last, failed, first) == [
        Difference(where="input", field="input.card.token", a="ok", b="bad"),
        Difference(where="call 1", field="arguments.payload.card.token", a="ok", b="bad"),
    ]


def test_where_nothing_telling_differs_all_that_differs_is_said() -> None:
    one, two, three = (trace(input={"reference": n}) for n in (1, 2, 3))
    assert differences(two, three, one) == [Difference(where="input", field="input.reference", a=2, b=3)]


def test_after_they_part_nothing_is_compared() -> None:
    a = trace(host_calls=[call(1, "db.sql", {}), call(2, "fetch", {"url": "x"})])
    b = trace(host_calls=[call(1, "fetch", {}), call(2, "fetch", {"url": "y"})])
    assert differences(a, b) == [Difference(where="call 1", field="op", a="db.sql", b="fetch")]


@pytest.mark.parametrize("more", ["a", "b"])
def test_a_call_that_only_one_made_is_named(more: str) -> None:
    one, two = trace(host_calls=[call(1, "random", {})]), trace()
    found = differences(one, two) if more == "a" else differences(two, one)
    a, b = ("random", None) if more == "a" else (None, "random")
    assert found == [Difference(where="call 1", field="op", a=a, b=b)]


def test_an_error_is_told_before_the_result_that_is_missing() -> None:
    broken = error("ConnectError", "refused")
    a = trace(host_calls=[call(1, "fetch", {}, {"status": 200})])
    b = trace(host_calls=[call(1, "fetch", {}, error=broken)])
    assert [found.field for found in differences(a, b)] == ["error"]


def test_a_long_list_is_not_told_in_full() -> None:
    a = trace(host_calls=[call(seq, "random", {}, 0) for seq in range(1, 100)])
    b = trace(host_calls=[call(seq, "random", {}, 1) for seq in range(1, 100)])
    assert len(differences(a, b)) == MOST
