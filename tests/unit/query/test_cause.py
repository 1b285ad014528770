"""Which failure in a record is the one that ended it."""

from __future__ import annotations

from typing import Any

from flux.query import HostCall, Trace, cause
from tests.unit.cli.shapes import call, error, failure, span, trace


def failed(kind: str, message: str, *, calls: list[HostCall] | None = None, **values: Any) -> Trace:
    """An execution that ended in an error."""
    given = {"status": 500, "outcome": "error", "error": failure(kind, message), "output": None}
    return trace(**given | {"host_calls": calls or []} | values)


def test_what_went_well_has_no_cause() -> None:
    assert cause.find(trace()) is None


def test_an_answer_of_400_or_more_is_a_refusal_whose_cause_is_what_failed_before() -> None:
    broken = error("check_violation", "no stock")
    document = trace(status=409, host_calls=[call(1, "db.sql", {}, error=broken, span_id="c1")])
    document.spans.append(span("c1", "bb", "UPDATE", 2, 1, status="ERROR"))
    found = cause.find(document)
    assert found is not None
    assert (found.type, found.message, found.call) == (
        "check_violation",
        "no stock",
        document.host_calls[0],
    )
    assert [link.span_id for link in found.chain] == ["aa", "bb", "c1"]


def test_the_cause_of_a_refusal_may_lie_in_what_was_invoked() -> None:
    url = "http://pay.test/charges"
    child = trace(trigger="invoke", span_id="ca", request_id="c" * 32)
    child.spans[:] = [
        span("ca", "bb", "invoke pay", 2, 5),
        span("cb", "ca", "POST", 3, 2, status="ERROR", attributes={"error.type": "402"}),
    ]
    child.host_calls[:] = [call(1, "fetch", {"url": url}, {"status": 402}, span_id="cb")]
    document = trace(status=402, children=[child])
    document.host_calls[:] = [call(1, "invoke", {}, {}, span_id="ca", parent_span_id="bb")]
    found = cause.find(document)
    assert found is not None
    assert (found.type, found.message) == ("402", f"POST {url} answered 402.")
    assert (found.document, found.call) == (child, child.host_calls[0])
    assert [link.span_id for link in found.chain] == ["aa", "bb", "ca", "cb"]


def test_a_refusal_in_which_nothing_failed_is_the_functions_own() -> None:
    found = cause.find(trace(status=404))
    assert found is not None
    assert (found.type, found.message) == ("Response", "The function answered 404 itself.")


def test_the_call_whose_error_surfaced_is_the_cause() -> None:
    document = failed(
        "unique_violation",
        "duplicate key",
        calls=[
            call(1, "fetch", {}, error=error("ConnectError", "refused by 10.0.0.1")),
            call(2, "db.query", {}, error=error("unique_violation", "duplicate key"), span_id="c2"),
        ],
    )
    document.spans.append(span("c2", "bb", "INSERT", 2, 1, status="ERROR"))
    found = cause.find(document)
    assert found is not None
    assert (found.type, found.span_id, found.call) == ("unique_violation", "c2", document.host_calls[1])
    assert [link.span_id for link in found.chain] == ["aa", "bb", "c2"]
    assert [earlier.seq for earlier in found.earlier] == [1]


def test_an_error_that_quotes_a_calls_error_came_of_it() -> None:
    refused = error("ConnectError", "refused by 10.0.0.1")
    document = failed("Error", "no charge: refused by 10.0.0.1", calls=[call(1, "fetch", {}, error=refused)])
    found = cause.find(document)
    assert found is not None
    assert found.type == "ConnectError"


def test_a_short_message_is_no_quote() -> None:
    document = failed("Error", "no luck", calls=[call(1, "fetch", {}, error=error("ConnectError", "no"))])
    found = cause.find(document)
    assert found is not None
    assert (found.type, found.call) == ("Error", None)
    assert [earlier.seq for earlier in found.earlier] == [1]


