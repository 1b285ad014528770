"""Invocations in flight in one guest process, and the host calls that each has open. Used by GuestProcess."""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Callable
from typing import Any

import msgspec
import orjson

from flux.errors import FluxError, RuntimeFault, Unanswered
from flux.host.protocol import Host
from flux.record import ops
from flux.record.call import HostCall
from flux.runtime.connection import Connection, Taker
from flux.runtime.deployment import Deployment
from flux.runtime.engine import Invocation, Reply
from flux.runtime.frames import Header, encode, frame
from flux.runtime.thrown import function_error, warning

CANCEL_WITHIN = 0.5
"""Seconds that cancelled host calls may take to wind up before the invocation ends without them."""
MOST_OPEN_CALLS = 10_000
"""Host calls that one invocation may have open; the guest refuses more by itself."""
MOST_HELD = 512 * 2**20
"""Bytes of arguments of open calls that one process may hold."""
MOST_WITHDRAWN = 10_000
"""Invocations given up that are remembered: of them a guest may still say something."""

MOST_LEFT = 100
"""Warnings that are taken of one frame."""
MORE = frozenset({"work", "calls"})
"""What a settled handler can leave open."""

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[^\x00-\x08\x0a-\x1f\x7f]*")


class Run(msgspec.Struct, eq=False):
    """An invocation in flight.

    Attributes:
        number: the guest's number for it, from 1.
        host: does what it asks.
        answer: its end.
        timeout: seconds it may take; deadline: on the loop's clock; due: when it has to be looked at next.
        sent: whether the guest knows of it.
        last: the number of its last call or note.
        open: its calls without an outcome, by number, with the sizes of their arguments.
        failed: whether it was ended from here, not by the guest.
        more: what is open after its handler has settled, in the guest's word: `work` that was handed to
            ctx.waitUntil, which goes on making calls, or `calls`. Its `end` follows.
        silent: why its host answers nothing more, once it has said so.
        over: whether that has come. cut: whether nobody waits for it any more.
        warnings: what it left behind, as far as the guest has told.
        settled: done when its handler has settled and no call is open; None before someone waits for that.
    """

    number: int
    host: Host
    answer: asyncio.Future[Reply]
    timeout: float
    deadline: float
    due: float
    sent: bool = False
    failed: bool = False
    more: str | None = None
    silent: str | None = None
    over: bool = False
    cut: bool = False
    last: int = 0
    open: dict[int, tuple[asyncio.Task[None], int]] = {}
    warnings: list[str] = []
    settled: asyncio.Future[None] | None = None

    @property
    def working(self) -> bool:
        """Whether work goes on after the answer."""
        return self.more == "work" and not (self.over or self.cut)

    @property
    def takes(self) -> bool:
        """Whether it may make calls."""
        return not self.answer.done() or self.working

    @property
    def unsettled(self) -> bool:
        """Whether something of it is open after its handler has settled."""
        return not self.cut and (bool(self.open) or (self.more is not None and not self.over))


