"""Errors of executions: which status and recorded failure one is, how a client and a span are told of it.
Used by the executor.
"""

from __future__ import annotations

from typing import Any

import orjson
from opentelemetry.trace import Span, Status, StatusCode

from flux import semconv
from flux.errors import DeadlineExceeded, FunctionError, GuestDied, NotFound, Overloaded, RuntimeFault
from flux.record.events import Failure

UNCONFIRMED = Failure(
    type="Unconfirmed",
    message="The request ran and the server keeps its record, but Postgres has not confirmed it. What it did "
    "may stand: look it up by its request_id before you send it again.",
)
"""What a client is told where `durability = "postgres"` could not be kept."""

UNRECORDED = Failure(
    type="Unrecorded",
    message="The request ran, but the server has no room to record its answer. What it did may stand: "
    "look it up by its request_id before you send it again.",
)
"""What a client is told, and its record later, where the end of an execution could not be written."""

_AWAY = frozenset(
    {"sqlclient_unable_to_establish_sqlconnection", "cannot_connect_now", "too_many_connections"}
)
"""Errors by which a function that caught none says that it could not have the database: its client may
try again."""


def explain(error: RuntimeFault | NotFound) -> tuple[int, Failure]:
    """The HTTP status and the recorded failure for an error out of the runtime."""
    if isinstance(error, FunctionError):
        status = 503 if error.error_type in _AWAY else 422 if error.fields else 500
        return status, Failure(
            type=error.error_type,
            message=error.message,
            file=error.file,
            line=error.line,
            column=error.column,
            stack=error.stack,
            fields=dict(error.fields) if error.fields else None,
        )
    if isinstance(error, DeadlineExceeded):
        return 504, Failure(type="DeadlineExceeded", message=error.message)
    if isinstance(error, GuestDied):
        return 502, Failure(type="GuestDied", message=error.message)
    if isinstance(error, Overloaded):
        return 503, Failure(type="Overloaded", message=error.message)
    if isinstance(error, NotFound):
        return 404, Failure(type="NotFound", message=error.message)
    return 502, Failure(type=error.type, message=error.message)


def mark(span: Span, failure: Failure, *, events: bool = True) -> None:
    """Say on a span that it ended in `failure`; with `events` as an exception too."""
    span.set_status(Status(StatusCode.ERROR, failure.message))
    span.set_attribute(semconv.ERROR_TYPE, failure.type)
    if not events:
        return
    attributes: dict[str, str] = {
        semconv.EXCEPTION_TYPE: failure.type,
        semconv.EXCEPTION_MESSAGE: failure.message,
    }
    if failure.stack:
        attributes[semconv.EXCEPTION_STACKTRACE] = failure.stack
    span.add_event("exception", attributes)
    if failure.file is not None:
        span.set_attribute(semconv.CODE_FILE_PATH, failure.file)
        if failure.line is not None:
            span.set_attribute(semconv.CODE_LINE_NUMBER, failure.line)
        if failure.column is not None:
            span.set_attribute(semconv.CODE_COLUMN_NUMBER, failure.column)


def document(failure: Failure | None, request_id: str | None, *, dev: bool) -> bytes:
    """The JSON body of an error answer; the stack only in dev."""
    document: dict[str, Any] = {
        "type": failure.type if failure else "Error",
        "message": failure.message if failure else "",
    }
    if request_id is not None:
        document["request_id"] = request_id
    if failure is not None:
        if failure.fields:
            document["fields"] = failure.fields
        if dev and failure.file:
            document["at"] = ":".join(str(p) for p in (failure.file, failure.line, failure.column) if p)
        if dev and failure.stack:
            document["stack"] = failure.stack
    return orjson.dumps({"error": document})
