"""One guest process: frames over a socketpair, invocations in flight, host calls answered. Used by the pool.

Every language's guest is one. Whatever it does (dies, hangs, forges frames, stops reading), each invocation
ends: with a Reply, or with a FunctionError, DeadlineExceeded or GuestDied. A guest that breaks the protocol
is killed.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from flux.errors import DeadlineExceeded, FluxError, FunctionError, GuestDied, RuntimeFault
from flux.host.protocol import Host
from flux.record.call import HostCall
from flux.runtime import spawn
from flux.runtime.deployment import Deployment
from flux.runtime.engine import Invocation, Reply
from flux.runtime.frames import Decoder, Header, encode
from flux.runtime.thrown import function_error

PONG_WITHIN = 0.02
"""Seconds that a guest has to answer a ping at a deadline before it counts as blocked and is killed."""
BUSY_AFTER = 0.1
"""Seconds without an answer to a ping after which new invocations go elsewhere."""
CANCEL_WITHIN = 0.5
"""Seconds that cancelled host calls may take to wind up before the invocation ends without them."""
MOST_OPEN_CALLS = 10_000
"""Host calls that one invocation may have open; the guest refuses more by itself."""
MOST_HELD = 512 * 2**20
"""Bytes of arguments of open calls that one process may hold."""
MOST_UNREAD = 256 * 2**20
"""Bytes of replies that may wait for a guest to read them."""
MOST_CANCELLED = 10_000
"""Invocations given up that are remembered: of them a guest may still say something."""
HIGH_WATER = 4 * 2**20

CALLS = frozenset(
    {
        "db.query",
        "db.sql",
        "db.begin",
        "db.commit",
        "db.rollback",
        "fetch",
        "queue.push",
        "invoke",
        "secrets.get",
        "sleep",
    }
)
NOTES = frozenset({"log", "span.start", "span.end"})


class _Run:
    """An invocation in flight."""

    __slots__ = ("answer", "host", "last", "number", "open", "settled", "timeout", "timer")

    def __init__(self, number: int, host: Host, answer: asyncio.Future[Reply], timeout: float) -> None:
        self.number = number
        self.host = host
        self.answer = answer
        self.timeout = timeout
        self.last = 0
        self.open: dict[int, asyncio.Task[None]] = {}
        self.settled: asyncio.Future[None] | None = None
        self.timer: asyncio.TimerHandle | None = None


class GuestProcess(asyncio.Protocol):
    """A guest process and what is in flight in it. Made by `start`; belongs to one event loop.

    Attributes:
        name: short and random, e.g. `deno-3f9a2c`; it is what the record calls the process.
        versions: what the guest said of itself in `booted`.
        deployment: whose code it has loaded, or None before `load`.
        retired: it takes no new invocations: one of its invocations timed out, so its state is unknown.
        served: invocations that it answered.
    """

    def __init__(self, name: str, popen: subprocess.Popen[bytes], on_line: Callable[[str], None]) -> None:
        self.name = name
        self.versions: Mapping[str, Any] = {}
        self.deployment: Deployment | None = None
        self.retired = False
        self.served = 0
        self._bundle = ""
        self._popen = popen
        self._on_line = on_line
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._errors: asyncio.BaseTransport | None = None
        self._decoder = Decoder()
        self._outgoing: list[bytes] = []
        self._tail: collections.deque[str] = collections.deque(maxlen=20)
        self._runs: dict[int, _Run] = {}
        self._cancelled: dict[int, None] = {}
        self._last = 0
        self._held = 0
        self._calls: set[asyncio.Task[None]] = set()
        self._writable: asyncio.Future[None] | None = None
        self._idle: asyncio.Future[None] | None = None
        self._milestone: asyncio.Future[Header] | None = None
        self._pings = 0
        self._pinged: float | None = None
        self._heard = 0.0
        self._reason: str | None = None
        self._dead = False
        self._eof: asyncio.Future[None] = self._loop.create_future()
        self._on_death: list[Callable[[], None]] = []
        self._on_retired: list[Callable[[], None]] = []
        self._reaper: asyncio.Task[None] | None = None

    # Life

    @classmethod
    async def start(
        cls,
        command: Sequence[str],
        *,
        name: str,
        cwd: Path,
        environment: Mapping[str, str],
        on_line: Callable[[str], None],
        timeout: float = 10.0,
    ) -> GuestProcess:
        """Start the process and wait until its runtime is up (`booted`); no user code is in it yet.

        Args:
            command, cwd, environment: what to start; the environment is whole, nothing is inherited.
            name: what to call it.
            on_line: takes each line the process writes to stderr.
            timeout: seconds until it must have booted.

        Raises:
            RuntimeFault: it can't be started, died or didn't boot in time.
        """
        popen, socket = spawn.spawn(command, cwd=cwd, environment=environment)
        loop = asyncio.get_running_loop()
        process = cls(name, popen, on_line)
        process._reaper = loop.create_task(process._reap(), name=f"reap {name}")
        booted = process._expect()
        try:
            assert popen.stderr is not None
            lines = spawn.Lines(process._line)
            process._errors, _ = await loop.connect_read_pipe(lambda: lines, popen.stderr)
            await loop.create_unix_connection(lambda: process, sock=socket)
            header = await asyncio.wait_for(booted, timeout)
        except TimeoutError as error:
            await process.drain(0)
            raise RuntimeFault(f"The guest {name} did not boot within {timeout:g} s.") from error
        except BaseException:
            booted.cancel()
            await process.drain(0)
            socket.close()
            raise
        process._want("booted", header)
        process.versions = header.get("guest") or {}
        return process

    async def load(self, deployment: Deployment, header: Header, bundle: Path, timeout: float) -> None:
        """Send `start` and wait for the code's top level to finish.

        Args:
            deployment: what is being loaded; its files stand in `bundle` already.
            header: the members of the `start` frame.
            bundle: the folder; its path is kept out of everything shown.
            timeout: seconds the top level may take; after them the process is killed.

        Raises:
            FunctionError: the code does not load.
            RuntimeFault: the process died, or the top level took too long.
        """
        self.deployment = deployment
        self._bundle = str(bundle)
        ready = self._expect()
        self._write(encode({"t": "start", **header}))
        try:
            answer = await asyncio.wait_for(ready, timeout)
        except TimeoutError as error:
            self.kill("its code did not load in time")
            raise RuntimeFault(
                f"functions/{deployment.entry}: the module's top-level code did not finish "
                f"within {timeout:g} s.",
                "Move work that waits or loops into the handler.",
            ) from error
        except BaseException:
            self.kill("it was not wanted any more")
            raise
        if answer["t"] == "failed":
            self.kill("its code does not load")
            raise function_error(answer.get("error"), deployment, self._bundle)
        self._want("ready", answer)

    @property
    def pid(self) -> int:
        """The operating system's number of the process."""
        return self._popen.pid

    @property
    def alive(self) -> bool:
        """Whether it can still answer."""
        return not self._dead

    @property
    def in_flight(self) -> int:
        """Invocations that have not ended."""
        return len(self._runs)

    @property
    def busy(self) -> bool:
        """Whether its event loop has been blocked for a while, as far as is known without waiting.

        Asking one that has been silent sends a ping; a later question finds it answered or not.
        """
        if not self._runs or self._dead:
            return False
        now = self._loop.time()
        if now - self._heard < BUSY_AFTER:
            return False
        if self._pinged is None:
            self._ping(now)
            return False
        return now - self._pinged > BUSY_AFTER

    def on_death(self, call: Callable[[], None]) -> None:
        """Have `call` called once when the process has died."""
        self._on_death.append(call)

    def on_retired(self, call: Callable[[], None]) -> None:
        """Have `call` called once when the process stops taking invocations though it lives."""
        self._on_retired.append(call)

    def kill(self, reason: str) -> None:
        """SIGKILL; what is in flight fails with GuestDied, which says `reason`."""
        if self._reason is None:
            self._reason = reason
        spawn.kill(self._popen)
        self._die()

    async def drain(self, grace: float) -> None:
        """Wait until nothing is in flight, at most `grace` seconds, then end the process and wait until it is
        gone."""
        if self._runs and not self._dead and grace > 0:
            self._idle = self._idle or self._loop.create_future()
            await asyncio.wait({self._idle}, timeout=grace)
        self.kill("it was shut down")
        await self.gone()

    async def gone(self) -> None:
        """Wait until the process has been reaped and its pipes are closed."""
        if self._reaper is not None:
            await asyncio.shield(self._reaper)

    # Invocations

    async def invoke(self, invocation: Invocation, host: Host) -> Reply:
        """Run the loaded function once; see `Guest.invoke`."""
        if self._dead:
            raise GuestDied(f"The guest {self.name} has ended.")
        self._last += 1
        number = self._last
        run = _Run(number, host, self._loop.create_future(), invocation.timeout)
        self._runs[number] = run
        run.timer = self._loop.call_later(invocation.timeout, self._expire, run)
        try:
            if self._writable is not None:
                waiting: set[asyncio.Future[Any]] = {self._writable, run.answer}
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if not run.answer.done():
                self._write(_invoke_frame(number, invocation))
            try:
                reply = await run.answer
            except FunctionError:
                await self._settle(run)
                self.served += 1
                raise
            await self._settle(run)
            self.served += 1
            return reply
        except FluxError as error:
            if isinstance(error, RuntimeFault):
                error.guest, error.invocation = self.name, number
            raise
        finally:
            if run.answer.cancelled() or not run.answer.done():
                run.answer.cancel()
                self._withdraw(number)
            run.timer.cancel()
            del self._runs[number]
            if run.open:
                await self._abandon(run)
            if self._idle is not None and not self._runs:
                if not self._idle.done():
                    self._idle.set_result(None)
                self._idle = None

    async def _settle(self, run: _Run) -> None:
        """The handler has settled: wait for the calls it left open, until the deadline."""
        if run.open:
            run.settled = self._loop.create_future()
            await run.settled

    def _withdraw(self, number: int) -> None:
        """Nobody waits for this invocation any more: tell the guest, ignore what it still says of it."""
        if not self._dead:
            self._cancelled[number] = None
            if len(self._cancelled) > MOST_CANCELLED:
                del self._cancelled[next(iter(self._cancelled))]
            self._write(encode({"t": "cancel", "i": number}))

    def _expire(self, run: _Run) -> None:
        if run.answer.done():
            if run.settled is not None and not run.settled.done():
                run.settled.set_result(None)
            return
        self._withdraw(run.number)
        function = self.deployment.function if self.deployment else self.name
        run.answer.set_exception(
            DeadlineExceeded(f"`{function}` did not answer within {run.timeout * 1000:.0f} ms.")
        )
        if not self._dead:
            self._ping(self._loop.time())
            self._loop.call_later(PONG_WITHIN, self._suspect, self._pings)
        self._retire()

    def _retire(self) -> None:
        if not self.retired:
            self.retired = True
            callbacks, self._on_retired = self._on_retired, []
            for call in callbacks:
                call()

    def _suspect(self, ping: int) -> None:
        """A pong may have come while our own loop was busy: read once more before judging."""
        if self._pinged is not None and self._pings == ping:
            self._loop.call_later(0.002, self._kill_if_blocked, ping)

    def _kill_if_blocked(self, ping: int) -> None:
        if self._pinged is not None and self._pings == ping and not self._dead:
            self.kill("its event loop was blocked past a deadline")

    def _ping(self, now: float) -> None:
        if self._pinged is None:
            self._pinged = now
            self._pings += 1
            self._write(encode({"t": "ping", "k": self._pings}))

    async def _abandon(self, run: _Run) -> None:
        tasks = set(run.open.values())
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks, timeout=CANCEL_WITHIN)

    async def _perform(self, run: _Run, call: HostCall) -> None:
        """One host call. The reply is written in the step in which the outcome is known: that step is its
        place in the order."""
        try:
            outcome = await run.host.perform(call)
            header: Header = {"t": "reply", "i": run.number, "n": call.n, "now": outcome.now_ns // 1000}
            body = b""
            if outcome.error is not None:
                error = outcome.error
                header["error"] = {"type": error.type, "message": error.message, "detail": error.detail}
            elif outcome.result is not None:
                body = outcome.result
            self._write(encode(header, body))
        except FluxError as error:
            self._fail(run, error)
        except Exception as error:
            fault = RuntimeFault(
                f"The host call {call.op} failed inside Flux: {type(error).__name__}: {error}"
            )
            fault.__cause__ = error
            self._fail(run, fault)

    def _fail(self, run: _Run, error: FluxError) -> None:
        if not run.answer.done():
            self._withdraw(run.number)
            run.answer.set_exception(error)

    # Frames

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is ours."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=HIGH_WATER)

    def data_received(self, data: bytes) -> None:
        """Bytes from the guest: act on the frames that they complete."""
        if self._dead:
            return
        self._heard = self._loop.time()
        try:
            for header, body in self._decoder.feed(data):
                self._take(header, body)
                if self._dead:
                    return
        except RuntimeFault as fault:
            self.kill(f"it broke the protocol: {fault.message}")
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            self.kill(f"it broke the protocol: a malformed frame ({type(error).__name__}: {error})")

    def _take(self, header: Header, body: bytes) -> None:
        kind = header["t"]
        if kind in ("call", "note"):
            self._take_call(kind, header, body)
        elif kind in ("done", "error"):
            self._take_end(kind, header, body)
        elif kind == "abort":
            self._take_abort(header)
        elif kind == "pong":
            self._pinged = None
        elif kind in ("booted", "ready", "failed"):
            milestone, self._milestone = self._milestone, None
            if milestone is None:
                raise RuntimeFault(f"a `{kind}` that nothing asked for")
            if not milestone.done():
                milestone.set_result(header)
        else:
            raise RuntimeFault(f"a frame of unknown type {str(kind)[:40]!r}")

    def _take_call(self, kind: str, header: Header, body: bytes) -> None:
        number, n, op = header["i"], header["n"], header["op"]
        run = self._runs.get(number)
        if run is None or run.answer.done():
            if number in self._cancelled or (
                kind == "note" and type(number) is int and 0 < number <= self._last
            ):
                return
            raise RuntimeFault(f"a {kind} in invocation {str(number)[:40]}, which is not running")
        tx, span = header.get("tx"), header.get("span")
        if type(n) is not int or n <= run.last or not _earlier(tx, n) or not _earlier(span, n):
            raise RuntimeFault(f"a {kind} numbered {str(n)[:40]} after {run.last}")
        run.last = n
        if kind == "note":
            if op not in NOTES:
                raise RuntimeFault(f"a note of unknown op {str(op)[:40]!r}")
            run.host.notify(HostCall(op, body, n, tx, span))
            return
        if op not in CALLS:
            raise RuntimeFault(f"a call of unknown op {str(op)[:40]!r}")
        self._held += len(body)
        if len(run.open) >= MOST_OPEN_CALLS or self._held > MOST_HELD:
            raise RuntimeFault("more host calls open at once than are allowed")
        task = self._loop.create_task(self._perform(run, HostCall(op, body, n, tx, span)))
        run.open[n] = task
        self._calls.add(task)
        task.add_done_callback(lambda task: self._call_ended(run, n, task, len(body)))

    def _take_abort(self, header: Header) -> None:
        """The guest gave up a call (a cleared timer, an aborted fetch): it is cancelled, and no reply is
        sent."""
        run = self._runs.get(header["i"])
        task = run.open.get(header["n"]) if run is not None else None
        if task is not None:
            task.cancel()

    def _call_ended(self, run: _Run, n: int, task: asyncio.Task[None], size: int) -> None:
        self._held -= size
        del run.open[n]
        self._calls.discard(task)
        if run.settled is not None and not run.open and not run.settled.done():
            run.settled.set_result(None)

    def _take_end(self, kind: str, header: Header, body: bytes) -> None:
        number = header["i"]
        run = self._runs.get(number)
        if run is None or run.answer.done():
            if number in self._cancelled:
                return
            raise RuntimeFault(f"an end of invocation {str(number)[:40]}, which is not running")
        assert self.deployment is not None
        if kind == "error":
            run.answer.set_exception(function_error(header["error"], self.deployment, self._bundle))
            return
        status = header.get("status")
        if status is None:
            run.answer.set_result(Reply(None, [], body, self.name, run.number))
            return
        if type(status) is not int or not 200 <= status <= 599:
            raise RuntimeFault(f"a response with status {str(status)[:40]}")
        headers = [(_text(name), _text(value)) for name, value in header.get("headers") or ()]
        run.answer.set_result(Reply(status, headers, body, self.name, run.number))

    def _expect(self) -> asyncio.Future[Header]:
        """The future of the next milestone frame (booted, ready or failed); fails at once where the process
        is dead."""
        milestone: asyncio.Future[Header] = self._loop.create_future()
        if self._dead:
            milestone.set_exception(self._death())
        else:
            self._milestone = milestone
        return milestone

    def _want(self, kind: str, header: Header) -> None:
        if header["t"] != kind:
            self.kill(f"it broke the protocol: `{header['t']}` instead of `{kind}`")
            raise RuntimeFault(
                f"The guest {self.name} broke the protocol: `{header['t']}` instead of `{kind}`."
            )

    def _write(self, frame: bytes) -> None:
        """Queue a frame. Frames of one turn of the event loop leave in one write: waking the guest costs more
        than all else."""
        if not self._outgoing:
            self._loop.call_soon(self._flush)
        self._outgoing.append(frame)

    def _flush(self) -> None:
        frames, self._outgoing = self._outgoing, []
        if not self._dead and self._transport is not None:
            self._transport.write(frames[0] if len(frames) == 1 else b"".join(frames))
            if self._transport.get_write_buffer_size() > MOST_UNREAD:
                self.kill("it stopped reading its replies")

    def pause_writing(self) -> None:
        """The guest is not keeping up: new invocations wait."""
        self._writable = self._loop.create_future()

    def resume_writing(self) -> None:
        """The guest has caught up."""
        if self._writable is not None:
            self._writable.set_result(None)
            self._writable = None

    # Death

    def connection_lost(self, exc: Exception | None) -> None:
        """The guest closed its end: it has died, or is as good as dead."""
        if not self._eof.done():
            self._eof.set_result(None)
        self.retired = True
        spawn.kill(self._popen)
        if self._popen.returncode is not None or self._reason is not None:
            self._die()

    async def _reap(self) -> None:
        """Owns the end of the process: waits for it, reads what it still said, fails what is in flight,
        closes the pipes."""
        await spawn.reap(self._popen)
        await asyncio.wait({self._eof}, timeout=0.2)
        self._die()
        if self._errors is not None:
            self._errors.close()
        elif self._popen.stderr is not None:
            self._popen.stderr.close()
        if self._calls:
            await asyncio.wait(set(self._calls), timeout=CANCEL_WITHIN)

    def _die(self) -> None:
        if self._dead:
            return
        self._dead = True
        if self._transport is not None:
            self._transport.abort()
        milestone, self._milestone = self._milestone, None
        if milestone is not None and not milestone.done():
            milestone.set_exception(self._death())
        for run in list(self._runs.values()):
            for task in run.open.values():
                task.cancel()
            if not run.answer.done():
                run.answer.set_exception(self._death())
            elif run.settled is not None and not run.settled.done():
                run.settled.set_result(None)
        if self._writable is not None:
            self._writable.set_result(None)
            self._writable = None
        callbacks, self._on_death = self._on_death, []
        for call in callbacks:
            call()

    def _death(self) -> GuestDied:
        what = (
            f"The guest process of `{self.deployment.function}`"
            if self.deployment
            else f"The guest {self.name}"
        )
        code = self._popen.returncode
        if self._reason is not None:
            return GuestDied(f"{what} was killed: {self._reason}.")
        if any("out of memory" in line for line in self._tail):
            return GuestDied(
                f"{what} ran out of memory.", "Load less at once, or raise the guest's memory limit."
            )
        if code is not None and code < 0:
            with contextlib.suppress(ValueError):
                return GuestDied(f"{what} was ended by {signal.Signals(-code).name}.")
        said = f": {self._tail[-1][:200]}" if self._tail else "."
        return GuestDied(f"{what} ended by itself{'' if code is None else f' (exit code {code})'}{said}")

    def _line(self, line: str) -> None:
        self._tail.append(line)
        self._on_line(line)


def _invoke_frame(number: int, invocation: Invocation) -> bytes:
    header = {
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
    return encode(header, invocation.body + invocation.input if invocation.input else invocation.body)


def _earlier(reference: object, n: int) -> bool:
    """Whether `reference` can be the number of a call before `n`, or is None."""
    return reference is None or (type(reference) is int and 0 < reference < n)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("a header that is not text")
    return value
