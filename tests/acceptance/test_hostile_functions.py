"""Whatever a function does, it costs its own requests only: one server, hostile functions by the dozen, and
two well-behaved ones beside them the whole time, all of whose answers must be right and all of whose records
whole.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Iterator
from typing import Any

import asyncpg
import httpx
import pytest

from flux.host.spans import MOST_SPANS
from flux.recorder.execution import MOST_LINES
from tests.acceptance.conftest import Project
from tests.acceptance.hostile_server import HURRIED_MS, MEMORY_MB, PATIENCE, Hostile, Neighbours, warm, write

LINES = 50_000


MEGABYTES = 100


@pytest.fixture(scope="module", name="hostile")
def _hostile(module_project: Project) -> Iterator[Hostile]:
    write(module_project)
    module_project.flux("db", "push")
    server = module_project.start("serve")
    neighbours = Neighbours(server.url)
    client = httpx.Client(base_url=server.url, timeout=90, trust_env=False)
    hostile = Hostile(module_project, server, neighbours, client)
    try:
        warm(hostile)
        yield hostile
    finally:
        neighbours.stop()
        client.close()
        server.stop()


Fault = tuple[str, str, dict[str, Any], int, str | None, str]
"""Function, kind, more input, status, error type or None, a pattern of the error's message (or answer)."""


LATE = rf"did not answer within {HURRIED_MS} ms"


LIMIT = rf"may allocate {MEMORY_MB} MiB \(memory_mb in flux.toml\)"


STARVED = rf"ran out of memory: it {LIMIT}"