def test_of_attempts_with_one_error_the_first_answered_is_the_cause() -> None:
    late = error("TimeoutError", "no answer")
    calls = [call(1, "fetch", {}, error=late, delivered=9), call(2, "fetch", {}, error=late, delivered=4)]
    found = cause.find(failed("TimeoutError", "no answer", calls=calls))
    assert found is not None
    assert found.call is calls[1]


def test_a_call_that_never_answered_comes_after_one_that_did() -> None:
    late = error("TimeoutError", "no answer")
    calls = [
        call(1, "fetch", {}, error=late, delivered=None),
        call(2, "fetch", {}, error=late, delivered=4),
    ]
    found = cause.find(failed("TimeoutError", "no answer", calls=calls))
    assert found is not None
    assert found.call is calls[1]


def test_the_cause_of_a_failed_invoke_lies_in_what_was_invoked() -> None:
    child = failed("ValueError", "no stock", request_id="c" * 32, parent_request_id="9f3c2a1b" + "0" * 24)
    sold = error("ValueError", "no stock", request_id="c" * 32)
    document = failed(
        "ValueError", "no stock", calls=[call(1, "invoke", {}, error=sold, parent_span_id="bb")]
    )
    document.children.append(child)
    found = cause.find(document)
    assert found is not None
    assert found.document is child
    assert [link.span_id for link in found.chain][:2] == ["aa", "bb"]


def test_a_failing_span_without_a_failing_child_tells_where_the_handler_threw() -> None:
    document = failed("TypeError", "x is undefined")
    document.spans[:] = [
        span("aa", None, "POST /buy", 0, 10, status="ERROR"),
        span("bb", "aa", "buy", 1, 8, status="ERROR"),
        span("dd", "bb", "parse", 2, 1, status="ERROR", attributes={"error.type": "TypeError"}),
        span("ee", "bb", "other", 2, 0.5, status="ERROR", attributes={"error.type": "Other"}),
    ]
    found = cause.find(document)
    assert found is not None
    assert (found.type, found.message, found.span_id) == ("TypeError", "x is undefined", "dd")
    assert [link.name for link in found.chain] == ["POST /buy", "buy", "parse"]


def test_a_status_that_the_function_chose_itself_is_said_to_be_its_own() -> None:
    found = cause.find(trace(status=503, outcome="error"))
    assert found is not None
    assert (found.type, found.message) == ("Response", "The function answered 503 itself.")


def test_an_interrupted_execution_names_what_was_in_the_air() -> None:
    calls = [call(1, "db.sql", {}), call(2, "fetch", {}, status="unknown", span_id="c2", delivered=None)]
    found = cause.find(trace(status=None, outcome="interrupted", host_calls=calls))
    assert found is not None
    assert (found.type, found.span_id, found.call) == ("interrupted", "c2", calls[1])


def test_a_rejection_is_its_own_cause() -> None:
    rejection = failure("NotFound", "No function is at /x.")
    found = cause.find(trace(status=404, outcome="rejected", error=rejection))
    assert found is not None
    assert (found.type, found.message, found.span_id) == ("NotFound", "No function is at /x.", "aa")


def test_spans_that_are_each_others_parent_end_the_chain() -> None:
    document = failed("Error", "x")
    document.spans[:] = [
        span("aa", "bb", "a", 0, 10, status="ERROR"),
        span("bb", "aa", "b", 1, 8, status="ERROR"),
        span("cc", "bb", "c", 2, 1, status="ERROR"),
    ]
    found = cause.find(document)
    assert found is not None
    assert [link.span_id for link in found.chain] == ["aa", "bb", "cc"]


def test_jobs_are_no_part_of_the_execution_that_pushed_them() -> None:
    document = trace(children=[trace(trigger="job"), trace(trigger="invoke", children=[trace()])])
    assert [each.trigger for each in cause.every(document)] == ["http", "invoke", "http"]
