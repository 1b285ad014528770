"""Why an execution failed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from flux.query import Change, Difference, Reader
from tests.integration.query.recorded import FAILED_ID, OK_ID, Record, unique_violation

A = "aaaa1111" + "0" * 24
B = "bbbb2222" + "0" * 24


@pytest.fixture
async def users(connection: Any) -> None:
    await connection.execute(
        "CREATE TABLE users (id int PRIMARY KEY, email text UNIQUE);"
        "CREATE TABLE orders (id int PRIMARY KEY, user_id int REFERENCES users, item text)"
    )


def thrown(kind: str, message: str, **more: Any) -> str:
    return json.dumps(
        {"type": kind, "message": message, "file": "functions/create_user/index.ts", "line": 7} | more
    )


@pytest.mark.usefixtures("users")
async def test_a_unique_violation_is_explained_to_the_end(
    record: Record, reader: Reader, connection: Any
) -> None:
    await unique_violation(record)
    await connection.execute(
        "ALTER TABLE users DISABLE TRIGGER ALL; INSERT INTO users VALUES (7, 'ada@example.com')"
    )
    why = await reader.why(FAILED_ID)
    assert why.root_cause.type == "unique_violation"
    assert why.root_cause.span_id.endswith("c3")
    assert why.location.line == 6
    assert "ctx.db.query" in why.location.source
    assert [row.line for row in why.location.context] == [3, 4, 5, 6, 7, 8, 9]
    assert why.input == {"email": "ada@example.com"}
    assert [(m.table, m.rolled_back) for m in why.data_changes] == [("orders", True)]
    (writer,) = why.provenance
    assert (writer.table, writer.key, writer.column, writer.request_id) == (
        "users", {"id": 7}, "email", OK_ID,
    )  # fmt: skip
    assert why.previous_success == OK_ID
    assert why.first_difference == Difference(where="call 1", field="op", a=None, b="db.begin")
    assert "users_email_key" in why.suggestions[0].reason
    assert "(email)" in why.suggestions[0].text


async def test_a_failed_call_that_was_caught_is_not_the_cause_of_another_error(
    record: Record, reader: Reader
) -> None:
    await record.deployment()
    error = thrown("TypeError", "Cannot read properties of undefined (reading 'id')")
    await record.execution(A, status=500, outcome="error", error=error)
    refused = {"type": "ConnectError", "message": "connection refused", "detail": {}}
    await record.call(
        A, 1, "fetch", {"method": "GET", "url": "http://down.example/x"}, span="c1", error=refused
    )
    await record.call(
        A, 2, "db.query", {"table": "users", "filters": {"id": 9}}, {"rows": [], "count": 0}, span="c2"
    )
    why = await reader.why(A)
    assert why.root_cause.type == "TypeError"
    assert why.root_cause.span_id.endswith("bb")
    assert [call.op for call in why.survived] == ["fetch"]
    assert "finds nothing" in why.suggestions[0].text
    assert why.location.source.strip() == "return { id: user.id };"


async def test_a_caught_error_that_surfaced_in_another_is_the_cause(record: Record, reader: Reader) -> None:
    error = thrown("Error", "could not charge: connection refused by 10.0.0.1")
    await record.execution(A, status=500, outcome="error", error=error)
    refused = {"type": "ConnectError", "message": "connection refused by 10.0.0.1", "detail": {}}
    await record.call(
        A, 1, "fetch", {"method": "POST", "url": "http://pay.example/charge"}, span="c1", error=refused
    )
    why = await reader.why(A)
    assert why.root_cause.type == "ConnectError"
    assert why.root_cause.span_id.endswith("c1")
    assert "pay.example" in why.suggestions[0].text


async def test_the_first_of_several_attempts_failed_first(record: Record, reader: Reader) -> None:
    await record.execution(A, status=500, outcome="error", error=thrown("TimeoutError", "no answer"))
    late = {"type": "TimeoutError", "message": "no answer", "detail": {}}
    for seq in (1, 2, 3):
        await record.call(
            A, seq, "fetch", {"url": "http://slow.example"}, span=f"c{seq}", at_ms=seq, error=late
        )
    assert (await reader.why(A)).root_cause.span_id.endswith("c1")


async def test_the_cause_inside_an_invoked_execution_is_found(record: Record, reader: Reader) -> None:
    await record.execution(A, status=500, outcome="error", error=thrown("ValueError", "no stock left"))
    failure = {"type": "ValueError", "message": "no stock left", "detail": {"request_id": B, "status": "500"}}
    await record.call(A, 1, "invoke", {"name": "reserve", "payload": 1}, span="c1", error=failure)
    await record.execution(
        B, ago=59, trigger="invoke", function="reserve", parent_request_id=A, status=500, outcome="error",
        error=thrown("ValueError", "no stock left", file="functions/reserve/main.py", line=3),
    )  # fmt: skip
    why = await reader.why(A)
    assert why.root_cause.request_id == B
    assert why.location.file == "functions/reserve/main.py"
    assert [span.name for span in why.chain][-1] == "reserve"


@pytest.mark.usefixtures("users")
async def test_a_missing_referenced_row_is_traced_to_who_deleted_it(record: Record, reader: Reader) -> None:
    await record.execution(B, ago=100, function="delete_user")
    await record.mutation(B, "DELETE", {"id": 5}, {"id": 5, "email": "x"}, None, ago=100)
    message = 'insert or update on table "orders" violates foreign key constraint "orders_user_id_fkey"'
    detail = {"sqlstate": "23503", "schema": "public", "table": "orders", "constraint": "orders_user_id_fkey",
              "detail": 'Key (user_id)=(5) is not present in table "users".'}  # fmt: skip
    await record.execution(A, status=500, outcome="error", error=thrown("foreign_key_violation", message))
    failure = {"type": "foreign_key_violation", "message": message, "detail": detail}
    await record.call(A, 1, "db.sql", {"text": "insert into orders ..."}, span="c1", error=failure)
    why = await reader.why(A)
    (writer,) = why.provenance
    assert (writer.table, writer.key, writer.op, writer.request_id) == (
        "users",
        {"id": 5},
        "DELETE",
        B,
    )
    assert why.suggestions[1].text.endswith('flux state history users --id "5"')


@pytest.mark.usefixtures("users")
async def test_rows_read_before_a_throw_name_their_writers(record: Record, reader: Reader) -> None:
    await record.execution(B, ago=100)
    await record.mutation(B, "INSERT", {"id": 3}, None, {"id": 3, "email": None}, ago=100)
    await record.execution(A, status=500, outcome="error", error=thrown("TypeError", "x is null"))
    rows = {"rows": [{"id": 3, "email": None}], "count": 1}
    await record.call(A, 1, "db.query", {"table": "users", "operation": "select"}, rows, span="c1")
    (writer,) = (await reader.why(A)).provenance
    assert (writer.column, writer.value, writer.request_id) == ("email", None, B)


async def test_input_differs_first_where_it_differs(record: Record, reader: Reader) -> None:
    await record.execution(B, ago=100, body=b'{"qty": 1, "item": "tea"}')
    await record.execution(
        A, body=b'{"qty": 0, "item": "tea"}', status=500, outcome="error", error=thrown("RangeError", "x"),
        deployment="e" * 64,
    )  # fmt: skip
    why = await reader.why(A)
    assert why.first_difference == Difference(where="input", field="input.qty", a=1, b=0)
    assert why.deployment_changed == Change(a="d" * 64, b="e" * 64)


async def test_no_previous_success_means_no_difference(record: Record, reader: Reader) -> None:
    await record.execution(A, status=500, outcome="error", error=thrown("Error", "x"))
    why = await reader.why(A)
    assert (why.previous_success, why.first_difference) == (None, None)


async def test_an_execution_that_went_well_has_no_cause(record: Record, reader: Reader) -> None:
    await record.execution(A)
    why = await reader.why(A)
    assert (why.failed, why.root_cause, why.suggestions) == (False, None, [])
    assert [part.name for part in why.slowest] == ["create_user", "POST /create_user"]


async def test_rejections_point_to_the_route(record: Record, reader: Reader) -> None:
    await record.deployment()
    rejected = {"outcome": "rejected", "function": None, "deployment": None, "route": None, "output": None}
    error = json.dumps({"type": "NotFound", "message": "No function is at /create_usr."})
    await record.execution(A, **rejected, status=404, path="/create_usr", error=error)
    error = json.dumps({"type": "MethodNotAllowed", "message": "GET is not allowed."})
    await record.execution(B, **rejected, status=405, method="GET", error=error)
    assert (await reader.why(A)).suggestions[0].text == "Did you mean POST /create_user?"
    why = await reader.why(B)
    assert why.root_cause.type == "MethodNotAllowed"
    assert why.suggestions[0].text.startswith("Send POST /create_user")


async def test_an_interrupted_execution_names_the_call_whose_answer_is_unknown(
    record: Record, reader: Reader
) -> None:
    await record.execution(A, status=None, outcome="interrupted", duration_ms=None, output=None, spans=False)
    await record.call(
        A, 1, "fetch", {"method": "POST", "url": "http://pay.example/"}, status="unknown", delivered=None
    )
    why = await reader.why(A)
    assert why.root_cause.type == "interrupted"
    assert "POST http://pay.example/" in why.suggestions[0].text
