"""What `flux trace` prints."""

from __future__ import annotations

import time

from msgspec.structs import replace

from flux.cli.render.trace import page
from flux.query import Trace
from tests.unit.cli.shapes import NOW, at, call, error, failure, log, mutation, request, span, trace

WIDTH = 100


def text(document: Trace, cells: int = WIDTH, *, full: bool = False) -> str:
    return "\n".join(line.plain.rstrip() for line in page(document, cells, NOW, full=full))


def test_a_request_is_shown_at_a_glance() -> None:
    document = trace()
    document.spans.extend(
        [
            span("c1", "bb", "transaction", 1.5, 6),
            span("c2", "c1", "UPDATE", 2, 2, kind="CLIENT"),
            span("c3", "bb", "GET", 8, 0.5, kind="CLIENT"),
        ]
    )
    document.host_calls[:] = [
        call(1, "db.begin", {}, {}, span_id="c1", xid="7"),
        call(
            2,
            "db.sql",
            {"text": "update stock\n set qty = qty - 1", "params": [3]},
            {"count": 1},
            span_id="c2",
            tx=1,
        ),
        call(3, "db.commit", {}, {}, tx=1),
        call(4, "fetch", {"method": "GET", "url": "http://x.test/a"}, {"status": 204}, span_id="c3"),
        call(
            6,
            "queue.push",
            {"name": "mail", "payload": {"to": 1}},
            {"id": "12", "duplicate": False},
            at=at(8.6),
        ),
    ]
    document.mutations[:] = [mutation("UPDATE", {"id": 3}, {"id": 3, "qty": 5}, {"id": 3, "qty": 4}, seq=2)]
    document.logs[:] = [log(5, 8.55, "info", "sold", {"id": 3}, span_id="bb")]
    assert (
        text(document)
        == """\
✓ 200  POST /buy  10.0 ms  9f3c2a1b
  12:00:00 (3 min ago) · deployment 4ac0f1d2 · 1 sql, 1 fetch, 1 queue, 1 row changed

POST /buy                                                         10.0 ms  █████████████████████████
└─ buy                                                            8.00 ms    ████████████████████▌
   ├─ transaction  committed                                      6.00 ms     ███████████████▊
   │  └─ update stock set qty = qty - 1 [3] → 1 row               2.00 ms       █████
   │         ~ stock 3  qty 5 → 4
   ├─ GET http://x.test/a → 204                                    500 µs                      █▎
   ├─ info sold {"id": 3}                                                                       ·
   └─ push mail {"to": 1} → job 12                                1.00 ms                       ███

input    {"item": 3}
output   {"ok": true}"""
    )


def test_what_was_rolled_back_says_so() -> None:
    document = trace()
    document.host_calls[:] = [call(1, "db.begin", {}, {}), call(2, "db.rollback", {}, {}, tx=1)]
    document.mutations[:] = [
        mutation("INSERT", {"id": 3}, None, {"id": 3, "qty": 1}, rolled_back=True, seq=1)
    ]
    shown = text(document)
    assert "transaction  rolled back" in shown
    assert "+ stock 3  qty 1  rolled back" in shown
    assert "1 row rolled back" in shown
    (line,) = [line for line in page(document, WIDTH, NOW) if "+ stock" in line.plain]
    assert "dim strike" in {style for _, style in line.parts}
    assert line.parts[-1] == ("  rolled back", "red")


def test_a_failure_is_told_where_it_happened_and_once() -> None:
    thrown = failure("timeout", "too slow", file="functions/buy/index.ts", line=4, column=9)
    document = trace(status=500, outcome="error", error=thrown, output=None)
    document.spans[:] = [
        replace(each, status="ERROR", attributes=each.attributes | {"error.type": "timeout"})
        for each in document.spans
    ]
    failed = error("timeout", "too slow", hint="try an index")
    document.host_calls[:] = [call(1, "db.sql", {"text": "select 1"}, error=failed, parent_span_id="bb")]
    shown = text(document)
    assert shown.startswith("✗ 500  POST /buy")
    assert shown.count("✗ timeout  too slow") == 1
    assert "try an index" in shown
    assert "error    timeout: too slow\n         at functions/buy/index.ts:4:9" in shown


def test_an_interrupted_execution_without_spans_still_shows_its_calls() -> None:
    document = trace(status=None, outcome="interrupted", duration_ms=None, spans=[], output=None)
    document.host_calls[:] = [
        call(1, "fetch", {"method": "POST", "url": "http://pay.test/"}, status="unknown")
    ]
    shown = text(document)
    assert shown.startswith("● interrupted  POST /buy  9f3c2a1b")
    assert "└─ POST http://pay.test/  sent, answer unknown" in shown


def test_the_same_again_is_folded_and_full_unfolds_it() -> None:
    document = trace()
    document.host_calls[:] = [
        call(n, "db.sql", {"text": "select * from t where id = $1", "params": [n]}, {"count": 1})
        for n in range(1, 101)
    ]
    shown = text(document)
    assert shown.count("select * from t") == 3
    assert "… 97 more like it, 97.0 ms in all" in shown
    assert text(document, full=True).count("select * from t") == 100