FAULTS: list[Fault] = [
    # It does not come back.
    ("ts_hurried", "loops", {}, 504, "DeadlineExceeded", LATE),
    ("ts_hurried", "loops_in_microtasks", {}, 504, "DeadlineExceeded", LATE),
    ("ts_hurried", "loops_in_timers", {}, 504, "DeadlineExceeded", LATE),
    ("ts_hurried", "never_settles", {}, 504, "DeadlineExceeded", LATE),
    ("ts_hurried", "streams_nothing", {}, 504, "DeadlineExceeded", LATE),
    ("py_hurried", "loops", {}, 504, "DeadlineExceeded", LATE),
    ("py_hurried", "loops_in_turns", {}, 504, "DeadlineExceeded", LATE),
    ("py_hurried", "never_settles", {}, 504, "DeadlineExceeded", LATE),
    ("py_hurried", "swallows_its_end", {}, 504, "DeadlineExceeded", LATE),
    ("py_hurried", "stops_itself", {}, 504, "DeadlineExceeded", LATE),
    # It allocates.
    ("ts", "fills_the_heap", {}, 502, "GuestDied", STARVED),
    ("ts", "fills_buffers", {}, 500, "RangeError", LIMIT),
    ("ts", "one_huge_buffer", {}, 500, "RangeError", LIMIT),
    ("ts", "huge_wasm_memory", {}, 500, "RangeError", LIMIT),
    ("ts", "huge_string", {}, 500, "RangeError", "Invalid string length"),
    ("py", "fills_a_list", {}, 500, "MemoryError", LIMIT),
    ("py", "fills_a_global", {}, 500, "MemoryError", LIMIT),
    ("py", "one_huge_object", {}, 500, "MemoryError", LIMIT),
    ("py_hurried", "swallows_memory_errors", {}, 504, "DeadlineExceeded", LATE),
    ("py", "fills_in_a_task", {}, 502, "GuestDied", STARVED),
    # It returns what JSON can't hold, or what it can after all.
    ("ts", "returns_function", {}, 500, "JSONError", "it is a function"),
    ("ts", "returns_symbol", {}, 500, "JSONError", "it is a symbol"),
    ("ts", "returns_bigint", {}, 200, None, r'^{"rows":\[{"id":"1"}\]}$'),
    ("ts", "returns_cyclic", {}, 500, "JSONError", "`a.b` contains itself"),
    ("ts", "returns_undefined", {}, 200, None, "^null$"),
    ("ts", "returns_nan", {}, 500, "JSONError", "`nan` is NaN"),
    ("ts", "returns_promise_inside", {}, 500, "JSONError", "`later` is a promise; await it"),
    ("ts", "returns_instance", {}, 200, None, '^{"a":1}$'),
    ("ts", "returns_map", {}, 500, "JSONError", "it is a Map"),
    ("ts", "returns_bytes", {}, 200, None, r'^{"\$bytea":"AAAA"}$'),
    ("ts", "returns_throwing_getter", {}, 500, "TypeError", "not to be read"),
    ("ts", "returns_throwing_proxy", {}, 500, "TypeError", "no keys"),
    ("ts", "returns_deep", {}, 200, None, r"^\[{1000}"),
    ("ts", "returns_surrogate", {}, 200, None, r'^"\\ud800"$'),
    ("ts", "returns_much", {}, 200, None, "x{1000}"),
    ("py", "returns_set", {}, 500, "NotJSON", r"\$.tags: set is not JSON; sort it into a list"),
    ("py", "returns_datetime", {}, 200, None, '^"2024-01-02T03:04:05\\+00:00"$'),
    ("py", "returns_bytes", {}, 200, None, r'^{"\$bytea":"/w=="}$'),
    ("py", "returns_nan", {}, 500, "NotJSON", r"\$.a\[1\]: nan is not JSON"),
    ("py", "returns_cyclic", {}, 500, "NotJSON", r"\$.self: the value contains itself"),
    ("py", "returns_generator", {}, 500, "NotJSON", r"\$: generator is not JSON"),
    ("py", "returns_huge_int", {}, 200, None, "0{4400}"),
    ("py", "returns_object", {}, 500, "NotJSON", r"\$: object is not JSON"),
    ("py", "returns_surrogate", {}, 500, "NotJSON", "lone surrogate"),
    ("py", "returns_deep", {}, 500, "NotJSON", "nested too deeply"),
    ("py", "returns_coroutine_inside", {}, 500, "NotJSON", r"\$.later: coroutine is not JSON"),
    ("py", "returns_much", {}, 200, None, "x{1000}"),
    # It throws something odd.
    ("ts", "throws_string", {}, 500, "NonError", "not an Error: a string"),
    ("ts", "throws_null", {}, 500, "NonError", "not an Error: null"),
    ("ts", "throws_undefined", {}, 500, "NonError", "not an Error: undefined"),
    ("ts", "throws_proxy", {}, 500, "Error", "can't be read"),
    ("ts", "throws_hostile_proxy", {}, 500, "Error", "can't be read"),
    ("ts", "throws_unreadable_error", {}, 500, "Error", "can't be read"),
    ("ts", "throws_strange_members", {}, 500, "x{200}", "y{1000}"),
    ("ts", "throws_strange_fields", {}, 500, "ValidationError", "bad"),
    ("ts", "throws_huge_fields", {}, 422, "ValidationError", "bad"),
    ("ts", "throws_toString", {}, 500, "Error|NonError", "."),
    ("ts", "recurses", {}, 500, "RangeError", "Maximum call stack"),
    ("py", "raises_base", {}, 500, "Base", "not an Exception"),
    ("py", "raises_system_exit", {}, 500, "SystemExit", "ended its process"),
    ("py", "raises_system_exit_in_a_task", {}, 500, "SystemExit", "ended its process"),
    ("py", "raises_keyboard_interrupt", {}, 500, "KeyboardInterrupt", "^$"),
    ("py", "interrupts_itself", {}, 500, "KeyboardInterrupt", "^$"),
    ("py", "raises_generator_exit", {}, 500, "GeneratorExit", "out"),
    ("py", "raises_cancelled", {}, 500, "CancelledError", "gone"),
    ("py", "raises_stop_iteration", {}, 500, "RuntimeError", "StopIteration"),
    ("py", "raises_unreadable", {}, 500, "Unreadable", "its text failed: ValueError"),
    ("py", "raises_ending", {}, 500, "Ending", "its text failed: SystemExit"),
    ("py", "raises_a_chain", {}, 500, "ValueError", "49999"),
    ("py", "raises_a_nested_group", {}, 500, "ExceptionGroup", "1999"),
    ("py", "recurses", {}, 500, "RecursionError", "maximum recursion depth"),
    # It ends its process, or would.
    ("ts", "exits", {}, 500, "TypeError", "reading 'exit'"),
    ("ts", "exits_by_node", {}, 500, "TypeError", "reading 'exit'"),
    ("ts", "closes", {}, 500, "TypeError", "close is not a function"),
    ("py", "exits", {}, 502, "GuestDied", r"ended by itself \(exit code 3\)"),
    ("py", "aborts", {}, 502, "GuestDied", "was ended by SIGABRT"),
    ("py", "kills_itself", {}, 502, "GuestDied", "was ended by SIGKILL"),
    ("py", "kills", {}, 500, "NotPermitted", "can't start or signal processes"),
    ("py", "forks", {}, 500, "NotPermitted", "can't start or signal processes"),
    ("py", "starts_a_thread", {}, 500, "NotPermitted", "can't start threads"),
    ("py", "starts_a_pool", {}, 500, "NotPermitted", "can't start threads"),
    # It gets at its socket.
    ("py", "closes_its_socket", {}, 502, "GuestDied", "closed its connection to Flux"),
    ("py", "sends_garbage", {}, 502, "GuestDied", "broke the protocol"),
    ("py", "announces_a_gigabyte", {}, 502, "GuestDied", "a frame of impossible size"),
    (
        "py",
        "forges",
        {"header": {"t": "done", "i": 10**6}},
        502,
        "GuestDied",
        "an end of invocation 1000000",
    ),
    ("py", "forges", {"header": {"t": "reply", "i": 1}}, 502, "GuestDied", "a frame of unknown type 'reply'"),
    ("py", "forges", {"header": {"t": "ready"}}, 502, "GuestDied", "a `ready` that nothing asked for"),
    ("py", "floods_with_pongs", {"thousands": 300}, 200, None, "done"),
    # It leaves something behind.
    ("ts", "leaves_timers", {}, 200, None, "left"),
    ("ts", "leaves_a_rejection", {}, 200, None, "left"),
    ("ts", "leaves_a_loop", {}, 200, None, "left"),
    ("py", "leaves_a_task", {}, 200, None, "left"),
    # It makes calls.
    ("ts", "calls_at_once", {}, 200, None, "^44850$"),
    ("py", "calls_at_once", {}, 200, None, "^44850$"),
    ("ts", "calls_too_many_at_once", {}, 500, "RangeError", "10000 calls are open already"),
    ("py", "calls_too_many_at_once", {}, 500, "RuntimeError", "More than 8000 host calls are open"),
    # It answers what HTTP can't carry.
    ("ts", "status_99", {}, 500, "RangeError", "99"),
    ("ts", "status_1000", {}, 500, "RangeError", "1000"),
    ("ts", "status_forged", {}, 200, None, "^x$"),
    ("ts", "headers_forged", {}, 200, None, "^x$"),
    ("ts", "header_injection", {}, 500, "TypeError", "."),
    ("ts", "header_name", {}, 500, "TypeError", "."),
    ("ts", "header_much", {}, 500, "TypeError", "more than 65536 characters of headers"),
    ("ts", "header_of_the_hop", {}, 200, None, "^x$"),
    ("ts", "error_response", {}, 500, "TypeError", "no status"),
    ("ts", "used_response", {}, 500, "TypeError", "has been read already"),
    ("ts", "body_fails", {}, 500, "Error", "broken off"),
    ("py", "status_99", {}, 500, "ValueError", "200 to 599"),
    ("py", "status_changed", {}, 500, "ValueError", "200 to 599"),
    ("py", "header_injection", {}, 500, "ValueError", "HTTP can't carry"),
    ("py", "header_changed", {}, 500, "ValueError", "HTTP can't carry"),
    ("py", "body_of_another_kind", {}, 500, "TypeError", "is bytes, not str"),
]


