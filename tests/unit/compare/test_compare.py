"""What differs between two executions, and which difference explains the rest."""

from __future__ import annotations

import random
import time
import uuid

import pytest
from msgspec import structs

from flux.compare import compare
from flux.shapes.record import CallFailure, Failure, Json, Trace
from tests.unit.compare.traces import call, insert, row, span, sql, trace


def changes(differences: list) -> list[tuple[str, str]]:
    return [(each.op, each.change) for each in differences]


def fields(differences: list) -> dict[str, str]:
    return {each.field: each.change for each in differences}


def test_an_execution_does_not_differ_from_itself() -> None:
    one = trace(input={"a": 1}, calls=[sql(1, "select 1")], spans=[span("1", None, "POST /orders")])
    found = compare(one, one)
    assert found.identical
    assert found.first_difference is None
    assert found.verdict == "Nothing differs but ids and times."


def test_all_differing_fields_of_the_inputs_are_named_vanished_keys_too() -> None:
    a = trace(input={"order": {"lines": [{"n": 1}, {"n": 2}], "gone": 1}, "same": True, "nothing": None})
    b = trace(input={"order": {"lines": [{"n": 1}, {"n": 3}]}, "same": True, "new": None})
    found = compare(a, b)
    assert fields(found.inputs) == {
        "order.lines[1].n": "changed",
        "order.gone": "missing",
        "nothing": "missing",
        "new": "added",
    }
    assert found.first_difference is not None
    assert (found.first_difference.where, found.first_difference.field) == ("input", "order.lines[1].n")
    assert (found.first_difference.a, found.first_difference.b) == (2, 3)


def test_a_line_put_in_at_the_front_is_one_difference() -> None:
    lines = [{"sku": name, "n": 1} for name in "abc"]
    found = compare(trace(input={"lines": lines}), trace(input={"lines": [{"sku": "x", "n": 9}, *lines]}))
    assert fields(found.inputs) == {"lines[0]": "added"}


def test_a_call_put_in_the_middle_leaves_the_others_alone() -> None:
    a = trace(calls=[sql(1, "select 1"), sql(2, "select 2"), sql(3, "select 3")])
    b = trace(calls=[sql(1, "select 1"), sql(2, "select 9"), sql(3, "select 2"), sql(4, "select 3")])
    found = compare(a, b)
    assert changes(found.calls) == [("db.sql", "added")]
    assert found.first_difference is not None
    assert found.first_difference.where == "call 2"


def test_a_call_left_out_is_missing() -> None:
    a = trace(calls=[sql(1, "select 1"), call(2, "fetch", {"method": "GET", "url": "http://x/a"})])
    b = trace(calls=[sql(1, "select 1")])
    found = compare(a, b)
    assert changes(found.calls) == [("fetch", "missing")]
    assert "missing in the second" in found.verdict


def test_calls_in_another_order_are_told_as_that() -> None:
    first, second = call(1, "secrets.get", {"key": "A"}), call(2, "secrets.get", {"key": "B"})
    a = trace(calls=[first, second, sql(3, "select 1")])
    b = trace(
        calls=[call(1, "secrets.get", {"key": "B"}), call(2, "secrets.get", {"key": "A"}), sql(3, "select 1")]
    )
    found = compare(a, b)
    assert [each.change for each in found.calls] == ["reordered"]


def test_changed_sql_is_one_changed_call_not_one_less_and_one_more() -> None:
    a = trace(calls=[sql(1, "select price from items where id = $1", ["7"])])
    b = trace(calls=[sql(1, "select price * 2 from items where id = $1", ["7"])])
    found = compare(a, b)
    assert changes(found.calls) == [("db.sql", "changed")]
    assert fields(found.calls[0].fields) == {"arguments.text": "changed"}


def test_generated_ids_are_names_that_stand_for_each_other_throughout() -> None:
    def run(identity: int, token: str) -> Trace:
        return trace(
            input={"email": "ada"},
            output={"id": str(identity), "token": token},
            calls=[
                insert(
                    1,
                    "users",
                    {"email": "ada@example.com"},
                    {"id": str(identity), "email": "ada@example.com"},
                ),
                sql(2, "update users set token = $2 where id = $1", [str(identity), token]),
            ],
            mutations=[
                row(
                    1, "users", "INSERT", {"id": identity}, None, {"id": identity, "email": "ada@example.com"}
                ),
                row(
                    2, "users", "UPDATE", {"id": identity}, {"id": identity}, {"id": identity, "token": token}
                ),
            ],
        )

    assert compare(run(7, str(uuid.uuid4())), run(812, str(uuid.uuid4()))).identical


