"""What is to be executed, whoever asks, and how it ended: what goes into the executor and what comes out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qsl

import msgspec
from opentelemetry.context import Context
from opentelemetry.trace import Link

from flux.record.events import Failure


class Request(msgspec.Struct, eq=False):
    """What is to be run, whoever asks.

    Attributes:
        trigger: `http`, `job`, `cron`, `invoke` or `replay`.
        function: its name, or None where no route matched (then `rejected` must be set).
        body: the bytes that came; `input`: exact JSON of the handler's input where that is not the body.
        context: OpenTelemetry context of the parent (an incoming traceparent, the calling execution).
        begun: set by the executor once its arrival is recorded.
        rejected: a status and a failure where the request must not run (404, 405, 413, 400).
    """

    trigger: str
    function: str | None
    body: bytes = b""
    input: bytes | None = None
    input_from: str = "body"
    method: str | None = None
    url: str | None = None
    path: str | None = None
    route: str | None = None
    query: str | None = None
    params: dict[str, str] = {}
    query_params: dict[str, list[str]] = {}
    headers: list[tuple[str, str]] = []
    client: str | None = None
    client_request_id: str | None = None
    parent_request_id: str | None = None
    context: Context | None = None
    links: Sequence[Link] = ()
    attributes: dict[str, Any] = {}
    job_id: str | None = None
    job_attempt: int | None = None
    depth: int = 0
    body_size: int | None = None
    rejected: tuple[int, Failure] | None = None
    begun: bool = False


class Ending(msgspec.Struct, frozen=True):
    """How a handler ended: what is recorded, and what its answer is made of.

    Attributes:
        status: what is answered. outcome: `ok`, `error` or `rejected`.
        kind: `json` (a value, or an error document) or `response` (the handler's own Response).
        output: what the handler returned, exact; None where it returned nothing.
        headers: of its Response. error: why it failed.
        guest, invocation: the process that it ran in, and the run's number there.
    """

    status: int
    outcome: str
    kind: str = "json"
    output: bytes | None = None
    headers: Sequence[tuple[str, str]] = ()
    error: Failure | None = None
    guest: str | None = None
    invocation: int | None = None


class Result(msgspec.Struct, frozen=True):
    """How it was answered.

    `kind` is `json` (a value's exact JSON, or an error document) or `response` (the handler's own Response).
    `warnings` are those that were known by then.
    """

    request_id: str
    trace_id: str
    span_id: str
    status: int
    outcome: str
    kind: str
    headers: list[tuple[str, str]]
    body: bytes
    error: Failure | None = None
    warnings: Sequence[str] = ()


def query_members(query: str) -> dict[str, list[str]]:
    """The query string as name -> values, in order; percent-decoded, bad UTF-8 replaced."""
    found: dict[str, list[str]] = {}
    if "%" not in query and "+" not in query:
        for member in query.split("&"):
            if member:
                name, _, value = member.partition("=")
                found.setdefault(name, []).append(value)
        return found
    for name, value in parse_qsl(query, keep_blank_values=True, max_num_fields=None):
        found.setdefault(name, []).append(value)
    return found