@pytest.mark.parametrize(
    ("function", "kind", "given", "status", "error", "message"),
    FAULTS,
    ids=[f"{function}-{kind}-{index}" for index, (function, kind, *_) in enumerate(FAULTS)],
)
def test_a_fault_costs_its_own_request_and_is_recorded_as_what_it_was(
    hostile: Hostile,
    function: str,
    kind: str,
    given: dict[str, Any],
    status: int,
    error: str | None,
    message: str,
) -> None:
    before = len(hostile.neighbours.asked)
    answer = hostile.ask(function, kind, **given)
    shown = answer.text[:1000]
    assert answer.status_code == status, shown
    assert "set-cookie" not in answer.headers
    if error is None:
        assert re.search(message, answer.text), shown
    else:
        told = answer.json()["error"]
        assert re.fullmatch(error, told["type"]), shown
        assert re.search(message, told["message"]), shown
        assert told["request_id"] == answer.headers["x-request-id"]
    record = hostile.record(answer)
    assert (record["status"], record["outcome"]) == (status, "error" if error else "ok")
    if error is None:
        assert record["error"] is None
    else:
        assert (record["error"]["type"], record["error"]["message"]) == (told["type"], told["message"])
    assert record["guest"], "the record names no process"
    hostile.recovered(before, function)


