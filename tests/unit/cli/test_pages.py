"""What `flux why`, `tail`, `logs`, `state` and `query` print."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from flux.cli.render import lines, state, why
from flux.cli.render import trace as trace_page
from flux.cli.render.table import table
from flux.cli.render.values import ago, compact, duration
from flux.query import (
    Attempt,
    ColumnBlame,
    Difference,
    Location,
    RootCause,
    Share,
    SourceLine,
    Step,
    Suggestion,
    Why,
    Writer,
)
from tests.unit.cli.shapes import NOW, at, call, error, failure, log, mutation, trace


def failed(**values: Any) -> Why:
    document = trace(status=500, outcome="error", error=failure("unique_violation", "duplicate key"))
    insert = {"table": "users", "operation": "insert", "data": {"email": "a"}}
    refused = error("unique_violation", "duplicate key", detail="Key (email)=(a) already exists.")
    changed = Difference(where="input", field="input.email", a="b", b="a")
    given: dict[str, Any] = {
        "execution": document.execution,
        "root_cause": RootCause(
            type="unique_violation", message="duplicate key", span_id="c1", request_id=document.request_id
        ),
        "location": location(),
        "input": {"email": "a"},
        "data_changes": [mutation("INSERT", {"id": 3}, None, {"id": 3, "qty": 1}, rolled_back=True)],
        "provenance": [
            Writer(
                table="users", key={"id": 7}, column="email", value="a", request_id="88ee" + "0" * 28,
                at=at(0), op="INSERT", actor=None,
            )
        ],
        "previous_success": "88ee" + "0" * 28,
        "first_difference": changed,
        "suggestions": [Suggestion(text="Look for the row first.", reason="It is there.")],
        "failed": True,
        "refused": False,
        "output": None,
        "request": document.request,
        "chain": [step("aa", "POST /buy", 10), step("c1", "INSERT", 2)],
        "failing_call": call(1, "db.query", insert, error=refused, span_id="c1"),
        "survived": [],
        "differences": [changed],
        "slowest": [],
        "warnings": [],
        "deployment_changed": None,
    } | values  # fmt: skip
    return Why(**given)


def location(**values: Any) -> Location:
    given: dict[str, Any] = {
        "file": "functions/buy/index.ts", "line": 10, "column": 6, "source": "line 10",
        "context": [SourceLine(n, f"line {n}") for n in range(9, 12)],
    } | values  # fmt: skip
    return Location(**given)


def step(span_id: str, name: str, ms: float) -> Step:
    return Step(span_id=span_id, name=name, kind="INTERNAL", status="ERROR", duration_ms=ms)


def text(page: list[Any]) -> str:
    return "\n".join(line.plain.rstrip() for line in page)


def test_why_reads_like_a_compiler_diagnostic() -> None:
    assert (
        text(why.page(failed(), 100, NOW))
        == """\
error[unique_violation]: duplicate key
  --> functions/buy/index.ts:10:6
   │
 9 │ line 9
10 │ line 10
   │      ^^
11 │ line 11
   │
   = ✗ 500  POST /buy  10.0 ms  9f3c2a1b
   = 12:00:00 (3 min ago) · function buy · deployment 4ac0f1d2

how it failed
  POST /buy  10.0 ms
  └─ insert users {"email": "a"}  2.00 ms  ← failed first
        ✗ unique_violation  duplicate key
          Key (email)=(a) already exists.

input
  {"email": "a"}

data  nothing was kept, 1 row rolled back
  + stock 3  qty 1  rolled back

who wrote the rows it met
  users 7  email "a"  inserted by 88ee0000  3 min ago

compared with the nearest success 88ee0000
  input.email  "b" → "a"

