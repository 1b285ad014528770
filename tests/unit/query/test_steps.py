"""An execution in steps: their order, the rows of each, the lines of code they stand on."""

from __future__ import annotations

import io
import tarfile
from typing import Any

import pytest

from flux.errors import UsageError
from flux.query import Steps
from flux.query.step_places import Places
from tests.unit.cli import shapes

CODE = """\
export default async ({ input, ctx }) => {
  const [row] = await ctx.db.sql("select qty from stock where id = $1", [input.item]);
  ctx.log("in stock", { qty: row.qty });
  await ctx.db.query({ table: "stock", operation: "update", data: { qty: row.qty - 1 } });
  await ctx.db.query({ table: "sales", operation: "insert", data: {} });
  await ctx.queue.push("mail", {});
  await fetch("https://pay.test/charge");
  throw new Error("no");
};
"""


def bundle(**files: str) -> bytes:
    """A tar with files of the function `buy`."""
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w") as tar:
        for name, text in (files or {"index.ts": CODE}).items():
            entry = tarfile.TarInfo(f"buy/{name}")
            entry.size = len(text.encode())
            tar.addfile(entry, io.BytesIO(text.encode()))
    return held.getvalue()


def select(seq: int, **values: Any) -> Any:
    """A call that reads."""
    return shapes.call(seq, "db.sql", {"text": "select qty from stock where id = $1"}, {"rows": []}, **values)


def kinds(steps: Steps) -> list[str]:
    """The steps' kinds, with the number of a call or the text of a log line."""
    return [
        f"call {step.call.seq}" if step.call else f"log {step.logs[-1].message}" if step.kind == "log"
        else step.kind for step in steps
    ]  # fmt: skip


def test_an_empty_execution_has_a_start_and_an_end() -> None:
    start, end = Steps(shapes.trace())
    assert (start.kind, start.step, start.steps, start.input, start.output) == (
        "start", 1, 2, {"item": 3}, None,
    )  # fmt: skip
    assert (end.kind, end.step, end.input, end.output) == ("end", 2, {"item": 3}, {"ok": True})
    assert start.span is not None
    assert start.span.name == "POST /buy"
    assert end.at == shapes.at(10)


def test_a_call_is_one_step_with_what_it_was_asked_and_answered() -> None:
    steps = Steps(shapes.trace(host_calls=[select(1)]))
    step = steps.at(2)
    assert step.call is not None
    assert step.call.seq == 1
    assert (step.input, step.output) == ({"text": "select qty from stock where id = $1"}, {"rows": []})


def test_calls_stand_in_the_order_of_their_answers() -> None:
    calls = [
        select(1, started=10, delivered=14),
        select(2, started=11, delivered=12),
        select(3, started=15, delivered=16),
        select(4, started=13, delivered=None, status="abandoned"),
    ]
    assert kinds(Steps(shapes.trace(host_calls=calls))) == [
        "start", "call 2", "call 4", "call 1", "call 3", "end",
    ]  # fmt: skip


def test_log_lines_stand_between_the_answers_they_came_between() -> None:
    calls = [
        select(1, started=1, delivered=3, duration_ms=1.0),
        select(3, started=4, delivered=7, at=shapes.at(3), duration_ms=4.0),
        select(4, started=5, delivered=6, at=shapes.at(3), duration_ms=1.0),
    ]
    logs = [shapes.log(2, 2.5, "info", "one"), shapes.log(5, 5, "info", "two"), shapes.log(6, 9, "info", "3")]
    steps = Steps(shapes.trace(host_calls=calls, logs=logs))
    assert kinds(steps) == ["start", "call 1", "log one", "call 4", "log two", "call 3", "log 3", "end"]
    assert [len(step.logs) for step in steps] == [0, 0, 1, 1, 2, 2, 3, 3]


def test_an_answer_comes_before_a_line_logged_after_the_next_question() -> None:
    """Whatever the clocks say: the later call was asked after the answer, the line after that."""
    calls = [
        select(1, started=1, delivered=2, duration_ms=50.0),
        select(2, started=3, delivered=4, at=shapes.at(3)),
    ]
    steps = Steps(shapes.trace(host_calls=calls, logs=[shapes.log(3, 3.2, "info", "after both asked")]))
    assert kinds(steps)[1] == "call 1"