def test_a_body_without_end_ends_at_the_memory_limit(hostile: Hostile) -> None:
    before = len(hostile.neighbours.asked)
    answer = hostile.ask("ts", "streams_without_end")
    # V8 decides whether the function is told (RangeError) or the process ends.
    assert answer.status_code in (500, 502)
    assert re.search(LIMIT, answer.json()["error"]["message"])
    assert hostile.record(answer)["error"]["message"] == answer.json()["error"]["message"]
    hostile.recovered(before, "ts")


def test_a_call_left_in_flight_is_awaited(hostile: Hostile) -> None:
    for function in ("ts", "py"):
        before = len(hostile.neighbours.asked)
        answer = hostile.ask(function, "leaves_a_call")
        assert (answer.status_code, answer.json()) == (200, "left")
        (call,) = hostile.record(answer)["calls"]
        assert (call["op"], call["status"], call["error"]) == ("db.sql", "done", None)
        hostile.recovered(before, function)


def test_a_call_left_in_flight_is_abandoned_at_the_deadline(hostile: Hostile) -> None:
    before = len(hostile.neighbours.asked)
    answer = hostile.ask("ts_hurried", "leaves_a_long_call")
    assert (answer.status_code, answer.json()) == (200, "left")
    (call,) = hostile.record(answer)["calls"]
    assert (call["op"], call["status"], call["result"]) == ("db.sql", "abandoned", None)
    hostile.recovered(before, "ts_hurried")


def test_calls_without_end_are_all_recorded(hostile: Hostile) -> None:
    for function in ("ts_hurried", "py_hurried"):
        before = len(hostile.neighbours.asked)
        answer = hostile.ask(function, "calls_without_end")
        assert answer.status_code == 504
        calls = hostile.record(answer)["calls"]
        assert [call["seq"] for call in calls] == list(range(1, len(calls) + 1))
        assert len(calls) > 10
        assert {call["status"] for call in calls[:-1]} == {"done"}
        hostile.recovered(before, function)


@pytest.mark.parametrize(("function", "kind"), [("ts", "logs_lines"), ("py", "prints_lines")])
def test_of_a_flood_of_log_lines_the_record_keeps_so_many_and_says_so(
    hostile: Hostile, function: str, kind: str
) -> None:
    before, held = len(hostile.neighbours.asked), hostile.memory()
    answer = hostile.ask(function, kind, count=LINES)
    assert answer.json() == "done"
    record = hostile.record(answer)
    assert len(record["logs"]) == MOST_LINES
    assert [line["message"] for line in record["logs"][:2]] == ["line 0", "line 1"]
    (warning,) = json.loads(record["warnings"])
    assert warning.startswith(f"{LINES - MOST_LINES} log lines more were not kept")
    hostile.recovered(before, function)
    assert hostile.memory("VmHWM") - held < 150


@pytest.mark.parametrize("function", ["ts", "py"])
def test_a_huge_log_line_is_cut(hostile: Hostile, function: str) -> None:
    before = len(hostile.neighbours.asked)
    answer = hostile.ask(function, "logs_a_huge_line")
    assert answer.json() == "done"
    (line,) = hostile.record(answer)["logs"]
    assert 200_000 < len(line["message"]) < 300_000
    assert line["message"].endswith("…")
    hostile.recovered(before, function)


