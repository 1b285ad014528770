"""A job as a worker hands it over to be executed, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from opentelemetry import trace
from opentelemetry.trace import Link
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

_PROPAGATOR = TraceContextTextMapPropagator()


@dataclass(frozen=True, slots=True)
class Job:
    """One attempt at one job.

    Attributes:
        id: 32 hex digits.
        name: the function to run.
        payload: exact JSON, its input; with `sealed`, what may be read of it.
        sealed: the payload as it was pushed, sealed, where something in it is withheld.
        attempt: this attempt's number, from 1; max_attempts: how many there may be.
        pushed_by: request_id of the execution that pushed it, or None.
        traceparent: of the PRODUCER span that pushed it, or None.
        created_at: when it was pushed.
    """

    id: str
    name: str
    payload: bytes
    attempt: int
    max_attempts: int
    pushed_by: str | None
    traceparent: str | None
    created_at: datetime
    sealed: bytes | None = None

    def links(self) -> list[Link]:
        """What the CONSUMER span links to: the PRODUCER span, where one is known."""
        if self.traceparent is None:
            return []
        context = _PROPAGATOR.extract({"traceparent": self.traceparent})
        where = trace.get_current_span(context).get_span_context()
        return [Link(where)] if where.is_valid else []


@dataclass(frozen=True, slots=True)
class JobResult:
    """What came of an attempt.

    Attributes:
        ok: True: the job is done. False: it is tried again, if it has attempts left.
        request_id: the execution of this attempt, or None where none was recorded.
        error: `{type, message}` where it failed.
    """

    ok: bool
    request_id: str | None
    error: dict[str, Any] | None = None
