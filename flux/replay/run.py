"""Drives replays: of one execution, or of a window's, each compared with its record.

Several executions that ran in one guest process are replayed in one, in the recorded order: so module state
is as it was. One that diverges there is run again by itself. Each replay is an execution of its own.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime

import msgspec
from opentelemetry.context import Context
from opentelemetry.trace import Link, SpanContext, TraceFlags

from flux import semconv
from flux.errors import FluxError
from flux.host.protocol import Host
from flux.host.recording import Recording
from flux.record.events import Failure
from flux.recorder.execution import Execution
from flux.replay.guests import FreshGuest, Guests
from flux.replay.host import DIVERGED, Replay
from flux.replay.order import Order
from flux.replay.record import Recorded, Records, Refused
from flux.runtime.executor import Executor
from flux.runtime.registry import Served
from flux.runtime.request import Request, Result
from flux.runtime.underway import Known, Start
from flux.shapes.replay import Divergence, Refusal, Replayed, Replays
from flux_postgres_exporter.rows import text

LEAST_TIMEOUT = 30.0
"""Seconds that a replay has at least: what ended by itself was in time, however slow this machine is now."""
LEAST_DEADLINE = 2.0
"""The same for one that its deadline ended."""
STALL = 5.0
"""Seconds without anything happening after which a function that is waited for has gone another way."""
MOST_TOGETHER = 500
"""Executions of one guest that are held at once."""

Told = Callable[[Replayed], None]
Text = Callable[[str], str]


class Replayer:
    """Replays executions. One per process.

    Args:
        records: where they are read. guests: starts their processes. executor: runs and records the replays.
        tell: called with each secret's name and value, so that the replay's own record withholds it.
        clean: takes what is withheld out of a text, as the replay's own record has it.
    """

    def __init__(
        self,
        records: Records,
        guests: Guests,
        executor: Executor,
        *,
        tell: Callable[[str, str], None],
        clean: Text,
    ) -> None:
        self._records = records
        self._guests = guests
        self._executor = executor
        self._tell = tell
        self._clean = clean

    async def one(self, request_id: str) -> Replayed:
        """Replay one execution: in a fresh process of its own; where that differs, in one that first runs
        what its own had run before it. A replay is not replayed: its original is, once more.
        """
        request_id = await self._records.original(request_id)
        found = (await self._records.read([request_id]))[request_id]
        if isinstance(found, Refused):
            return _refused(request_id, None, found)
        return await self._again(found)

    async def window(
        self,
        since: datetime,
        until: datetime,
        *,
        function: str | None = None,
        failed: bool = False,
        total: Callable[[int], None] = lambda count: None,
        told: Told = lambda replayed: None,
        at_once: int = 2,
    ) -> Replays:
        """Replay every execution that began between two times.

        Args:
            function: only of this one. failed: only those that did not end well.
            total: told how many there are. told: told of each once it is known.
            at_once: guest processes that run at the same time.
        """
        listed = await self._records.listed(since, until, function, failed)
        total(len(listed))
        groups: dict[object, list[str]] = defaultdict(list)
        for request_id, guest in listed:
            groups[guest or request_id].append(request_id)
        results: dict[str, Replayed] = {}

        def keep(replayed: Replayed) -> None:
            results[replayed.replay_of] = replayed
            told(replayed)

        waiting = iter(list(groups.values()))

        async def lane() -> None:
            for group in waiting:
                for at in range(0, len(group), MOST_TOGETHER):
                    await self._group(group[at : at + MOST_TOGETHER], keep)

        async with asyncio.TaskGroup() as lanes:
            for _ in range(at_once):
                lanes.create_task(lane())
        return summary([results[request_id] for request_id, _ in listed])

    async def _group(self, ids: Sequence[str], keep: Told) -> None:
        """Those of one guest process, in one."""
        found = await self._records.read(ids)
        whole: list[Recorded] = []
        for request_id, each in found.items():
            if isinstance(each, Refused):
                keep(_refused(request_id, None, each))
            else:
                whole.append(each)
        if not whole:
            return
        for replayed, recorded in zip(await self._together(whole), whole, strict=True):
            if replayed.divergence is None or (len(whole) == 1 and recorded.invocation == 1):
                keep(replayed)
            else:
                again = await self._again(recorded)
                keep(again if again.identical else replayed)

    async def _again(self, recorded: Recorded) -> Replayed:
        (alone,) = await self._together([recorded])
        if alone.identical or recorded.invocation == 1:
            return alone
        ids = await self._records.before(recorded, MOST_TOGETHER)
        found = await self._records.read(ids)
        history = [each for each in found.values() if isinstance(each, Recorded)]
        if len(history) < 2 or recorded.request_id not in found:
            return alone
        after = await self._together(history)
        return next(each for each in after if each.replay_of == recorded.request_id)

    async def _together(self, executions: Sequence[Recorded]) -> list[Replayed]:
        """Replay what ran in one guest process, in the recorded order, in a fresh one."""
        try:
            guest = await self._guests.start(executions[0])
        except FluxError as error:
            return [_not_loaded(each, error) for each in executions]
        order = Order(executions)
        try:
            async with asyncio.TaskGroup() as tasks:
                running = [tasks.create_task(self._replay(guest, each, order)) for each in executions]
            return [task.result() for task in running]
        finally:
            await guest.close()

    async def _replay(self, guest: FreshGuest, recorded: Recorded, order: Order) -> Replayed:
        host = Replay(recorded, order, self._tell)
        await order.turn((recorded.request_id, 0))
        running = asyncio.create_task(self._executor.run(_start(guest, recorded, host)))
        try:
            while not running.done():
                await asyncio.wait({running}, timeout=1.0)
                if order.stalled(recorded.request_id, STALL) and not running.done():
                    host.stalled()
            result = running.result()
        finally:
            running.cancel()
            order.leave(recorded.request_id)
        host.missing()
        if host.divergence is None and recorded.cut_short is None:
            self._compare(recorded, result, host)
        return Replayed(
            request_id=result.request_id,
            replay_of=recorded.request_id,
            function=recorded.function,
            identical=host.divergence is None,
            divergence=None if host.divergence is None else _placed(host.divergence, result.error, recorded),
            prefix=recorded.cut_short,
        )

    def _compare(self, recorded: Recorded, result: Result, host: Replay) -> None:
        """How it ended, then and now."""
        was, now = recorded.error, result.error
        if was is not None and now is not None:
            self._compare_errors(was, now, host)
        elif now is not None:
            said = f"It fails now: {now.type}: {now.message}"
            host.diverge(None, "error", "", None, {"type": now.type, "message": now.message}, said)
        elif was is not None:
            said = f"It failed with {was.type}, now it does not."
            host.diverge(None, "error", "", {"type": was.type, "message": was.message}, None, said)
        elif recorded.status != result.status:
            said = f"It answered {recorded.status}, now {result.status}."
            host.diverge(None, "status", "", recorded.status, result.status, said)
        else:
            host.output(result.body)
            headers = [list(each) for each in recorded.headers], [list(each) for each in result.headers]
            if headers[0] != headers[1]:
                host.diverge(None, "headers", "", *headers, "The answer's headers differ.")

    def _compare_errors(self, was: Failure, now: Failure, host: Replay) -> None:
        for member in ("type", "message", "file", "line", "column", "stack", "fields"):
            before, after = getattr(was, member), getattr(now, member)
            if before == after:
                continue
            if isinstance(before, str) and isinstance(after, str) and self._same(before, after):
                continue
            host.diverge(None, "error", member, before, after, f"Its error's {member} differs.")
            return

    def _same(self, before: str, after: str) -> bool:
        """Whether two texts are one, once both are as a record has them."""
        return text(self._clean(before)) == text(self._clean(after))


def summary(results: Iterable[Replayed]) -> Replays:
    """The counts of some replays."""
    found = list(results)
    refused = sum(each.refused is not None for each in found)
    identical = sum(each.identical for each in found)
    ran = len(found) - refused
    return Replays(
        replayed=ran, identical=identical, diverged=ran - identical, refused=refused, results=found
    )


def _start(guest: FreshGuest, recorded: Recorded, replay: Replay) -> Start:
    def host(execution: Execution, context: Context, request: Request, deadline: float) -> Host:
        return Recording(replay, execution, context, clock=execution.now)

    deployment, request = recorded.deployment, recorded.request
    link = SpanContext(
        int(recorded.trace_id, 16), int(recorded.span_id, 16), is_remote=False, trace_flags=TraceFlags(1)
    )
    request.context, request.links = Context(), [Link(link)]
    request.attributes = {semconv.FLUX_REPLAY_OF: recorded.request_id}
    ended = recorded.error is not None and recorded.error.type == "DeadlineExceeded"
    served = Served(
        name=recorded.function,
        deployment=deployment,
        methods=(),
        route="",
        record="all",
        timeout=max(deployment.timeout_ms / 1000, LEAST_DEADLINE if ended else LEAST_TIMEOUT),
        guest=guest,
    )
    return Start(
        request=request,
        served=served,
        seed=recorded.seed,
        guest_ns=recorded.now_ns,
        host=host,
        known=Known(recorded.request_id, recorded.trace_id, recorded.function_span),
        replay_of=recorded.request_id,
        surroundings=recorded.surroundings.id,
    )


def _refused(request_id: str, function: str | None, why: Refused) -> Replayed:
    refusal = Refusal(type=why.kind, message=why.message)
    return Replayed(
        request_id=None, replay_of=request_id, function=function, identical=False, refused=refusal
    )


def _not_loaded(recorded: Recorded, error: FluxError) -> Replayed:
    message = f"Its code does not load now: {error.message}"
    found = Divergence(seq=None, op="load", field="", recorded=None, actual=error.message, message=message)
    return Replayed(
        request_id=None,
        replay_of=recorded.request_id,
        function=recorded.function,
        identical=False,
        divergence=found,
    )


def _placed(found: Divergence, error: Failure | None, recorded: Recorded) -> Divergence:
    """With the place in the function's code, where its end says it."""
    if error is None or error.file is None or not (error.type == DIVERGED or found.op == "error"):
        return found
    source = recorded.deployment.files.get(error.file.removeprefix("functions/"), b"").decode(
        "utf-8", "replace"
    )
    lines = source.splitlines()
    line = lines[error.line - 1] if error.line is not None and 0 < error.line <= len(lines) else None
    return msgspec.structs.replace(found, file=error.file, line=error.line, source=line)