class InFlight:
    """The invocations of one process; acts on the frames that concern one.

    Args:
        name: the process's.
        connection: to the guest.

    Attributes:
        runs: by number.
        takers: what acts on the frames that concern an invocation, by their type.
    """

    def __init__(self, name: str, connection: Connection) -> None:
        self.runs: dict[int, Run] = {}
        self.takers: dict[str, Taker] = {
            "call": self._take_call,
            "note": self._take_note,
            "abort": self._take_abort,
            "done": self._take_done,
            "error": self._take_error,
            "end": self._take_end,
        }
        self.name = name
        self._connection = connection
        self._loop = asyncio.get_running_loop()
        self._deployment: Deployment | None = None
        self._bundle = ""
        self._last = 0
        self._withdrawn: dict[int, None] = {}
        self._held = 0
        self._winding_up: set[asyncio.Task[None]] = set()

    def loaded(self, deployment: Deployment, bundle: str) -> None:
        """Whose code runs, and the folder it lies in: it is kept out of everything shown."""
        self._deployment, self._bundle = deployment, bundle

    # One invocation's life

    def begin(self, host: Host, timeout: float) -> Run:
        """A new one; `end` must follow."""
        self._last = number = self._last + 1
        loop = self._loop
        deadline = loop.time() + timeout
        run = self.runs[number] = Run(number, host, loop.create_future(), timeout, deadline, deadline)
        return run

    def send(self, run: Run, invocation: Invocation) -> None:
        """Tell the guest."""
        head = encode_invoke(run.number, invocation)
        run.sent = True
        run.host.sent(self.name, run.number)
        given = invocation.input
        self._connection.write(frame(head, invocation.body + given if given else invocation.body))

    async def settle(self, run: Run) -> None:
        """The handler has settled: wait for the work and the calls it left open, until `cut_off`. An
        invocation that was ended from here leaves none that it waits for."""
        if run.unsettled and not run.failed:
            if run.silent is not None:
                self.cut_off(run, run.silent)
                return
            run.settled = self._loop.create_future()
            await run.settled

    def cut_off(self, run: Run, why: str | None = None) -> None:
        """Wait no longer for what a settled handler left open; `why` is said where its work goes on."""
        if run.working and why is not None:
            run.warnings.append(f"Work handed to ctx.waitUntil was cut off: {why}")
        if run.more is not None and not run.over:
            self._withdraw(run)
        run.cut = True
        self._settled(run)

    def _settled(self, run: Run) -> None:
        if run.settled is not None and not run.settled.done():
            run.settled.set_result(None)

    def fail(self, run: Run, error: FluxError) -> None:
        """End an invocation without the guest."""
        if run.working:
            self.cut_off(run, error.message)
        elif not run.answer.done():
            run.failed = True
            self._withdraw(run)
            run.answer.set_exception(error)

    def end(self, run: Run) -> None:
        """Nobody waits for it any more: the guest is told where it has not ended, and what it still says of
        it is ignored. Where calls are open, `abandon` must follow."""
        if run.answer.cancelled() or run.answer.cancel():
            self._withdraw(run)
        del self.runs[run.number]

    async def abandon(self, run: Run) -> None:
        """Cancel the calls that are open, and wait a little until they have wound up."""
        tasks = {task for task, _ in run.open.values()}
        self._cancel_calls(run)
        await asyncio.wait(tasks, timeout=CANCEL_WITHIN)

    def die(self, error: Callable[[], FluxError]) -> None:
        """The process has died: everything in flight fails, each with an `error` of its own."""
        for run in list(self.runs.values()):
            self._cancel_calls(run)
            if run.answer.done():
                self.cut_off(run, error().message)
            else:
                run.answer.set_exception(error())

    async def wound_up(self) -> None:
        """Wait a little for calls that were cancelled."""
        if self._winding_up:
            await asyncio.wait(set(self._winding_up), timeout=CANCEL_WITHIN)

    def _withdraw(self, run: Run) -> None:
        self._withdrawn[run.number] = None
        if len(self._withdrawn) > MOST_WITHDRAWN:
            del self._withdrawn[next(iter(self._withdrawn))]
        run.due = math.inf
        if run.sent:
            self._connection.write(encode({"t": "cancel", "i": run.number}))

    # Host calls

    async def _perform(self, run: Run, call: HostCall) -> None:
        """One host call. The reply is written in the step in which the outcome is known: that step is its
        place in the order."""
        try:
            outcome = await run.host.perform(call)
            if outcome.error is None:
                head = b'{"t":"reply","i":%d,"n":%d,"now":%d}' % (run.number, call.n, outcome.now_ns // 1000)
                self._connection.write(frame(head, outcome.result or b""))
            else:
                error = outcome.error
                header: Header = {"t": "reply", "i": run.number, "n": call.n, "now": outcome.now_ns // 1000}
                header["error"] = {"type": error.type, "message": error.message, "detail": error.detail}
                self._connection.write(encode(header))
        except Unanswered as error:
            run.silent = error.message
            if run.answer.done():
                self.cut_off(run, error.message)
        except FluxError as error:
            self.fail(run, error)
        except Exception as error:
            fault = RuntimeFault(
                f"The host call {call.op} failed inside Flux: {type(error).__name__}: {error}"
            )
            fault.__cause__ = error
            self.fail(run, fault)
        finally:
            self._call_ended(run, call.n)

    def _call_ended(self, run: Run, n: int) -> None:
        ended = run.open.pop(n, None)
        if ended is not None:
            self._held -= ended[1]
            if run.settled is not None and not run.unsettled:
                self._settled(run)

    def _cancel_calls(self, run: Run) -> None:
        for n in list(run.open):
            self._cancel_call(run, n)

    def _cancel_call(self, run: Run, n: int) -> None:
        """Cancel a call and see to it that it counts as ended even where its task never ran."""
        task, _ = run.open[n]
        run.host.give_up(n)
        self._winding_up.add(task)

        def ended(task: asyncio.Task[None]) -> None:
            self._winding_up.discard(task)
            self._call_ended(run, n)

        task.add_done_callback(ended)
        task.cancel()

    # Frames

    def _take_call(self, header: Header, body: bytes) -> None:
        number, n, op = header["i"], header["n"], header["op"]
        run = self.runs.get(number)
        if run is None or not run.takes:
            if number in self._withdrawn:
                return
            raise RuntimeFault(f"a call in invocation {str(number)[:40]}, which is not running")
        call = _host_call(run, header, body)
        if op not in ops.CALLS:
            raise RuntimeFault(f"a call of unknown op {str(op)[:40]!r}")
        size = len(body)
        self._held += size
        if len(run.open) >= MOST_OPEN_CALLS or self._held > MOST_HELD:
            raise RuntimeFault("more host calls open at once than are allowed")
        run.host.begin(call)
        run.open[n] = (asyncio.Task(self._perform(run, call), loop=self._loop, name="host call"), size)

    def _take_note(self, header: Header, body: bytes) -> None:
        number, op = header["i"], header["op"]
        run = self.runs.get(number)
        if run is None or not run.takes:
            if number in self._withdrawn or (type(number) is int and 0 < number <= self._last):
                return
            raise RuntimeFault(f"a note in invocation {str(number)[:40]}, which never was")
        call = _host_call(run, header, body)
        if op not in ops.NOTES:
            raise RuntimeFault(f"a note of unknown op {str(op)[:40]!r}")
        run.host.notify(call)

    def _take_abort(self, header: Header, body: bytes) -> None:
        """The guest gave up a call (a cleared timer, an aborted fetch): it is cancelled, and no reply is
        sent."""
        n = header["n"]
        run = self.runs.get(header["i"])
        if run is not None and n in run.open:
            self._cancel_call(run, n)

    def _take_done(self, header: Header, body: bytes) -> None:
        run = self._ending(header["i"])
        if run is None:
            return
        self._take_rest(run, header)
        status = header.get("status")
        if status is None:
            run.answer.set_result(Reply(None, [], body, self.name, run.number))
            return
        if type(status) is not int or not 200 <= status <= 599:
            raise RuntimeFault(f"a response with status {str(status)[:40]}")
        headers = [_header(name, value) for name, value in header.get("headers") or ()]
        run.answer.set_result(Reply(status, headers, body, self.name, run.number))

    def _take_error(self, header: Header, body: bytes) -> None:
        run = self._ending(header["i"])
        if run is not None:
            self._take_rest(run, header)
            assert self._deployment is not None
            run.answer.set_exception(function_error(header["error"], self._deployment, self._bundle))

    def _take_end(self, header: Header, body: bytes) -> None:
        """What a settled handler had left open has settled too."""
        number = header["i"]
        run = self.runs.get(number)
        if run is None or run.more is None or run.over:
            if number in self._withdrawn:
                return
            raise RuntimeFault(f"an end of invocation {str(number)[:40]}, which left nothing open")
        self._take_rest(run, header)
        run.over = True
        if not run.open:
            self._settled(run)

    def _take_rest(self, run: Run, header: Header) -> None:
        """What a guest says of what its function left behind."""
        more = header.get("more")
        if more is not None:
            if more not in MORE:
                raise RuntimeFault(f"an end that leaves {str(more)[:40]!r}")
            run.more = more
        left = header.get("warnings")
        if left is not None:
            assert self._deployment is not None
            run.warnings += [warning(each, self._deployment, self._bundle) for each in left[:MOST_LEFT]]

    def _ending(self, number: int) -> Run | None:
        """The invocation that the guest ends; None for one that was given up."""
        run = self.runs.get(number)
        if run is not None and not run.answer.done():
            return run
        if number in self._withdrawn:
            return None
        raise RuntimeFault(f"an end of invocation {str(number)[:40]}, which is not running")


def _host_call(run: Run, header: Header, body: bytes) -> HostCall:
    n, tx, span = header["n"], header.get("tx"), header.get("span")
    if (
        type(n) is not int
        or n <= run.last
        or not (tx is None or _earlier(tx, n))
        or not (span is None or _earlier(span, n))
    ):
        raise RuntimeFault(f"a {header['t']} numbered {str(n)[:40]} after {run.last}")
    run.last = n
    return HostCall(header["op"], body, n, tx, span)


def encode_invoke(number: int, invocation: Invocation) -> bytes:
    """The header of an `invoke` frame."""
    return orjson.dumps(
        {
            "t": "invoke",
            "i": number,
            "now": invocation.now_ns // 1000,
            "seed": invocation.seed.hex(),
            "request_id": invocation.request_id,
            "trace_id": invocation.trace_id,
            "span_id": invocation.span_id,
            "request": invocation.request,
            "body_size": len(invocation.body),
        }
    )


def _earlier(reference: object, n: int) -> bool:
    """Whether `reference` can be the number of a call before `n`."""
    return type(reference) is int and 0 < reference < n


def _header(name: Any, value: Any) -> tuple[str, str]:
    if not isinstance(name, str) or not isinstance(value, str):
        raise TypeError("a header that is not text")
    if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
        raise RuntimeFault("a header that HTTP can't carry")
    return name, value
