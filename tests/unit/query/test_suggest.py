"""What to do about a failure."""

from __future__ import annotations

from typing import Any

import pytest

from flux.query import HostCall, Suggestion
from flux.query.cause import Cause
from flux.query.facts import Facts, Route
from flux.query.suggest import suggest
from tests.unit.cli.shapes import call, failure, mutation, trace

ROUTES = [Route("create_user", "/users", "POST"), Route("get_user", "/users/{id}", "GET")]


def advice(
    kind: str,
    message: str = "it failed",
    *,
    failing: HostCall | None = None,
    detail: dict[str, str] | None = None,
    **execution: Any,
) -> list[Suggestion]:
    """The suggestions for an execution that ended with an error of type `kind`."""
    document = trace(**{"status": 500, "outcome": "error"} | execution)
    cause = Cause(kind, message, None, document, failing)
    return suggest(Facts(cause, document, detail or {}, ROUTES))


def test_what_nobody_foresaw_gets_no_advice() -> None:
    assert advice("Error", "anything") == []


def test_a_unique_violation_names_the_row_that_is_there() -> None:
    detail = {
        "table": "users",
        "constraint": "users_email_key",
        "detail": "Key (email)=(a@b) already exists.",
    }
    first, second = advice("unique_violation", detail=detail)
    assert "`on_conflict` on (email)" in first.text
    assert first.reason == "`users` already has a row with email = a@b, and `users_email_key` allows one."
    assert "409" in second.text


def test_an_error_of_another_name_is_known_by_its_sqlstate() -> None:
    (found,) = advice("DatabaseError", detail={"sqlstate": "40P01"})
    assert "again" in found.text


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"name": "x"}, "The input has no `email`, and `users.email` is NOT NULL."),
        ({"email": None}, "`users.email` is NOT NULL and the statement gave it null."),
    ],
)
def test_a_missing_value_is_looked_for_in_the_input(given: Any, reason: str) -> None:
    (found,) = advice("not_null_violation", detail={"table": "users", "column": "email"}, input=given)
    assert found.reason == reason


def test_a_foreign_key_tells_a_missing_row_from_one_still_needed() -> None:
    missing = advice(
        "foreign_key_violation",
        detail={"table": "orders", "detail": 'Key (user_id)=(5) is not present in table "users".'},
    )
    assert missing[0].text == "Insert into `users` before `orders`, in one transaction."
    assert missing[1].text.endswith('flux state history users --id "5"')
    (needed,) = advice(
        "foreign_key_violation",
        detail={"table": "users", "detail": 'Key (id)=(5) is still referenced from table "orders".'},
    )
    assert "ON DELETE CASCADE" in needed.text


def test_a_deadline_names_the_call_that_it_waited_for() -> None:
    calls = [
        call(1, "db.sql", {}, duration_ms=2.0),
        call(2, "fetch", {"method": "GET", "url": "http://slow.example/x"}, status="abandoned"),
    ]
    (found,) = advice("DeadlineExceeded", status=504, duration_ms=30_000.0, host_calls=calls)
    assert found.reason == "After 30,000 ms it still waited for GET http://slow.example/x."
    invoke = call(1, "invoke", {"name": "pay"}, status="abandoned")
    pay = trace(span_id=invoke.span_id, host_calls=calls)
    (found,) = advice("DeadlineExceeded", status=504, duration_ms=900.0, host_calls=[invoke], children=[pay])
    assert found.reason == (
        "After 900 ms it still waited for the invocation of `pay`, and that for GET http://slow.example/x."
    )
    (own,) = advice("DeadlineExceeded", status=504, duration_ms=30_000.0)
    assert "its own code" in own.reason


def test_a_fetch_that_timed_out_is_given_a_limit_of_its_own() -> None:
    failing = call(1, "fetch", {"url": "https://pay.example/charge?x=1"}, duration_ms=1500.0)
    (found,) = advice("timeout", failing=failing)
    assert "pay.example a time limit" in found.text
    assert "1,500 ms" in found.reason


@pytest.mark.parametrize("kind", ["ConnectError", "DNSError", "TLSError"])
def test_what_could_not_be_reached_is_named(kind: str) -> None:
    (found,) = advice(kind, failing=call(1, "fetch", {"url": "https://pay.example:8443/charge"}))
    assert "pay.example:8443" in found.text


def test_a_secret_that_is_missing_is_named() -> None:
    (found,) = advice("secret_not_found", failing=call(1, "secrets.get", {"key": "STRIPE_KEY"}))
    assert "`STRIPE_KEY=...` to .env" in found.text


def test_a_misspelt_path_is_told_its_neighbour() -> None:
    gone = {"outcome": "rejected", "status": 404, "function": None}
    (near,) = advice("NotFound", **gone, path="/user")
    assert near.text == "Did you mean POST /users?"
    (far,) = advice("NotFound", **gone, path="/metrics/all")
    assert "functions/metrics/index.ts" in far.text
    assert far.reason == "Routes: POST /users, GET /users/{id}."


def test_a_wrong_method_is_told_the_right_one() -> None:
    wrong = {"outcome": "rejected", "status": 405, "method": "DELETE"}
    (found,) = advice("MethodNotAllowed", **wrong, path="/users/7")
    assert found.text.startswith("Send GET /users/7, or set")
    assert advice("MethodNotAllowed", **wrong, path="/users/7/orders") == []


