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
from collections.abc import Callable, Sequence
from functools import partial

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
from flux.record.events import Failure, Rejection
from flux.recorder.context import now_in, with_execution
from flux.recorder.recorder import Recorder
from flux.runtime import failures
from flux.runtime.arrivals import Arrivals
from flux.runtime.engine import Invocation, Reply
from flux.runtime.registry import Registry
from flux.runtime.request import Ending, Request, Result
from flux.runtime.together import Together
from flux.runtime.underway import HostFactory, Known, Start, Underway

log = logging.getLogger("flux.runtime")

DEEPEST_INVOKE = 32
"""How many executions may be nested by ctx.invoke."""

_ANSWERED_EARLY = frozenset({"http", "invoke"})
"""Triggers whose caller gets its answer while work goes on that was handed to ctx.waitUntil."""

_GIVEN_UP = Failure(type="Cancelled", message="It was ended: whoever called it no longer waited.")


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
        self.left: Callable[[Request, str, Sequence[str]], None] | None = None
        """Told of what an execution left behind, by its id, where that is known after its answer only."""
        self._going_on: set[asyncio.Task[None]] = set()
        self.in_flight = 0
        """Executions that have begun and not ended, those that go on after their answer among them."""
        self.ended: dict[tuple[str, str, str], int] = {}
        """How many have ended, by trigger, outcome and function ("" where none was found)."""

    async def execute(self, request: Request) -> Result:
        """Run `request` and return once its record is as durable as the project asks.

        Where the function handed work to ctx.waitUntil, a request or an invocation is answered when what is
        known by then is that durable, and the execution ends later, by itself. Others (a job, which is
        acknowledged by what this returns; every one where the answer waits for Postgres, which stores an
        execution as one) return when it has ended.

        Raises:
            SpoolError: the execution can't be recorded (SpoolFull: no room); its answer must be a 503.
        """
        # What is invoked begins in its caller's time.
        nested = request.trigger == "invoke" and request.parent_request_id is not None
        started_ns = now_in(request.context) if nested else self._clock()
        served = self._registry.get(request.function) if request.function else None
        random = self._entropy(48)
        start = Start(request, served, random[:32], started_ns, self._hosts)
        return await self._run_to_end(start, random[32:].hex(), started_ns)

    async def run(self, start: Start) -> Result:
        """Run what is given whole, as an execution of its own; see `execute`."""
        return await self._run_to_end(start, self._entropy(16).hex(), self._clock())

    async def _run_to_end(self, start: Start, request_id: str, started_ns: int) -> Result:
        request, began = start.request, self._monotonic()
        execution, root = self._arrivals.open(start, request_id, started_ns)
        run = Underway(start, began, execution, root)
        self.in_flight += 1
        counted = "interrupted"
        try:
            ending = await self._ending(run)
            if run.rest is not None and (result := self._answer(run, ending)) is not None:
                counted = ""
                self._go_on(run, ending)
                await self._recorder.settle()
            else:
                if run.rest is not None:
                    await self._wait_for_rest(run)
                result = await self._finish(run, ending)
                counted = result.outcome
        finally:
            if counted:
                self.in_flight -= 1
                self._count(request, counted, 1)
        if self.finished is not None:
            self.finished(request, result)
        return result

    async def close(self) -> None:
        """Wait for work that goes on after its answer; each has its deadline."""
        while self._going_on:
            await asyncio.wait(set(self._going_on))

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
        start = Start(request, served, self._entropy(32), started_ns, self._hosts)
        execution, root = self._arrivals.open(start, request_id, started_ns, rejection)

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

    async def _ending(self, run: Underway) -> Ending:
        """Run it until its handler has settled. Cancelled, it is recorded as given up."""
        reply: Reply | None = None
        failure: Failure | None = None
        status, outcome = 200, "ok"
        guest: str | None = None
        invocation: int | None = None
        rejected = run.start.request.rejected
        try:
            if rejected is not None:
                status, failure = rejected
                outcome = "rejected"
            else:
                reply = await self._run(run)
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
            await self._finish(run, Ending(499, "error", error=_GIVEN_UP))
            raise
        except Exception as error:
            log.exception("an execution failed inside Flux")
            status, outcome = 500, "error"
            failure = Failure(type="InternalError", message=f"Flux failed: {type(error).__name__}.")
        if reply is None:
            return Ending(status, outcome, error=failure, guest=guest, invocation=invocation)
        kind = "json" if reply.status is None else "response"
        return Ending(status, outcome, kind, reply.body, reply.headers, failure, guest, invocation)

    async def _run(self, run: Underway) -> Reply:
        request, served, execution = run.start.request, run.start.served, run.execution
        if served is None:
            raise NotFound(
                f"No function is called `{request.function}`.", "List them with GET / or `flux dev`."
            )
        if request.depth > DEEPEST_INVOKE:
            raise FunctionError("InvokeError", f"Invocations are nested more than {DEEPEST_INVOKE} deep.")
        context = with_execution(request.context, execution, run.root)
        run.span = span = self._tracer.start_span(
            served.name,
            context=context,
            attributes={
                semconv.FAAS_INVOCATION_ID: execution.request_id,
                semconv.FLUX_DEPLOYMENT: served.deployment.id,
                semconv.CODE_FILE_PATH: f"functions/{served.deployment.entry}",
            },
        )
        try:
            if served.guest is None:
                raise served.failure or RuntimeFault(f"`{served.name}` is not loaded.")
            where = span.get_span_context()
            deadline = asyncio.get_running_loop().time() + served.timeout
            start = run.start
            run.host = start.host(
                execution, with_execution(request.context, execution, span), request, deadline
            )
            known = start.known or Known(
                execution.request_id, execution.trace_id, format(where.span_id, "016x")
            )
            reply = await served.guest.invoke(
                Invocation(
                    request_id=known.request_id,
                    trace_id=known.trace_id,
                    span_id=known.span_id,
                    seed=start.seed,
                    now_ns=start.guest_ns,
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
                run.host,
            )
            run.warn(reply.warnings)
            run.rest = reply.rest
            return reply
        except RuntimeFault as error:
            run.warn(error.warnings)
            run.rest = error.rest
            failures.mark(span, failures.explain(error)[1])
            raise
        except asyncio.CancelledError:
            failures.mark(span, _GIVEN_UP)
            raise
        finally:
            if run.rest is None:
                await run.leave()

    def _answer(self, run: Underway, ending: Ending) -> Result | None:
        """Write down how it is answered while it goes on. None where its answer has to wait for its end."""
        if run.start.request.trigger not in _ANSWERED_EARLY or self._recorder.spool.durability == "postgres":
            return None
        duration = self._monotonic() - run.began
        try:
            self._record(run.execution.answer, ending, duration)
        except SpoolError:
            return None
        self._mark(run, ending)
        run.root.end()
        return self._result(run, ending)

    def _go_on(self, run: Underway, ending: Ending) -> None:
        """See its work through beside what else happens, then end it."""

        known = len(run.warnings)

        async def go_on() -> None:
            counted = "interrupted"
            try:
                await self._see_through(run)
                duration = self._monotonic() - run.began
                self._recorder.owe(partial(self._record, run.execution.end, ending, duration))
                counted = ending.outcome
                if self.left is not None and run.warnings[known:]:
                    self.left(run.start.request, run.execution.request_id, run.warnings[known:])
            finally:
                self.in_flight -= 1
                self._count(run.start.request, counted, 1)

        task = asyncio.get_running_loop().create_task(go_on(), name="an execution after its answer")
        self._going_on.add(task)
        task.add_done_callback(self._going_on.discard)

    async def _wait_for_rest(self, run: Underway) -> None:
        """See its work through before it is answered. Cancelled, it is recorded as given up."""
        try:
            await self._see_through(run)
        except asyncio.CancelledError:
            await self._finish(run, Ending(499, "error", error=_GIVEN_UP))
            raise

    async def _see_through(self, run: Underway) -> None:
        assert run.rest is not None
        try:
            run.warn(await run.rest)
        finally:
            await run.leave()

    async def _finish(self, run: Underway, ending: Ending) -> Result:
        self._mark(run, ending)
        duration = self._monotonic() - run.began
        run.root.end()
        execution, http = run.execution, run.start.request.trigger == "http"
        try:
            self._record(execution.end, ending, duration)
            await self._recorder.settle()
        except (SpoolFull, SpoolGone) as error:
            how = f"It ended {ending.outcome} with {ending.status}"
            execution.warn(f"{how}, which could not be recorded: {error.message}")
            ending = Ending(
                503, "error", error=failures.UNRECORDED, guest=ending.guest, invocation=ending.invocation
            )
            self._recorder.owe(partial(self._record, execution.end, ending, duration))
            if not http:
                raise
        except Unconfirmed as error:
            if http:
                self._unconfirmed(error, run.root)
                ending = Ending(503, "error", error=failures.UNCONFIRMED)
            else:
                log.warning("execution %s goes on unconfirmed: %s", execution.request_id, error.message)
        return self._result(run, ending)

    def _record(self, write: Callable[..., None], ending: Ending, duration: int) -> None:
        """Append how it ended: its answer (`Execution.answer`) or its end (`Execution.end`)."""
        write(
            status=ending.status,
            outcome=ending.outcome,
            output=ending.output,
            output_kind=ending.kind,
            response_headers=ending.headers,
            error=ending.error,
            guest=ending.guest,
            invocation=ending.invocation,
            duration_ns=duration,
        )

    def _mark(self, run: Underway, ending: Ending) -> None:
        """Say on the root span how it ended."""
        root, failure = run.root, ending.error
        if run.start.request.trigger == "http":
            root.set_attribute(semconv.HTTP_RESPONSE_STATUS_CODE, ending.status)
        if failure is not None and ending.outcome != "rejected":
            failures.mark(root, failure, events=False)
        elif ending.status >= 500:
            root.set_status(Status(StatusCode.ERROR))
            root.set_attribute(semconv.ERROR_TYPE, str(ending.status))
        elif failure is not None:
            root.set_attribute(semconv.ERROR_TYPE, failure.type)

    def _result(self, run: Underway, ending: Ending) -> Result:
        execution, body = run.execution, ending.output
        if body is None:
            body = self.error_document(ending.error, execution.request_id)
        return Result(
            request_id=execution.request_id,
            trace_id=execution.trace_id,
            span_id=execution.arrival.span_id,
            status=ending.status,
            outcome=ending.outcome,
            kind=ending.kind,
            headers=list(ending.headers),
            body=body,
            error=ending.error,
            warnings=tuple(run.warnings),
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