def test_a_span_of_the_function_begins_before_what_happens_in_it() -> None:
    spans = [*shapes.trace().spans, shapes.span("cc", "bb", "price", 2, 5)]
    calls = [select(1), select(2, parent_span_id="cc")]
    assert kinds(Steps(shapes.trace(spans=spans, host_calls=calls))) == [
        "start", "call 1", "span", "call 2", "end",
    ]  # fmt: skip


def test_rows_are_told_as_before_and_after_each_step() -> None:
    update = shapes.mutation("UPDATE", {"id": 3}, {"id": 3, "qty": 5}, {"id": 3, "qty": 4}, seq=1, n=1)
    again = shapes.mutation("UPDATE", {"id": 3}, {"id": 3, "qty": 4}, {"id": 3, "qty": 2}, seq=1, n=2)
    insert = shapes.mutation("INSERT", {"id": 9}, None, {"id": 9, "qty": 1}, seq=2, n=3)
    steps = Steps(shapes.trace(host_calls=[select(1), select(2)], mutations=[insert, again, update]))
    first, second = steps.at(2), steps.at(3)
    assert (first.rows.before, first.rows.after) == ([{"id": 3, "qty": 5}], [{"id": 3, "qty": 2}])
    assert [change.n for change in first.changes] == [1, 2]
    assert (second.rows.before, second.rows.after) == ([], [{"id": 9, "qty": 1}])


def test_a_rollback_changes_the_rows_back() -> None:
    changed = shapes.mutation(
        "UPDATE", {"id": 3}, {"id": 3, "qty": 5}, {"id": 3, "qty": 4}, seq=2, rolled_back=True
    )
    calls = [
        shapes.call(1, "db.begin", {}, xid="1"),
        select(2, tx=1, xid="1"),
        shapes.call(3, "db.rollback", {}, tx=1, xid="1"),
    ]
    steps = Steps(shapes.trace(host_calls=calls, mutations=[changed]))
    assert steps.at(3).rows.after == [{"id": 3, "qty": 4}]
    assert (steps.at(4).rows.before, steps.at(4).rows.after) == (
        [{"id": 3, "qty": 4}], [{"id": 3, "qty": 5}],
    )  # fmt: skip
    open_ended = Steps(shapes.trace(host_calls=calls[:2], mutations=[changed]))
    assert open_ended.at(4).rows.after == [{"id": 3, "qty": 5}]


def test_a_failed_statement_changes_no_row_and_its_attempts_are_told() -> None:
    tried = shapes.mutation("INSERT", {"id": 9}, None, {"id": 9}, seq=1, rolled_back=True)
    failed = select(1, error=shapes.error("unique_violation", "there is one"))
    step = Steps(shapes.trace(host_calls=[failed], mutations=[tried])).at(2)
    assert (step.rows.before, step.rows.after, len(step.changes)) == ([], [], 1)
    assert step.error is not None
    assert step.error.type == "unique_violation"


def test_what_a_deferred_trigger_wrote_belongs_to_the_commit() -> None:
    late = shapes.mutation("INSERT", {"id": 9}, None, {"id": 9}, seq=None, xid="7")
    calls = [shapes.call(1, "db.begin", {}, xid="7"), shapes.call(2, "db.commit", {}, tx=1, xid="7")]
    assert Steps(shapes.trace(host_calls=calls, mutations=[late])).at(3).rows.after == [{"id": 9}]


def test_a_row_inserted_and_deleted_in_one_step_is_as_it_was() -> None:
    made = [
        shapes.mutation("INSERT", {"id": 9}, None, {"id": 9}, seq=1, n=1),
        shapes.mutation("DELETE", {"id": 9}, {"id": 9}, None, seq=1, n=2),
    ]
    step = Steps(shapes.trace(host_calls=[select(1)], mutations=made)).at(2)
    assert (step.rows.before, step.rows.after) == ([], [])


