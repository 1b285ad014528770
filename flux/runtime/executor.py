"""Runs one execution from its arrival to its record, whatever triggered it (HTTP, job, invoke).

The order is the promise: the arrival is on disk before the function runs, the end is on disk before
the caller gets its answer. Called by the gateway, the job worker, the CLI's `invoke`, and by Live
for `ctx.invoke`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable
from functools import partial
from typing import Protocol

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, Status, StatusCode, Tracer

from flux import semconv
from flux.errors import (
    FunctionError,
    NotFound,
    Overloaded,
    RuntimeFault,
    SpoolError,
    SpoolFull,
    SpoolGone,
    Unconfirmed,
)
from flux.host.protocol import Host
from flux.record.events import Failure, Rejection
from flux.recorder.context import now_in, with_execution
from flux.recorder.execution import Execution
from flux.recorder.recorder import Recorder
from flux.runtime import failures
from flux.runtime.arrivals import Arrivals
from flux.runtime.engine import Invocation, Reply
from flux.runtime.registry import Registry, Served
from flux.runtime.request import Request, Result
from flux.runtime.together import Together

log = logging.getLogger("flux.runtime")

DEEPEST_INVOKE = 32
"""How many executions may be nested by ctx.invoke."""

_GIVEN_UP = Failure(type="Cancelled", message="It was ended: whoever called it no longer waited.")


class HostFactory(Protocol):
    """Makes the recorded host of one execution."""

    def __call__(self, execution: Execution, context: Context, request: Request, deadline: float) -> Host:
        """`context` holds the function span: the parent of what the host's calls trace.

        `deadline` is on the event loop's clock.
        """
        ...


class Executor:
    """Runs executions. One per process; any number in flight.

    Args:
        registry: the functions being served.
        recorder: where executions are written down.
        tracer: of the `flux` scope.
        hosts: makes the host of an execution.
        dev: True adds the stack to error documents.
        entropy, clock, monotonic: randomness, wall clock (ns) and monotonic clock (ns).
    """

    def __init__(
        self,
        *,
        registry: Registry,
        recorder: Recorder,
        tracer: Tracer,
        hosts: HostFactory,
        dev: bool,
        entropy: Callable[[int], bytes] = os.urandom,
        clock: Callable[[], int] = time.time_ns,
        monotonic: Callable[[], int] = time.perf_counter_ns,
    ) -> None:
        self._registry = registry
        self._recorder = recorder
        self._tracer = tracer
        self._arrivals = Arrivals(recorder, tracer)
        self._hosts = hosts
        self._dev = dev
        self._entropy = entropy
        self._clock = clock
        self._monotonic = monotonic
        self.finished: Callable[[Request, Result], None] | None = None
        """Told of each execution once it is recorded (`flux dev` prints a line)."""
        self.in_flight = 0
        """Executions that have begun and not ended."""
        self.ended: dict[tuple[str, str, str], int] = {}
        """How many have ended, by trigger, outcome and function ("" where none was found)."""

    async def execute(self, request: Request) -> Result:
        """Run `request` and return once its record is as durable as the project asks.

        Raises:
            SpoolError: the execution can't be recorded (SpoolFull: no room); its answer must be a 503.
        """
        began = self._monotonic()
        # What is invoked begins in its caller's time.
        nested = request.trigger == "invoke" and request.parent_request_id is not None
        started_ns = now_in(request.context) if nested else self._clock()
        served = self._registry.get(request.function) if request.function else None
        random = self._entropy(48)
        seed, request_id = random[:32], random[32:].hex()
        execution, root = self._arrivals.open(request, served, request_id, seed, started_ns)
        self.in_flight += 1
        counted = "interrupted"
        try:
            result = await self._run_to_end(request, served, execution, root, seed, started_ns, began)
            counted = result.outcome
        finally:
            self.in_flight -= 1
            self._count(request, counted, 1)
        if self.finished is not None:
            self.finished(request, result)
        return result

    def open_together(self, request: Request, request_id: str, started_ns: int | None = None) -> Together:
        """Begin the one execution that several rejected requests are recorded as.

        Args:
            request: the first of them, `rejected` set. Its body is not kept.
            request_id: ends in MEMBER zeros, see `flux.record.identity`.
            started_ns: when it came; by default now.

        Raises:
            SpoolError: it can't be recorded.
        """
        assert request.rejected is not None
        status, failure = request.rejected
        served = self._registry.get(request.function) if request.function else None
        if request.body_size is None:
            request.body_size = len(request.body)
        request.body = b""
        started_ns = self._clock() if started_ns is None else started_ns
        rejection = Rejection(status, failure)
        execution, root = self._arrivals.open(
            request, served, request_id, self._entropy(32), started_ns, rejection
        )

        def ended(together: Together) -> None:
            self._count(request, "rejected", together.count)
            if self.finished is not None:
                self.finished(request, together.result())

        return Together(execution, root, status, failure, ended)

    @property
    def settled(self) -> bool:
        """Whether what was recorded is always as durable as the project asks: `settle` never waits."""
        return self._recorder.spool.durability == "spool"

    async def settle(self) -> None:
        """Wait until what was recorded so far is as durable as the project asks."""
        await self._recorder.settle()

    def _count(self, request: Request, outcome: str, count: int) -> None:
        known = request.function if request.function and self._registry.get(request.function) else ""
        key = (request.trigger, outcome, known)
        self.ended[key] = self.ended.get(key, 0) + count

    async def _run_to_end(
        self,
        request: Request,
        served: Served | None,
        execution: Execution,
        root: Span,
        seed: bytes,
        started_ns: int,
        began: int,
    ) -> Result:
        reply: Reply | None = None
        failure: Failure | None = None
        status, outcome = 200, "ok"
        guest: str | None = None
        invocation: int | None = None
        try:
            if request.rejected is not None:
                status, failure = request.rejected
                outcome = "rejected"
            else:
                reply = await self._run(request, served, execution, root, seed, started_ns)
                guest, invocation = reply.guest, reply.invocation
                status = 200 if reply.status is None else reply.status
                if status >= 500:
                    outcome = "error"
        except (RuntimeFault, NotFound) as error:
            status, failure = failures.explain(error)
            outcome = "rejected" if isinstance(error, (Overloaded, NotFound)) else "error"
            if isinstance(error, RuntimeFault):
                guest, invocation = error.guest, error.invocation
        except SpoolError as error:
            status, outcome = 503, "error"
            failure = Failure(type=error.type, message=error.message)
        except asyncio.CancelledError:
            # Unless it were ended here, it would stand open in the spool for as long as this process runs.
            await self._finish(
                request, execution, root, None, _GIVEN_UP, 499, "error", guest, invocation, began
            )
            raise
        except Exception as error:
            log.exception("an execution failed inside Flux")
            status, outcome = 500, "error"
            failure = Failure(type="InternalError", message=f"Flux failed: {type(error).__name__}.")
        return await self._finish(
            request, execution, root, reply, failure, status, outcome, guest, invocation, began
        )

    async def _run(
        self,
        request: Request,
        served: Served | None,
        execution: Execution,
        root: Span,
        seed: bytes,
        now_ns: int,
    ) -> Reply:
        if served is None:
            raise NotFound(
                f"No function is called `{request.function}`.", "List them with GET / or `flux dev`."
            )
        if request.depth > DEEPEST_INVOKE:
            raise FunctionError("InvokeError", f"Invocations are nested more than {DEEPEST_INVOKE} deep.")
        context = with_execution(trace.set_span_in_context(root, request.context), execution)
        span = self._tracer.start_span(
            served.name,
            context=context,
            attributes={
                semconv.FAAS_INVOCATION_ID: execution.request_id,
                semconv.FLUX_DEPLOYMENT: served.deployment.id,
                semconv.CODE_FILE_PATH: f"functions/{served.deployment.entry}",
            },
        )
        host: Host | None = None
        try:
            if served.guest is None:
                raise served.failure or RuntimeFault(f"`{served.name}` is not loaded.")
            where = span.get_span_context()
            deadline = asyncio.get_running_loop().time() + served.timeout
            host = self._hosts(execution, trace.set_span_in_context(span, context), request, deadline)
            return await served.guest.invoke(
                Invocation(
                    request_id=execution.request_id,
                    trace_id=execution.trace_id,
                    span_id=format(where.span_id, "016x"),
                    seed=seed,
                    now_ns=now_ns,
                    timeout=served.timeout,
                    request={
                        "method": request.method,
                        "url": request.url,
                        "path": request.path,
                        "params": request.params,
                        "query": request.query_params,
                        "headers": request.headers,
                    },
                    body=request.body,
                    input=request.input,
                ),
                host,
            )
        except RuntimeFault as error:
            failures.mark(span, failures.explain(error)[1])
            raise
        except asyncio.CancelledError:
            failures.mark(span, _GIVEN_UP)
            raise
        finally:
            if host is not None:
                await host.close()
            span.end()

    async def _finish(
        self,
        request: Request,
        execution: Execution,
        root: Span,
        reply: Reply | None,
        failure: Failure | None,
        status: int,
        outcome: str,
        guest: str | None,
        invocation: int | None,
        began: int,
    ) -> Result:
        if reply is not None:
            kind, body, headers = "json" if reply.status is None else "response", reply.body, reply.headers
        else:
            kind, headers = "json", []
            body = self.error_document(failure, execution.request_id)
        if request.trigger == "http":
            root.set_attribute(semconv.HTTP_RESPONSE_STATUS_CODE, status)
        if failure is not None and outcome != "rejected":
            failures.mark(root, failure, events=False)
        elif status >= 500:
            root.set_status(Status(StatusCode.ERROR))
            root.set_attribute(semconv.ERROR_TYPE, str(status))
        elif failure is not None:
            root.set_attribute(semconv.ERROR_TYPE, failure.type)
        duration = self._monotonic() - began
        root.end()
        try:
            execution.end(
                status=status,
                outcome=outcome,
                output=reply.body if reply is not None else None,
                output_kind=kind,
                response_headers=headers,
                error=failure,
                guest=guest,
                invocation=invocation,
                duration_ns=duration,
            )
            await self._recorder.settle()
        except (SpoolFull, SpoolGone) as error:
            execution.warn(f"It ended {outcome} with {status}, which could not be recorded: {error.message}")
            status, outcome, kind, headers, failure = 503, "error", "json", [], failures.UNRECORDED
            body = self.error_document(failure, execution.request_id)
            self._recorder.owe(
                partial(
                    execution.end,
                    status=status,
                    outcome=outcome,
                    error=failure,
                    guest=guest,
                    invocation=invocation,
                    duration_ns=duration,
                )
            )
            if request.trigger != "http":
                raise
        except Unconfirmed as error:
            if request.trigger == "http":
                self._unconfirmed(error, root)
                status, outcome, kind, headers, failure = 503, "error", "json", [], failures.UNCONFIRMED
                body = self.error_document(failure, execution.request_id)
            else:
                log.warning("execution %s goes on unconfirmed: %s", execution.request_id, error.message)
        return Result(
            request_id=execution.request_id,
            trace_id=execution.trace_id,
            span_id=execution.arrival.span_id,
            status=status,
            outcome=outcome,
            kind=kind,
            headers=headers,
            body=body,
            error=failure,
        )

    def error_document(self, failure: Failure | None, request_id: str | None) -> bytes:
        """The JSON body of an error answer; the stack only in dev."""
        return failures.document(failure, request_id, dev=self._dev)

    def _unconfirmed(self, error: Unconfirmed, root: Span) -> None:
        """Leave a span that says what the client was told: the execution's record has ended already."""
        span = self._tracer.start_span(
            "answered unconfirmed",
            context=trace.set_span_in_context(root, Context()),
            attributes={semconv.HTTP_RESPONSE_STATUS_CODE: 503, semconv.ERROR_TYPE: error.type},
        )
        span.set_status(Status(StatusCode.ERROR, error.message))
        span.end()
