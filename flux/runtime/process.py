"""One guest process: its start, its code, its deadlines and its end. Used by the pool.

Every language's guest is one. Whatever it does (dies, hangs, forges frames, stops reading), each invocation
ends: with a Reply, or with a FunctionError, DeadlineExceeded or GuestDied. A guest that breaks the protocol
is killed.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping
from typing import Any

from msgspec import structs

from flux.errors import DeadlineExceeded, FunctionError, GuestDied, RuntimeFault
from flux.host.protocol import Host
from flux.runtime.connection import Connection, Taker
from flux.runtime.deployment import Deployment
from flux.runtime.door import Door
from flux.runtime.ending import Ending
from flux.runtime.engine import Invocation, Reply
from flux.runtime.frames import Header, encode
from flux.runtime.inflight import InFlight, Run
from flux.runtime.milestones import MILESTONES, Milestones
from flux.runtime.obituary import died
from flux.runtime.pulse import PONG_WITHIN, Pulse
from flux.runtime.spawner import Child, Order, Spawner
from flux.runtime.stderr import Stderr
from flux.runtime.thrown import function_error, out_of_memory

PING_BEFORE = PONG_WITHIN
"""Seconds before a deadline at which the guest is asked for a sign of life, so that one that is blocked is
known at the deadline."""
DIES_WITHIN = 0.1
"""Seconds in which a process ends whose socket closed because it is ending."""
_TICK = 0.001
"""Timers of the event loop may be early by that much."""


class GuestProcess:
    """A guest process and what is in flight in it. Made by `start`; belongs to one event loop.

    Attributes:
        name: short and random, e.g. `deno-3f9a2c`; once code is loaded the record's name of the process (see
            `rename`).
        versions: what the guest said of itself in `booted`.
        deployment: whose code it has loaded, or None before `load`.
        retired: it takes no new invocations: one of its invocations timed out, so its state is unknown.
        served: invocations that it answered.
    """

    def __init__(self, name: str, child: Child, on_line: Callable[[str], None]) -> None:
        self.name = name
        self.versions: Mapping[str, Any] = {}
        self.deployment: Deployment | None = None
        self.retired = False
        self.served = 0
        self._bundle = ""
        self._child = child
        self._memory_mb = 0
        self._stderr = Stderr(on_line)
        self._loop = asyncio.get_running_loop()
        self._milestones = Milestones()
        takers: dict[str, Taker] = {
            "pong": self._take_pong,
            **dict.fromkeys(MILESTONES, self._milestones.take),
        }
        self._connection = Connection(takers=takers, breach=self.kill, lost=self._lost)
        self._inflight = InFlight(name, self._connection)
        self._runs = self._inflight.runs
        takers |= self._inflight.takers
        self._pulse = Pulse(self._connection, self._stopped, self._answered)
        self._closed: asyncio.TimerHandle | None = None
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_at = math.inf
        self._idle: asyncio.Future[None] | None = None
        self._reason: str | None = None
        self._ending: Ending = "exit"
        self._dead = False
        self._eof: asyncio.Future[None] = self._loop.create_future()
        self._on_death: list[Callable[[], None]] = []
        self._on_retired: list[Callable[[], None]] = []
        self._reaper: asyncio.Task[None] | None = None

    # Life

    @classmethod
    async def start(
        cls,
        spawner: Spawner,
        order: Order,
        *,
        name: str,
        on_line: Callable[[str], None],
        door: Door | None = None,
        timeout: float = 10.0,
        memory_mb: int = 0,
    ) -> GuestProcess:
        """Start the process and wait until its runtime is up (`booted`); no user code is in it yet.

        Args:
            spawner: what makes it.
            order: what to start.
            name: what to call it.
            on_line: takes each line the process writes to stderr.
            door: where it fetches what it reads, once it has booted; its stdin without one.
            timeout: seconds until it must have booted.
            memory_mb: MiB that it may allocate once it has; 0 sets no limit.

        Raises:
            RuntimeFault: it can't be started or limited, died or didn't boot in time.
        """
        child, socket = await spawner.spawn(order)
        loop = asyncio.get_running_loop()
        process = cls(name, child, on_line)
        process._reaper = loop.create_task(process._reap(), name=f"reap {name}")
        booted = process._milestones.next()
        try:
            await loop.connect_read_pipe(lambda: process._stderr, child.stderr)
            await loop.create_unix_connection(lambda: process._connection, sock=socket)
            header = await asyncio.wait_for(booted, timeout)
            if door is not None:
                await process._connection.write_to(door.accept(child.pid))
            await spawner.bound(child, memory_mb * 2**20)
            process._memory_mb = memory_mb
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

    def rename(self, name: str) -> None:
        """What the record calls the process from now on; before any invocation."""
        self.name = self._inflight.name = name

    async def load(self, deployment: Deployment, header: Header, timeout: float) -> None:
        """Send `start` and wait for the code's top level to finish.

        Args:
            deployment: what is being loaded; its files stand in the slot already.
            header: the members of the `start` frame; its `root`, where the guest sees the bundle, is kept out
                of everything shown.
            timeout: seconds the top level may take; after them the process is killed.

        Raises:
            FunctionError: the code does not load.
            RuntimeFault: the process died, or the top level took too long.
        """
        self.deployment = deployment
        self._bundle = header["root"]
        self._inflight.loaded(deployment, self._bundle)
        ready = self._milestones.next()
        self._connection.write(encode({"t": "start", **header}))
        try:
            answer = await asyncio.wait_for(ready, timeout)
        except TimeoutError as error:
            self.kill("its code did not load in time", "load")
            raise RuntimeFault(
                f"functions/{deployment.entry}: the module's top-level code did not finish "
                f"within {timeout:g} s.",
                "Move work that waits or loops into the handler.",
            ) from error
        except BaseException:
            self.kill("it was not wanted any more", "stopped")
            raise
        if answer["t"] == "failed":
            self.kill("its code does not load", "load")
            thrown = function_error(answer.get("error"), deployment, self._bundle)
            out_of_memory(thrown, self._memory_mb)
            raise thrown
        self._want("ready", answer)

    @property
    def pid(self) -> int:
        """The operating system's number of the process."""
        return self._child.pid

    @property
    def alive(self) -> bool:
        """Whether it can still answer."""
        return not self._dead

    @property
    def ending(self) -> Ending:
        """How it ended; once it is dead."""
        if self._reason is not None:
            return self._ending
        if self._stderr.starved:
            return "memory"
        return "signal" if (self._child.returncode or 0) < 0 else "exit"

    @property
    def in_flight(self) -> int:
        """Invocations that have not ended."""
        return len(self._runs)

    @property
    def usable(self) -> bool:
        """Whether it takes new invocations."""
        return not (self._dead or self.retired)

    @property
    def busy(self) -> bool:
        """Whether its event loop has been blocked for a while, as far as is known without waiting."""
        return bool(self._runs) and not self._dead and self._pulse.slow

    def on_death(self, call: Callable[[], None]) -> None:
        """Have `call` called once when the process has died."""
        self._on_death.append(call)

    def on_retired(self, call: Callable[[], None]) -> None:
        """Have `call` called once when the process stops taking invocations though it lives."""
        self._on_retired.append(call)

    def kill(self, reason: str, ending: Ending = "protocol") -> None:
        """SIGKILL; what is in flight fails with GuestDied, which says `reason`. It is counted as `ending`."""
        if self._reason is None:
            self._reason, self._ending = reason, ending
        self._child.kill()
        self._die()

    async def drain(self, grace: float) -> None:
        """Wait until nothing is in flight, at most `grace` seconds, then end the process and wait until it is
        gone."""
        if self._runs and not self._dead and grace > 0:
            self._idle = self._idle or self._loop.create_future()
            await asyncio.wait({self._idle}, timeout=grace)
        self.kill("it was shut down", "retired" if self.retired else "stopped")
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
        inflight = self._inflight
        run = inflight.begin(host, invocation.timeout)
        if invocation.timeout > 2 * PING_BEFORE:
            run.due -= PING_BEFORE
        if run.due < self._alarm_at:
            self._set_alarm(run.due)
        rest: asyncio.Task[list[str]] | None = None
        try:
            if self._connection.writable is not None:
                waiting: set[asyncio.Future[Any]] = {self._connection.writable, run.answer}
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if not run.answer.done():
                inflight.send(run, invocation)
            try:
                reply = await run.answer
            except FunctionError as error:
                if run.working:
                    error.rest = rest = self._see_through(run)
                elif run.unsettled:
                    await inflight.settle(run)
                self.served += 1
                if out_of_memory(error, self._memory_mb) and self.usable:
                    # What the process still holds may not leave enough for others.
                    self.retired = True
                    self._announce()
                raise
            if run.working:
                rest = self._see_through(run)
            elif run.unsettled:
                await inflight.settle(run)
            self.served += 1
            if run.warnings or rest is not None:
                reply = structs.replace(reply, warnings=_taken(run), rest=rest)
            return reply
        except RuntimeFault as error:
            error.guest, error.invocation, error.warnings = self.name, run.number, _taken(run)
            raise
        finally:
            if rest is None:
                await self._end(run)

    def _see_through(self, run: Run) -> asyncio.Task[list[str]]:
        """Let the work go on that was handed to ctx.waitUntil; the invocation counts until it is over."""

        async def see_through() -> list[str]:
            try:
                await self._inflight.settle(run)
            finally:
                await self._end(run)
            return _taken(run)

        return self._loop.create_task(see_through(), name="work after the answer")

    async def _end(self, run: Run) -> None:
        self._inflight.end(run)
        if run.open:
            await self._inflight.abandon(run)
        if self._idle is not None and not self._runs:
            if not self._idle.done():
                self._idle.set_result(None)
            self._idle = None

    # Deadlines

    def _set_alarm(self, at: float) -> None:
        """Have what is due looked at then. One timer serves all invocations: few of them come to it."""
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm_at = at
        self._alarm = None if at == math.inf else self._loop.call_at(at, self._look)

    def _look(self) -> None:
        self._alarm, self._alarm_at = None, math.inf
        now = self._loop.time() + _TICK
        for run in [run for run in self._runs.values() if run.due <= now]:
            if run.deadline <= now:
                run.due = math.inf
                self._expire(run)
            else:
                run.due = run.deadline
                if run.takes:
                    self._pulse.ping()
        if not self._dead:
            self._set_alarm(min((run.due for run in self._runs.values()), default=math.inf))

    def _expire(self, run: Run) -> None:
        if run.answer.done():
            if not run.working:
                self._inflight.cut_off(run)
                return
            why = f"it did not end within {run.timeout * 1000:.0f} ms (timeout_ms)."
            self._inflight.cut_off(run, why)
            self._retire()
            return
        function = self.deployment.function if self.deployment else self.name
        text = f"`{function}` did not answer within {run.timeout * 1000:.0f} ms."
        self._inflight.fail(run, DeadlineExceeded(text))
        self._retire()

    def _retire(self) -> None:
        """One of its invocations ran past its deadline: what it still does there is unknown."""
        if self._dead:
            return
        self.retired = True
        self._pulse.judge()
        if len(self._runs) == 1:
            self._announce()

    def _announce(self) -> None:
        """Say that it is retired. Where others are in flight only once it is known whether it lives: what
        follows, a replacement's start, would hold up the verdict."""
        callbacks, self._on_retired = self._on_retired, []
        for call in callbacks:
            call()

    def _answered(self) -> None:
        if self.retired:
            self._announce()

    def _stopped(self) -> None:
        if not self._dead:
            self.kill("its event loop was blocked past a deadline", "blocked")

    # Frames

    def _take_pong(self, header: Header, body: bytes) -> None:
        self._pulse.pong()

    def _want(self, kind: str, header: Header) -> None:
        if header["t"] != kind:
            self.kill(f"it broke the protocol: `{header['t']}` instead of `{kind}`")
            raise RuntimeFault(
                f"The guest {self.name} broke the protocol: `{header['t']}` instead of `{kind}`."
            )

    # Death

    def _lost(self) -> None:
        """The guest closed its end: it is dying, or as good as dead."""
        if not self._eof.done():
            self._eof.set_result(None)
        self.retired = True
        if self._child.returncode is not None or self._reason is not None:
            self._die()
        else:
            self._closed = self._loop.call_later(DIES_WITHIN, self.kill, "it closed its connection to Flux")

    async def _reap(self) -> None:
        """Owns the end of the process: waits for it, reads what it still said, fails what is in flight,
        closes the pipes."""
        await self._child.ended
        if self._closed is not None:
            self._closed.cancel()
        await asyncio.wait({self._eof}, timeout=0.2)
        self._die()
        self._stderr.close()
        self._child.stderr.close()
        await self._inflight.wound_up()

    def _die(self) -> None:
        if self._dead:
            return
        self._dead = True
        self._set_alarm(math.inf)
        self._milestones.end(self._death())
        self._inflight.die(self._death)
        self._connection.close()
        callbacks, self._on_death = self._on_death, []
        for call in callbacks:
            call()

    def _death(self) -> GuestDied:
        what = (
            f"The guest process of `{self.deployment.function}`"
            if self.deployment
            else f"The guest {self.name}"
        )
        return died(
            what,
            reason=self._reason,
            starved=self._stderr.starved,
            memory_mb=self._memory_mb,
            code=self._child.returncode,
            said=self._stderr.last,
        )


def _taken(run: Run) -> list[str]:
    """The warnings that came since they were taken last."""
    warnings, run.warnings = run.warnings, []
    return warnings