@pytest.mark.parametrize(
    ("op", "arguments", "line"),
    [
        ("db.sql", {"text": "select qty from stock where id = $1"}, 2),
        ("db.query", {"table": "stock", "operation": "update"}, 4),
        ("db.query", {"table": "sales", "operation": "insert"}, 5),
        ("queue.push", {"name": "mail"}, 6),
        ("fetch", {"url": "https://pay.test/charge?x=1"}, 7),
        ("fetch", {"url": "https://elsewhere.test/other"}, None),
        ("db.sql", {"text": ""}, None),
        ("db.query", {"table": "gone", "operation": "select"}, None),
    ],
)
def test_a_call_stands_on_the_one_line_that_holds_what_it_asked(
    op: str, arguments: Any, line: int | None
) -> None:
    step = Steps(shapes.trace(host_calls=[shapes.call(1, op, arguments)]), bundle()).at(2)
    assert (step.location and step.location.line) == line
    assert step.located == (None if line is None else "text")


def test_a_call_that_goes_on_over_several_lines_stands_on_its_first() -> None:
    code = (
        'await ctx.db.query({\n  table: "a",\n  operation: "insert",\n});\n\n\n\n'
        'await ctx.db.query({\n  table: "a",\n  operation: "delete",\n});\n'
        "await ctx.db.sql(`\n  select one\n  from a`);\n"
    )
    calls = [
        shapes.call(1, "db.query", {"table": "a", "operation": "insert"}),
        shapes.call(2, "db.query", {"table": "a", "operation": "delete"}),
        shapes.call(3, "db.sql", {"text": "\n  select one\n  from a"}),
    ]
    steps = Steps(shapes.trace(host_calls=calls), bundle(**{"index.ts": code}))
    assert [step.location and step.location.line for step in steps][1:4] == [1, 8, 12]


def test_two_lines_that_hold_it_name_none() -> None:
    step = Steps(shapes.trace(host_calls=[select(1)]), bundle(**{"index.ts": CODE, "b.ts": CODE})).at(2)
    assert step.location is None


def test_the_end_and_the_call_that_it_failed_of_stand_on_the_line_of_the_error() -> None:
    thrown = shapes.failure("conflict", "twice", file="functions/buy/index.ts", line=5, column=3)
    failed = select(1, error=shapes.error("conflict", "twice"))
    other = select(2, error=shapes.error("conflict", "another"))
    document = shapes.trace(host_calls=[failed, other], error=thrown, outcome="error", status=500)
    steps = Steps(document, bundle())
    places = [(step.location.line, step.located) for step in steps if step.location is not None]
    assert places == [(5, "error"), (2, "text"), (5, "error")]
    assert steps.first_error == 2


def test_without_a_bundle_only_the_errors_line_is_known() -> None:
    thrown = shapes.failure("Error", "no", file="functions/buy/index.ts", line=8)
    steps = Steps(shapes.trace(host_calls=[select(1)], error=thrown, outcome="error", status=500))
    assert steps.at(2).location is None
    end = steps.at(3)
    assert end.location is not None
    assert (end.location.line, end.location.source) == (8, None)
    assert steps.first_error == 3
    assert Places(None, "buy").entry is None


def test_a_rejected_execution_and_one_without_payloads() -> None:
    rejected = Steps(shapes.trace(outcome="rejected", status=401, spans=[], input=None, deployment=None))
    assert (len(rejected), rejected.at(1).input, rejected.first_error) == (2, {"item": 3}, None)
    silent = Steps(shapes.trace(record="none", input=None, output=None, request=shapes.request(body=None)))
    assert (silent.at(1).input, silent.at(2).output) == (None, None)


@pytest.mark.parametrize("number", [0, -1, 3])
def test_a_step_that_there_is_not_is_named(number: int) -> None:
    with pytest.raises(UsageError, match="this execution has 2"):
        Steps(shapes.trace()).at(number)


def test_a_broken_bundle_is_no_code() -> None:
    assert Steps(shapes.trace(host_calls=[select(1)]), b"no tar").at(2).location is None
