"""What `why` says of a failure beside its nearest success."""

from __future__ import annotations

from typing import Any

from flux.compare import compare
from flux.compare.telling import telling
from flux.shapes.record import CallFailure, Failure, Trace
from flux.shapes.why import Difference
from tests.unit.compare.traces import call, trace

BROKEN = Failure(type="Error", message="")


def test_input_comes_first_then_calls_then_the_outcome() -> None:
    a = trace(input={"qty": 1}, calls=[call(1, "db.sql", {"text": "a"}, {"count": 1})])
    b = trace(
        input={"qty": 0}, calls=[call(1, "db.sql", {"text": "a"}, {"count": 0})], status=500, error=BROKEN
    )
    assert telling(compare(a, b)) == [
        Difference(where="input", field="input.qty", a=1, b=0),
        Difference(where="call 1", field="result.count", a=1, b=0),
        Difference(where="outcome", field="outcome", a="ok", b="error"),
    ]


def test_a_list_given_as_input_is_indexed_without_a_dot() -> None:
    (found, *_) = telling(compare(trace(input=[1]), trace(input=[2])))
    assert found.field == "input[0]"


def test_what_differs_between_successes_too_is_passed_over() -> None:
    def paid(reference: str, card: str, items: list[str], result: Any) -> Trace:
        payload = {"reference": reference, "items": items, "card": {"token": card}}
        return trace(input=payload, calls=[call(1, "invoke", {"name": "pay", "payload": payload}, result)])

    first = paid("1", "ok", ["tea", "pen"], {"paid": True})
    last = paid("2", "ok", ["cup", "tea"], {"paid": True})
    failed = paid("3", "bad", ["pot", "cup"], {"paid": False})
    found = telling(compare(last, failed), compare(first, last))
    assert [each.field for each in found] == [
        "input.card.token",
        "arguments.payload.card.token",
        "result.paid",
    ]


def test_where_nothing_telling_differs_all_that_differs_is_said() -> None:
    one, two, three = (trace(input={"reference": n}) for n in (1, 2, 3))
    assert telling(compare(two, three), compare(one, two)) == [
        Difference(where="input", field="input.reference", a=2, b=3)
    ]


def test_an_error_is_told_without_the_result_that_is_missing() -> None:
    broken = CallFailure(type="ConnectError", message="refused")
    a = trace(calls=[call(1, "fetch", {}, {"status": 200})])
    b = trace(calls=[call(1, "fetch", {}, error=broken)])
    assert [found.field for found in telling(compare(a, b))] == ["error"]


def test_what_follows_a_failed_call_is_no_difference_of_its_own() -> None:
    broken = CallFailure(type="unique_violation", message="duplicate key")
    a = trace(
        calls=[call(1, "db.sql", {"text": "insert"}, {"count": 1}), call(2, "queue.push", {"name": "j"})]
    )
    b = trace(calls=[call(1, "db.sql", {"text": "insert"}, error=broken)])
    assert [(found.where, found.field) for found in telling(compare(a, b))] == [("call 1", "error")]
