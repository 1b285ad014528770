"""What jsonb can't hold as it was stands beside it as exact JSON."""

from __future__ import annotations

from datetime import date
from typing import Any

from flux.drain import records
from flux.drain.assemble import Assembled
from flux.record.call import CallError
from flux.record.events import Arrival, Call, End, Failure, Intent

A = "a" * 32


def execution(end: End | None, intent: Intent | None = None, **more: Any) -> dict[str, Any]:
    arrival = Arrival(A, "2026-01-02", "t" * 32, "s" * 16, None, None, "http", "f", None, 1, "all", **more)
    row = records.execution(Assembled(arrival, [], end=end, intent=intent), "n" * 32)
    return dict(zip(records.EXECUTION_COLUMNS, row, strict=True))


def test_parameters_and_errors_keep_their_order_and_their_nul() -> None:
    failed = End(A, 500, "error", 1, error=Failure("E", "m\0", fields={"z": 1, "a": 2}))
    row = execution(failed, params={"z": "\0", "a": "b"})
    assert row["params_exact"] == b'{"z":"\\u0000","a":"b"}'
    assert row["error_exact"] == b'{"type":"E","message":"m\\u0000","fields":{"z":1,"a":2}}'


def test_a_calls_error_keeps_its_order() -> None:
    call = Call(1, "db.sql", b"{}", "done", 1, 1, error=CallError("t", "m", {"z": "1", "a": "\0"}), now_ns=17)
    row = dict(zip(records.CALL_COLUMNS, records.call(A, date(2026, 1, 2), call), strict=True))
    assert row["error_exact"] == b'{"type":"t","message":"m","detail":{"z":"1","a":"\\u0000"}}'
    assert row["now_ns"] == 17


def test_an_interrupted_execution_names_its_guest_once_something_was_sent() -> None:
    row = execution(None, Intent(A, [], guest="deno-1-2", invocation=3, sent=4))
    assert (row["outcome"], row["guest"], row["invocation"], row["sent"]) == ("interrupted", "deno-1-2", 3, 4)
