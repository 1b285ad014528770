"""Live: the host that really does what a function asks. One per execution, inside a Recording."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Protocol

from flux.host.fetch import FetchClient
from flux.host.jobs import Jobs
from flux.host.secrets import Secrets
from flux.record import arguments, ops
from flux.record.call import CallError, HostCall, Outcome
from flux.record.ops import InvalidArguments, asked, refusal

Invoke = Callable[[str, bytes], Awaitable[Outcome]]
"""Runs the function of that name with that exact JSON as its input, as a child execution."""

GRACE = 2.0
"""Seconds that cancelled calls have to let go before `close` goes on without them."""


class DataSession(Protocol):
    """The data engine's side of one execution (flux.data.session.Session)."""

    async def perform(self, call: HostCall) -> Outcome:
        """Do a `db.*` call, or a `queue.push` in the transaction `call.tx`. Errors are outcomes."""
        ...

    async def close(self) -> None:
        """Roll back what is open and give connections back. Idempotent; never raises."""
        ...


class Live:
    """The world.

    Args:
        request_id: the execution's identity: idempotency keys and jobs name it.
        session: its database session; closed with this.
        fetch, jobs, secrets: the process's.
        invoke: runs another function.
        clock: wall clock, ns.
    """

    __slots__ = (
        "_clock",
        "_fetch",
        "_invoke",
        "_jobs",
        "_pushed_in",
        "_request_id",
        "_secrets",
        "_session",
        "_tasks",
    )

    def __init__(
        self,
        *,
        request_id: str,
        session: DataSession,
        fetch: FetchClient,
        jobs: Jobs,
        secrets: Secrets,
        invoke: Invoke,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self._request_id = request_id
        self._session = session
        self._fetch = fetch
        self._jobs = jobs
        self._secrets = secrets
        self._invoke = invoke
        self._clock = clock
        self._tasks: set[asyncio.Task[object]] = set()
        self._pushed_in: set[int] = set()

    def sent(self, guest: str, invocation: int) -> None:
        """Where it runs is the record's alone."""

    def begin(self, call: HostCall) -> None:
        """Nothing is done before `perform`."""

    def give_up(self, n: int) -> None:
        """The call's task is cancelled; that is enough."""

    async def perform(self, call: HostCall) -> Outcome:
        """See Host.perform; `call.seq` must be set."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            outcome = await self._dispatch(call)
        except InvalidArguments as error:
            outcome = refusal(str(error))
        finally:
            self._tasks.discard(task)
        if not outcome.now_ns:
            outcome.now_ns = self._clock()
        return outcome

    def notify(self, call: HostCall) -> None:
        """One-way calls are the record's alone."""

    async def close(self) -> None:
        """Cancel what is in flight, then close the session."""
        if self._tasks:
            running = self._tasks - {asyncio.current_task()}
            for task in running:
                task.cancel()
            if running:
                await asyncio.wait(running, timeout=GRACE)
        await self._session.close()

    async def _dispatch(self, call: HostCall) -> Outcome:
        op = call.op
        if op not in ops.CALLS:
            return Outcome(error=CallError("unknown_op", f"The host has no call named `{op}`."))
        if op in ops.DATABASE:
            ops.check(call)
            outcome = await self._session.perform(call)
            if self._pushed_in:
                self._after_transaction(call, outcome)
            return outcome
        if op == ops.FETCH:
            return await self._fetch.perform(call, idempotency_key=f"{self._request_id}-{call.seq}")
        if op == ops.QUEUE_PUSH:
            return await self._push(call)
        if op == ops.INVOKE:
            invoked = asked(call, arguments.Invoke)
            return await self._invoke(invoked.name, bytes(invoked.payload))
        if op == ops.SECRETS_GET:
            return self._secrets.get(call)
        await asyncio.sleep(asked(call, arguments.Sleep).ms / 1000)
        return Outcome(result=b"{}")

    async def _push(self, call: HostCall) -> Outcome:
        push = asked(call, arguments.Push)
        if call.tx is None:
            return await self._jobs.push(push, request_id=self._request_id, seq=call.seq)
        with self._jobs.producing(push.name) as span:
            outcome = self._jobs.describe(span, await self._session.perform(call))
        if outcome.error is None:
            self._pushed_in.add(call.tx)
        return outcome

    def _after_transaction(self, call: HostCall, outcome: Outcome) -> None:
        """Jobs pushed in a transaction exist once it has committed: then the workers are woken."""
        if call.op not in ops.ENDS_TRANSACTION or call.tx not in self._pushed_in:
            return
        self._pushed_in.discard(call.tx)
        if call.op == ops.DB_COMMIT and outcome.error is None:
            self._jobs.ring()