def test_invalid_fields_are_listed() -> None:
    error = failure("ValidationError", "invalid", fields={"qty": "must be positive"})
    (found,) = advice("ValidationError", status=422, outcome="rejected", error=error)
    assert found == Suggestion(text="Correct `qty` in the request.", reason="qty: must be positive")
    assert advice("ValidationError", status=422, outcome="rejected") == []


def test_an_interrupted_execution_may_be_repeated_only_where_nothing_is_unknown() -> None:
    stopped: dict[str, Any] = {"outcome": "interrupted", "status": None}
    (safe,) = advice("interrupted", **stopped)
    assert safe.text == "Send the request again."
    calls = [call(1, "queue.push", {"name": "mail"}, status="unknown")]
    (unsure,) = advice("interrupted", **stopped, host_calls=calls)
    assert "whether the push of `mail` was carried out" in unsure.text


def test_a_row_that_was_not_there_is_blamed_only_where_none_was_found() -> None:
    message = "Cannot read properties of undefined (reading 'id')"
    empty = [call(1, "db.query", {"table": "users", "operation": "select"}, {"rows": [], "count": 0})]
    (found,) = advice("TypeError", message, host_calls=empty)
    assert found.text == "Handle the case in which select on `users` (call 1) finds nothing."
    full = [call(1, "db.query", {"table": "users"}, {"rows": [{"id": 1}], "count": 1})]
    assert advice("TypeError", message, host_calls=full) == []
    assert advice("TypeError", "x is not a function", host_calls=empty) == []


@pytest.mark.parametrize(
    ("kind", "message", "told"),
    [
        ("GuestDied", "The guest process of `f` ran out of memory: it may allocate 96 MiB.", "memory_mb"),
        (
            "MemoryError",
            "out of memory: a process may allocate 96 MiB (memory_mb in flux.toml).",
            "memory_mb",
        ),
        ("GuestDied", "… was killed: its event loop was blocked past a deadline.", "flux tail --failed"),
        ("GuestDied", "… was killed: it broke the protocol: a malformed frame.", "descriptors"),
        ("GuestDied", "… ended by itself (exit code 3).", "ends the process"),
    ],
)
def test_the_death_of_a_process_is_told_by_what_ended_it(kind: str, message: str, told: str) -> None:
    (found,) = advice(kind, status=502, message=message)
    assert told in found.text


def test_a_range_error_that_is_not_about_memory_gets_no_advice() -> None:
    assert advice("RangeError", status=500, message="Invalid array length") == []


def test_a_deferred_foreign_key_says_why_it_failed_only_at_commit() -> None:
    detail = {
        "table": "late",
        "constraint": "late_fkey",
        "detail": 'Key (account)=(7) is not present in table "accounts".',
    }
    first, _ = advice("foreign_key_violation", failing=call(2, "db.commit", {}), detail=detail)
    assert first.reason == (
        "`accounts` has no row for account = 7. `late_fkey` is deferred, so it was checked at COMMIT."
    )


def test_a_timeout_of_postgres_names_the_setting() -> None:
    (stopped,) = advice("query_canceled", "canceling statement due to statement timeout")
    assert "`statement_timeout`" in stopped.text
    assert advice("query_canceled", "canceling statement due to user request") == []
    (locked,) = advice("lock_not_available", "canceling statement due to lock timeout")
    assert "`lock_timeout`" in locked.reason
    (unwaiting,) = advice("lock_not_available", 'could not obtain lock on row in relation "a"')
    assert "not to wait" in unwaiting.reason


@pytest.mark.parametrize(
    ("op", "tx", "rows", "text"),
    [
        ("db.sql", None, [], "Find out whether the statement was done"),
        ("db.sql", 1, [True], "Run the transaction again."),
        ("db.commit", 1, [], "Find out whether the transaction was committed"),
        ("db.commit", 1, [True, True], "Run the transaction again."),
        ("db.commit", 1, [True, False], "Don't run the transaction again"),
    ],
)
def test_a_lost_connection_is_judged_by_the_rows(
    op: str, tx: int | None, rows: list[bool], text: str
) -> None:
    failing = call(3, op, {}, tx=tx)
    calls = [call(1, "db.begin", {}), call(2, "db.sql", {}, tx=1), failing]
    mutations = [mutation("INSERT", {"id": 1}, None, {"id": 1}, seq=2, rolled_back=undone) for undone in rows]
    (found,) = advice("connection_failure", failing=failing, host_calls=calls, mutations=mutations)
    assert found.text.startswith(text)


@pytest.mark.parametrize("kind", ["sqlclient_unable_to_establish_sqlconnection", "cannot_connect_now"])
def test_a_database_that_is_away_is_named_and_the_request_may_be_sent_again(kind: str) -> None:
    first, second = advice(kind, status=503)
    assert "flux doctor" in first.text
    assert "nothing of this statement was done" in first.reason
    assert "again" in second.text


def test_a_full_pool_says_who_to_look_for() -> None:
    first, second = advice("too_many_connections", status=503)
    assert "flux search" in first.text
    assert "pool_size" in second.text