def test_many_different_siblings_are_folded_but_failures_stay() -> None:
    document = trace()
    document.host_calls[:] = [
        call(n, "db.sql", {"text": f"select {n}"}, error=error("boom", "x") if n == 150 else None)
        for n in range(1, 401)
    ]
    lines = text(document).splitlines()
    assert len(lines) < 90
    assert any("select 150" in line for line in lines)
    assert any("more (344 db.sql); --full shows all" in line for line in lines)


def test_many_changed_rows_are_counted() -> None:
    document = trace(host_calls=[call(1, "db.sql", {"text": "update t"})])
    document.mutations[:] = [mutation("DELETE", {"id": n}, {"id": n}, None, seq=1) for n in range(320)]
    assert "… 312 more rows changed" in text(document)


def test_an_invoked_execution_stands_under_the_call() -> None:
    child = trace(
        request_id="1234abcd" + "0" * 24, function="pay", trigger="invoke", method=None, path=None,
        span_id="ca", spans=[span("ca", "bb", "invoke pay", 3, 2)],
    )  # fmt: skip
    document = trace(
        children=[child], host_calls=[call(1, "invoke", {"name": "pay", "payload": 1}, 5, span_id="ca")]
    )
    lines = text(document).splitlines()
    at_call = next(n for n, line in enumerate(lines) if "└─ invoke pay 1 → 5" in line)
    assert "   └─ invoke pay  1234abcd" in lines[at_call + 1]


def test_a_pushed_job_is_one_line_and_takes_no_part_of_the_time() -> None:
    job = trace(
        request_id="77aa" + "0" * 28, function="mail", trigger="job", job_id="j1", started_at=at(3_600_000)
    )
    document = trace(
        children=[job], host_calls=[call(1, "queue.push", {"name": "mail", "payload": 1}, {"id": "j1"})]
    )
    lines = text(document).splitlines()
    at_call = next(n for n, line in enumerate(lines) if "└─ push mail 1 → job j1" in line)
    assert lines[at_call + 1].strip() == "└─ ran as 77aa0000  ✓ 200  10.0 ms"
    assert lines[3].endswith("█" * 25)


def test_payloads_cannot_reach_the_terminal() -> None:
    evil = "\x1b]0;pwned\x07\u202e"
    document = trace(path=f"/{evil}", input={evil: evil}, output=evil, warnings=[evil])
    document.spans.append(span("c1", "bb", evil, 1, 1))
    document.host_calls[:] = [call(1, "fetch", {"method": evil, "url": evil}, error=error(evil, evil))]
    document.mutations[:] = [mutation("INSERT", {evil: evil}, None, {evil: evil, "x": evil}, table=evil)]
    document.logs[:] = [log(2, 1, evil, evil, evil)]
    shown = text(document, full=True)
    assert not set(shown) & {"\x1b", "\x07", "\u202e"}


def test_no_line_is_wider_than_the_screen() -> None:
    document = trace(input={"x": "漢" * 500}, output="y" * 5000)
    document.host_calls[:] = [call(1, "db.sql", {"text": "select " + "漢字 " * 200, "params": ["p" * 500]})]
    document.mutations[:] = [
        mutation("UPDATE", {"id": 1}, {"a": "漢" * 99}, {"a": "b" * 99}, seq=1, rolled_back=True)
    ]
    for cells in (60, 80, 200):
        assert max(line.width for line in page(document, cells, NOW)) <= cells


def test_spans_that_are_their_own_ancestors_do_not_hang_it() -> None:
    document = trace()
    document.spans.extend(
        [span("x", "y", "x", 1, 1), span("y", "x", "y", 1, 1), span("z", "gone", "z", 1, 1)]
    )
    document.spans.extend([span(f"d{n}", f"d{n - 1}" if n else "bb", f"deep {n}", 2, 1) for n in range(3000)])
    shown = text(document, full=True)
    assert "deep 2999" in shown
    assert "z" in shown


def test_a_great_trace_is_printed_at_once() -> None:
    document = trace()
    document.spans.extend([span(f"s{n}", "bb", f"step {n}", n / 1000, 0.5) for n in range(10_000)])
    began = time.process_time()
    assert len(page(document, WIDTH, NOW)) < 100
    assert time.process_time() - began < 2


def test_headers_are_shown_in_full_pages_only() -> None:
    headers = {"host": "x.test", "accept": ["a/b", "c/\x1bd"]}
    document = trace(request=request(headers=headers), response_headers={"location": "/there"})
    assert "accept" not in text(document)
    shown = text(document, full=True)
    assert "headers  host: x.test\n         accept: a/b\n         accept: c/\\ed\n" in shown
    assert "answered location: /there" in shown


def test_changed_values_are_whole_in_full_pages_only() -> None:
    long = "tea " * 100 + "end"
    document = trace()
    document.mutations[:] = [mutation("UPDATE", {"id": 3}, {"id": 3, "x": 1}, {"id": 3, "x": long})]
    assert "end" not in text(document)
    assert f'x 1 → "{long}"' in text(document, full=True)


def test_what_was_left_out_on_request_is_not_shown_as_empty() -> None:
    shown = text(trace(record="none", input=None, output=None)).splitlines()
    assert "record   payloads, calls and spans were left out: record is `none`" in shown
    assert not [line for line in shown if line.startswith(("input", "output"))]