def test_of_a_flood_of_spans_the_record_keeps_so_many_and_says_so(hostile: Hostile) -> None:
    before = len(hostile.neighbours.asked)
    answer = hostile.ask("ts", "opens_spans", count=MOST_SPANS + 100)
    assert answer.json() == "done"
    record = hostile.record(answer)
    assert record["spans"] == MOST_SPANS + 2
    (warning,) = json.loads(record["warnings"])
    assert warning == f"100 spans more were not kept: an execution keeps {MOST_SPANS}."
    hostile.recovered(before, "ts")


def test_a_flood_of_stderr_is_read_and_mostly_left_out(hostile: Hostile) -> None:
    before, held = len(hostile.neighbours.asked), hostile.memory()
    logged = hostile.server.output.stat().st_size
    began = time.monotonic()
    assert hostile.ask("py", "writes_to_stderr", megabytes=MEGABYTES).json() == "done"
    seconds = time.monotonic() - began
    hostile.server.wait_for(r"py: \(\d+ bytes more were written to stderr in this second and left out\)")
    assert hostile.server.output.stat().st_size - logged < (seconds + 3) * 2 * 2**20
    hostile.recovered(before, "py")
    assert hostile.memory("VmHWM") - held < 100


def test_a_function_that_invokes_itself_without_end_ends_at_its_deadline(hostile: Hostile) -> None:
    before = len(hostile.neighbours.asked)
    answer = hostile.client.post("/ts_bomb", json={})
    assert answer.status_code in (500, 504)
    assert answer.json()["error"]["type"] in ("DeadlineExceeded", "Overloaded")
    record = hostile.record(answer)
    assert [call["op"] for call in record["calls"]] == ["invoke", "invoke"]
    hostile.recovered(before, "ts")


def test_a_function_that_patches_everything_harms_itself_alone(hostile: Hostile) -> None:
    for function in ("ts_patched", "py_patched"):
        before = len(hostile.neighbours.asked)
        hostile.ask(function, "patches")
        hostile.ask(function, "works")
        hostile.recovered(before, "ts")


def test_the_neighbours_of_all_that_were_answered_rightly_and_recorded_whole(hostile: Hostile) -> None:
    hostile.neighbours.stop()
    asked = hostile.neighbours.asked
    assert hostile.neighbours.wrong == []
    assert len(asked) >= 20
    asyncio.run(_whole(hostile.project.environment["DATABASE_URL"], asked))


async def _whole(url: str, asked: dict[str, str]) -> None:
    connection = await asyncpg.connect(url)
    try:
        deadline = time.monotonic() + PATIENCE
        sql = """
            SELECT request_id, outcome, status, body, output, error, warnings,
              (SELECT count(*) FROM flux.host_calls c
                WHERE c.request_id = e.request_id AND c.status = 'done') AS calls,
              (SELECT count(*) FROM flux.logs l WHERE l.request_id = e.request_id) AS logs,
              (SELECT count(*) FROM flux.spans s WHERE s.request_id = e.request_id) AS spans,
              (SELECT array_agg(m.after ->> 'token') FROM flux.mutations m
                WHERE m.request_id = e.request_id AND NOT m.rolled_back) AS tokens
            FROM flux.executions e
            WHERE function IN ('good_ts', 'good_py') AND outcome IS NOT NULL
        """
        while True:
            rows = await connection.fetch(sql)
            if len(rows) >= len(asked):
                break
            assert time.monotonic() < deadline, f"{len(rows)} of {len(asked)} are recorded"
            await asyncio.sleep(0.1)
        assert await connection.fetchval("SELECT count(*) FROM flux.quarantine") == 0
    finally:
        await connection.close()
    assert {row["request_id"] for row in rows} == set(asked)
    for row in rows:
        token = asked[row["request_id"]]
        assert (row["outcome"], row["status"], row["error"]) == ("ok", 200, None)
        assert (json.loads(row["body"]), json.loads(row["output"])) == ({"token": token}, {"token": token})
        assert (row["calls"], row["logs"], row["spans"], row["tokens"]) == (1, 1, 3, [token])
