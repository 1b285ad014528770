"""How an execution begins: its root span, and its arrival in the spool. Used by the executor."""

from __future__ import annotations

from opentelemetry.trace import Span, SpanKind, Tracer

from flux import semconv
from flux.errors import SpoolError
from flux.record.events import Arrival, Rejection
from flux.record.identity import day_of
from flux.recorder.execution import Execution
from flux.recorder.recorder import Recorder
from flux.runtime.request import Request
from flux.runtime.underway import Start

_KINDS = {"http": SpanKind.SERVER, "job": SpanKind.CONSUMER}
_FAAS_TRIGGER = {"http": "http", "job": "pubsub", "cron": "timer"}


class Arrivals:
    """Opens executions.

    Args:
        recorder: where they are written down. tracer: of the `flux` scope.
    """

    def __init__(self, recorder: Recorder, tracer: Tracer) -> None:
        self._recorder = recorder
        self._tracer = tracer

    def open(
        self, start: Start, request_id: str, started_ns: int, rejection: Rejection | None = None
    ) -> tuple[Execution, Span]:
        """Begin an execution, with its root span.

        Args:
            start: what is to run. request_id: its id. started_ns: when it came.
            rejection: how it is answered, where that is known already.

        Raises:
            SpoolError: it can't be recorded.
        """
        request, served = start.request, start.served
        root = self._root_span(request, request_id, started_ns)
        where = root.get_span_context()
        parent = getattr(root, "parent", None)
        try:
            execution = self._recorder.open(
                Arrival(
                    request_id=request_id,
                    day=day_of(started_ns),
                    trace_id=format(where.trace_id, "032x"),
                    span_id=format(where.span_id, "016x"),
                    parent_span_id=None if parent is None else format(parent.span_id, "016x"),
                    parent_request_id=request.parent_request_id,
                    trigger=request.trigger,
                    function=request.function,
                    deployment=served.deployment.id if served else None,
                    started_ns=started_ns,
                    record=served.record if served else "all",
                    method=request.method,
                    url=request.url,
                    path=request.path,
                    route=request.route,
                    query=request.query,
                    params=request.params,
                    headers=request.headers,
                    client_request_id=request.client_request_id,
                    body=request.body,
                    input_from=request.input_from,
                    input=request.input,
                    body_size=request.body_size,
                    job_id=request.job_id,
                    job_attempt=request.job_attempt,
                    client=request.client,
                    rejection=rejection,
                    replay_of=start.replay_of,
                    surroundings=start.surroundings,
                ),
                seed=start.seed,
                now_ns=start.guest_ns,
            )
        except SpoolError:
            self._recorder.forget(root)
            raise
        request.begun = True
        execution.adopt(root)
        return execution, root

    def _root_span(self, request: Request, request_id: str, started_ns: int) -> Span:
        if request.trigger == "http":
            name = f"{request.method} {request.route}" if request.route else request.method or "HTTP"
        elif request.trigger == "job":
            name = f"process {request.function}"
        else:
            name = f"{request.trigger} {request.function}"
        attributes = request.attributes
        attributes[semconv.FLUX_REQUEST_ID] = request_id
        if request.function:
            attributes[semconv.FAAS_NAME] = request.function
            attributes[semconv.FAAS_TRIGGER] = _FAAS_TRIGGER.get(request.trigger, "other")
        return self._tracer.start_span(
            name,
            context=request.context,
            kind=_KINDS.get(request.trigger, SpanKind.INTERNAL),
            attributes=attributes,
            links=request.links,
            start_time=started_ns,
        )