def test_another_row_than_the_one_made_is_a_difference() -> None:
    def run(identity: int, updated: int) -> Trace:
        return trace(
            calls=[
                insert(1, "users", {"email": "a"}, {"id": str(identity)}),
                sql(2, "update users set x = 1 where id = $1", [str(updated)]),
            ],
            mutations=[row(1, "users", "INSERT", {"id": identity}, None, {"id": identity, "email": "a"})],
        )

    found = compare(run(7, 7), run(8, 9))
    assert not found.identical
    assert fields(found.calls[0].fields) == {"arguments.params[0]": "changed"}


def test_a_quantity_that_differs_is_never_taken_for_a_new_name() -> None:
    a = trace(calls=[insert(1, "lines", {"qty": 3}, {"id": "1", "qty": 3})], output={"qty": 3})
    b = trace(calls=[insert(1, "lines", {"qty": 4}, {"id": "2", "qty": 4})], output={"qty": 4})
    found = compare(a, b)
    assert "arguments.data.qty" in fields(found.calls[0].fields)
    assert fields(found.output.fields) == {"qty": "changed"}


def test_what_an_input_brought_in_is_said_to_come_from_it() -> None:
    a = trace(input={"email": "ada@example.com"}, calls=[sql(1, "select $1", ["ada@example.com"])])
    b = trace(input={"email": "bob@example.com"}, calls=[sql(1, "select $1", ["bob@example.com"])])
    found = compare(a, b)
    assert found.calls[0].fields[0].because == "input.email"
    assert found.first_difference is not None
    assert found.first_difference.where == "input"


def test_what_no_input_explains_comes_first_among_the_calls() -> None:
    a = trace(calls=[sql(1, "select 1", rows=[{"stock": 5}]), sql(2, "update x", [5])])
    b = trace(calls=[sql(1, "select 1", rows=[{"stock": 0}]), sql(2, "update x", [0])])
    found = compare(a, b)
    assert found.first_difference is not None
    assert found.first_difference.where == "call 1"
    assert found.first_difference.field == "result.rows[0].stock"


def test_an_error_that_one_call_met_is_the_first_difference() -> None:
    broken = CallFailure(type="unique_violation", message="duplicate key")
    a = trace(calls=[sql(1, "insert into users values (1)")])
    b = trace(
        calls=[call(1, "db.sql", {"text": "insert into users values (1)", "params": []}, None, broken)],
        status=500,
        error=Failure(type="unique_violation", message="duplicate key"),
    )
    found = compare(a, b)
    assert found.first_difference is not None
    assert found.first_difference.where == "call 1"
    assert found.first_difference.field == "error"
    assert "200 became 500 (unique_violation)" in found.verdict


def test_rows_that_differ_are_told_by_column() -> None:
    a = trace(mutations=[row(1, "orders", "UPDATE", {"id": 1}, {"total": 5}, {"total": 6})])
    b = trace(mutations=[row(1, "orders", "UPDATE", {"id": 1}, {"total": 5}, {"total": 7})])
    found = compare(a, b)
    assert fields(found.mutations[0].fields) == {"after.total": "changed"}


def test_a_row_that_only_one_changed_is_missing_or_added() -> None:
    changed = row(1, "orders", "DELETE", {"id": 1}, {"id": 1}, None)
    assert [each.change for each in compare(trace(mutations=[changed]), trace()).mutations] == ["missing"]
    assert [each.change for each in compare(trace(), trace(mutations=[changed])).mutations] == ["added"]


def test_rows_changed_in_another_order_are_told_as_that() -> None:
    one, two = (row(at, "orders", "DELETE", {"id": at}, {"id": at}, None) for at in (1, 2))
    found = compare(trace(mutations=[one, two]), trace(mutations=[two, one]))
    assert [each.change for each in found.mutations] == ["reordered"]