help: Look for the row first.
      It is there."""
    )


def test_why_without_a_stored_bundle_still_names_the_place() -> None:
    place = location(column=None, source=None, context=[])
    shown = text(why.page(failed(location=place), 100, NOW))
    assert "--> functions/buy/index.ts:10\n" in shown
    assert "│" not in shown


def test_a_caret_follows_tabs_and_wide_characters() -> None:
    place = location(file="f.ts", line=1, column=12, context=[SourceLine(1, "\tconst 漢 = boom();")])
    shown = text(why.page(failed(location=place), 100, NOW)).splitlines()
    code, caret = shown[3], shown[4]
    assert code == "1 │     const 漢 = boom();"
    assert caret.index("^^^^") == code.index("boom") + 1  # 漢 takes two cells


def test_why_says_that_an_execution_went_well_and_where_its_time_went() -> None:
    slowest = [Share(name="SELECT", span_id="c1", duration_ms=7.5, self_ms=7.5, share=0.75)]
    shape = failed(
        failed=False, execution=trace().execution, root_cause=None, slowest=slowest, data_changes=[]
    )
    shown = text(why.page(shape, 100, NOW))
    assert shown.startswith("✓ 200  POST /buy  it did not fail  9f3c2a1b")
    assert "  SELECT    7.50 ms   75% █████████" in shown


def test_nothing_in_a_why_reaches_the_terminal_or_beyond_its_edge() -> None:
    evil = "\x1b[2J漢" * 40
    shape = failed(
        root_cause=RootCause(type=evil, message=evil, span_id="c1", request_id="x"),
        location=location(file=evil, line=1, column=3, source=evil, context=[SourceLine(1, evil)]),
        suggestions=[Suggestion(text=evil, reason=evil)],
        warnings=[evil],
        input=evil,
    )
    page = why.page(shape, 80, NOW)
    assert "\x1b" not in text(page)
    assert [line.plain for line in page if line.width > 80 and "-->" not in line.plain] == []


def test_tail_gives_each_execution_a_line() -> None:
    (shown,) = lines.execution(trace(), 100, NOW)
    assert shown.plain == "9f3c2a1b  12:00:00  200   10.0 ms  POST /buy"
    job = trace(trigger="job", method=None, path=None, status=None, outcome="interrupted", duration_ms=None)
    (shown,) = lines.execution(job, 100, NOW)
    assert shown.plain == "9f3c2a1b  12:00:00    —         ?  job buy  interrupted"
    thrown = failure("TypeError", "x is\nundefined")
    (bad,) = lines.execution(trace(status=500, outcome="error", error=thrown), 100, NOW)
    assert bad.plain.endswith("TypeError  x is\\nundefined")


def test_what_is_to_be_known_of_an_execution_is_marked_everywhere() -> None:
    left = "`audit` was still running when the handler returned (functions/buy/index.ts:7)."
    marked = f"⚠ {left}"
    document = trace(warnings=[left, "Another."])
    assert [line.plain.strip() for line in lines.execution(document, 100, NOW)][1:] == [marked, "⚠ Another."]
    assert marked in text(trace_page.page(document, 100, NOW)).splitlines()
    assert marked in text(why.page(failed(warnings=[left]), 100, NOW)).splitlines()
    well = failed(root_cause=None, execution=document.execution, warnings=[left])
    assert marked in text(why.page(well, 100, NOW)).splitlines()


def test_a_log_line_names_its_execution_unless_all_are_of_one() -> None:
    line = log(4, 7, "warn", "low", {"qty": 1})
    assert lines.log(line, NOW).plain == '12:00:00.007  warn   9f3c2a1b  buy           low  {"qty": 1}'
    assert lines.log(line, NOW, one=True).plain == '12:00:00.007  warn   low  {"qty": 1}'


def test_history_and_blame_name_who_did_it() -> None:
    outside = mutation(
        "UPDATE", {"id": 3}, {"qty": 1}, {"qty": 2}, request_id=None, actor="ann", application_name="psql"
    )
    shown = text(state.history_page("stock", "3", [outside], 100, NOW))
    assert shown == "stock 3  1 change\n12:00:00  ann (psql)  ~ stock 3  qty 1 → 2"
    attempt = Attempt(value=0, request_id="beef" + "0" * 28, at=at(0), span_id=None)
    entry = ColumnBlame(
        value=2, request_id="9f3c2a1b", at=at(0), span_id=None, rolled_back_attempt=attempt, op="UPDATE",
        actor=None, application_name=None, origin="flux", before_capture=False,
    )  # fmt: skip
    old = replace(entry, request_id=None, at=None, rolled_back_attempt=None, before_capture=True)
    shown = text(state.blame_page("stock", "3", {"qty": entry, "note": old}, 100, NOW))
    assert [line.split() for line in shown.splitlines()] == [
        ["stock", "3"],
        ["qty", "2", "9f3c2a1b", "12:00:00", "3", "min", "ago"],
        ["0", "beef0000", "12:00:00", "rolled", "back"],
        ["note", "2", "not", "by", "any", "recorded", "change"],
    ]


def test_a_table_is_aligned_and_fits() -> None:
    rows = [{"n": "12", "name": "ann\n", "j": {"a": 1}}, {"n": None, "name": "漢字", "j": []}]
    shown = text(table(["n", "name", "j"], ["int8", "text", "jsonb"], rows, None))
    assert (
        shown
        == """\
   n  name   j
────  ─────  ────────
  12  ann\\n  {"a": 1}
null  漢字   []
2 rows"""
    )
    long = [{"a": "x" * 300, "b": "y" * 300, "c": 1}]
    assert max(line.width for line in table(["a", "b", "c"], ["text", "text", "int4"], long, 80)) <= 80


def test_durations_sizes_and_ages_are_short() -> None:
    shown = [
        duration(ms)
        for ms in (0.0004, 0.84, 1, 9.999, 12.34, 123.4, 999.4, 1200, 59_940, 125_000, 7_200_000, None)
    ]
    assert shown == [
        "0 µs", "840 µs", "1.00 ms", "10.0 ms", "12.3 ms", "123 ms", "999 ms", "1.20 s", "59.9 s",
        "2 min 5 s",
        "2 h 0 min", "?",
    ]  # fmt: skip
    assert [ago(at(179_500), NOW), ago(at(0), NOW), ago("2026-03-01T12:00:00+00:00", NOW)] == [
        "just now",
        "3 min ago",
        "3 days ago",
    ]
    assert compact({"a": "x" * 3000}, 30) == '{"a": "xxxxxxxxxxxxxx… 2.9 KiB'