def test_spans_are_compared_as_trees() -> None:
    a = [span("1", None, "POST"), span("2", "1", "orders"), span("3", "2", "price"), span("4", "2", "pay")]
    b = [
        span("1", None, "POST"),
        span("2", "1", "orders"),
        span("3", "2", "price"),
        span("5", "2", "discount"),
        span("6", "2", "pay"),
    ]
    found = compare(trace(spans=a), trace(spans=b))
    assert [(each.name, each.change) for each in found.spans] == [("discount", "added")]
    assert not found.identical


def test_times_are_no_difference_and_a_slow_span_is_told_apart() -> None:
    found = compare(trace(spans=[span("1", None, "pay", 3.0)]), trace(spans=[span("9", None, "pay", 300.0)]))
    assert found.identical
    assert [(pace.name, pace.a, pace.b) for pace in found.durations] == [("pay", 3.0, 300.0)]
    assert "took 3 ms, then 300 ms" in found.verdict


def test_other_code_is_named_first_where_the_inputs_are_the_same() -> None:
    found = compare(trace(output=1), trace(output=2, deployment="d2"))
    assert found.first_difference is not None
    assert found.first_difference.where == "deployment"
    assert not found.identical


def test_true_is_not_one_and_numbers_are_compared_by_value() -> None:
    assert fields(compare(trace(input={"a": 1}), trace(input={"a": True})).inputs) == {"a": "changed"}
    assert compare(trace(input={"a": 1}), trace(input={"a": 1.0})).inputs == []


def test_names_that_are_no_plain_words_stand_in_brackets() -> None:
    found = compare(trace(input={"a b": {"c.d": 1}}), trace(input={"a b": {"c.d": 2}}))
    assert fields(found.inputs) == {'["a b"]["c.d"]': "changed"}


@pytest.mark.parametrize("size", [3_000])
def test_thousands_of_calls_of_one_kind_are_compared_in_a_second(size: int) -> None:
    rng = random.Random(1)
    calls = [sql(at, "select * from items where id = $1", [rng.randint(1, 50)]) for at in range(1, size)]
    fewer = [each for each in calls if each.seq % 100]
    began = time.process_time()
    found = compare(trace(calls=calls), trace(calls=fewer))
    assert {each.change for each in found.calls} <= {"missing", "changed"}
    assert time.process_time() - began < 10


def test_two_missing_optional_names_do_not_hide_a_difference_of_types() -> None:
    assert fields(compare(trace(output={"id": "7"}), trace(output={"id": None})).output.fields) == {
        "id": "changed"
    }


def test_a_quantity_is_no_name_though_its_digits_are_those_of_an_id() -> None:
    def run(identity: int, qty: int) -> Trace:
        return trace(
            calls=[insert(1, "orders", {}, {"id": str(identity), "qty": qty})],
            mutations=[row(1, "orders", "INSERT", {"id": identity}, None, {"id": identity, "qty": qty})],
            output={"order_id": identity, "qty": qty},
        )

    found = compare(run(1, 1), run(2, 2))
    assert fields(found.output.fields) == {"qty": "changed"}


def test_a_replay_from_the_record_is_compared_by_what_the_function_did() -> None:
    made = row(1, "users", "INSERT", {"id": 1}, None, {"id": 1})
    original = trace(
        "a" * 32,
        calls=[insert(1, "users", {}, {"id": "1"})],
        mutations=[made],
        spans=[span("1", None, "POST /users"), span("2", "1", "INSERT users")],
    )
    replayed = structs.replace(
        trace("b" * 32, calls=[insert(1, "users", {}, {"id": "1"})], spans=[span("9", None, "replay users")]),
        replay_of="a" * 32,
    )
    assert compare(original, replayed).identical
    assert compare(replayed, original).identical
    other = structs.replace(replayed, host_calls=[insert(1, "users", {"name": "x"}, {"id": "1"})])
    assert not compare(original, other).identical


def test_halves_of_surrogate_pairs_and_deep_values_are_compared() -> None:
    deep: Json = 1
    for _ in range(290):
        deep = {"a": [deep]} if isinstance(deep, int) else [deep]
    for value in ("half \ud83d", {"\udc00": "x"}, deep):
        one, other = ([value, 1], [value, 2, 3])
        found = compare(
            trace(input=one, calls=[sql(1, "select 1", [value], [value])], output=one),
            trace(input=other, calls=[sql(1, "select 2", [value, value], [value, value])], output=[other]),
        )
        assert not found.identical
        assert found.verdict
