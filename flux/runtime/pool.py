"""Guest processes by deployment: warm spares, deadlines' aftermath, replacement and draining. One engine per
language.

`SubprocessEngine` implements `Engine` over any language for which there is a `Launcher`. The executor uses it
through the protocol; the app makes and closes it.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from flux.errors import GuestDied, Overloaded, RuntimeFault
from flux.host.protocol import Host
from flux.runtime.deployment import Deployment
from flux.runtime.door import Door
from flux.runtime.ending import ENDINGS
from flux.runtime.engine import Invocation, Reply
from flux.runtime.process import GuestProcess
from flux.runtime.slots import Slots, place

LOAD_TIMEOUT = 10.0
"""Seconds that a module's top-level code may take."""
QUIET = 0.05
"""Seconds after code was loaded before the next spare is started: that holds up the event loop, and its boot
takes processor time, which the first answers of what was loaded need."""
MOST_EXTRA = 4
"""Processes beyond `processes_per_deployment` that may stand in while others are blocked by a long
computation."""


class Launcher(Protocol):
    """How one language's guest is started. Stateless as to processes: the pool owns them."""

    name: str
    """`deno`, `python`: the engine's name and the prefix of its processes' names."""

    def versions(self) -> dict[str, str]:
        """Versions that a deployment's identity includes; quick, and without starting a guest each time."""
        ...

    dials: bool
    """Whether its guests come to a door for what they read; else they read their stdin."""

    def command(self, slot: Path, door: str) -> list[str]:
        """The command line of a guest that lives in `slot`, its working directory. Code will stand in
        `slot/"bundle"`; `door` is the path of the socket to connect to, or empty."""
        ...

    def environment(self, slot: Path) -> dict[str, str]:
        """The guest's whole environment; nothing else is inherited."""
        ...


LogLine = Callable[[str, str | None, str], None]
"""Takes (guest, function or None, line): a line that a guest wrote outside any invocation."""


class SubprocessEngine:
    """Runs functions in subprocesses.

    Args:
        launcher: the language.
        slots_dir: where processes have their private folders; leftovers of dead servers in it are removed.
        concurrency: invocations in flight in one process before more are refused.
        memory_mb: MiB that one process may allocate; 0 sets no limit.
        processes_per_deployment: processes that share a deployment's invocations.
        env: what functions see as `ctx.env`, name to value.
        dev: whether this is `flux dev`.
        on_line: takes stray output of guests.
        load_timeout: seconds a module's top-level code may take.
        boot_seed: 32 bytes for a process's recorded name: the seed of what a module's top-level code sees.
            Derived from the name, it need not be recorded to be had again.
        clock_ns: that code's clock; the name ends in it, in hex microseconds.
    """

    def __init__(
        self,
        launcher: Launcher,
        *,
        slots_dir: Path,
        concurrency: int,
        memory_mb: int = 0,
        processes_per_deployment: int = 1,
        env: Mapping[str, str],
        dev: bool,
        on_line: LogLine = lambda guest, function, line: None,
        load_timeout: float = LOAD_TIMEOUT,
        boot_seed: Callable[[str], bytes] = lambda name: os.urandom(32),
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.name = launcher.name
        self.concurrency = concurrency
        self.processes_per_deployment = processes_per_deployment
        self._launcher = launcher
        self._memory_mb = memory_mb
        self._slots_dir = slots_dir.resolve()
        self._slots: Slots | None = None
        self._env = dict(env)
        self._dev = dev
        self._on_line = on_line
        self._load_timeout = load_timeout
        self._boot_seed = boot_seed
        self._clock_ns = clock_ns
        self._spare: asyncio.Task[tuple[GuestProcess, Path]] | None = None
        self._guests: set[DeploymentGuest] = set()
        self._housekeeping: set[asyncio.Task[None]] = set()
        self._closed = False
        self.running = 0
        """Processes that live now, the spare included."""
        self.starts = 0
        self.deaths: dict[str, int] = dict.fromkeys(ENDINGS, 0)
        """Processes that have ended, by how (see `flux.runtime.ending`)."""

    @property
    def in_flight(self) -> int:
        """Invocations under way."""
        return sum(process.in_flight for guest in self._guests for process in guest.processes)

    def versions(self) -> dict[str, str]:
        """The launcher's."""
        return self._launcher.versions()

    async def warm(self) -> None:
        """Have a booted spare ready; the app calls it at start so that the first function loads sooner.

        Raises:
            RuntimeFault: the guest can't be started.
        """
        self._refill()
        if self._spare is not None:
            await asyncio.shield(self._spare)

    async def load(self, deployment: Deployment) -> DeploymentGuest:
        """See `Engine.load`."""
        guest = DeploymentGuest(self, deployment)
        await guest.open()
        self._guests.add(guest)
        return guest

    async def close(self, grace: float = 5.0) -> None:
        """Drain every guest, at most `grace` seconds, end the spare, remove the slots. Idempotent."""
        self._closed = True
        await asyncio.gather(*(guest.close(grace) for guest in list(self._guests)))
        spare, self._spare = self._spare, None
        if spare is not None:
            spare.cancel()
            result = (await asyncio.gather(spare, return_exceptions=True))[0]
            if isinstance(result, tuple):
                await result[0].drain(0)
        while self._housekeeping:
            await asyncio.wait(set(self._housekeeping))
        if self._slots is not None:
            self._slots.close()
            self._slots = None

    async def ready(self, deployment: Deployment) -> GuestProcess:
        """A process with `deployment` loaded: the spare if it is up; a new spare is started in the
        background, soon after.

        Raises:
            FunctionError: the code does not load.
            RuntimeFault: no process can be started, or the top-level code took too long.
        """
        process, slot = await self._claim()
        try:
            return await self._load(process, slot / "bundle", deployment)
        finally:
            asyncio.get_running_loop().call_later(QUIET, self._refill)

    async def _load(self, process: GuestProcess, bundle: Path, deployment: Deployment) -> GuestProcess:
        try:
            place(deployment.files, bundle)
        except BaseException:
            process.kill("its code could not be placed", "load")
            raise
        now = self._clock_ns() // 1000
        process.rename(f"{process.name}-{now:x}")
        header = {
            "root": str(bundle),
            "entry": deployment.entry,
            "function": deployment.function,
            "env": self._env,
            "dev": self._dev,
            "seed": self._boot_seed(process.name).hex(),
            "now": now,
        }
        await process.load(deployment, header, bundle, self._load_timeout)
        return process

    def forget(self, guest: DeploymentGuest) -> None:
        """`guest` is closed."""
        self._guests.discard(guest)

    async def _claim(self) -> tuple[GuestProcess, Path]:
        for _ in range(3):
            if self._closed:
                raise RuntimeFault(f"The {self.name} engine is shut down.")
            self._refill()
            spare, self._spare = self._spare, None
            assert spare is not None
            try:
                process, slot = await asyncio.shield(spare)
            except asyncio.CancelledError:
                if spare.done() or self._spare is not None:
                    self._discard(spare)
                else:
                    self._spare = spare
                raise
            if process.usable:
                return process, slot
        raise RuntimeFault(f"The {self.name} guest dies as soon as it has booted.")

    def _refill(self) -> None:
        if self._spare is None and not self._closed:
            self._spare = asyncio.create_task(self._boot(), name=f"boot {self.name}")
            self._spare.add_done_callback(self._booted)

    def _booted(self, task: asyncio.Task[tuple[GuestProcess, Path]]) -> None:
        """A spare that failed to boot is not kept: the next claim tries anew and reports what it meets."""
        if not task.cancelled() and task.exception() is not None and self._spare is task:
            self._spare = None

    def _discard(self, spare: asyncio.Task[tuple[GuestProcess, Path]]) -> None:
        async def end() -> None:
            spare.cancel()
            result = (await asyncio.gather(spare, return_exceptions=True))[0]
            if isinstance(result, tuple):
                await result[0].drain(0)

        self.own(asyncio.create_task(end()))

    async def _boot(self) -> tuple[GuestProcess, Path]:
        if self._slots is None:
            self._slots = Slots(self._slots_dir, f"{self.name}-{os.getpid()}-{secrets.token_hex(3)}")
        slots = self._slots
        name = f"{self.name}-{secrets.token_hex(3)}"
        slot = slots.make(name)
        started: list[GuestProcess] = []

        def on_line(line: str) -> None:
            deployment = started[0].deployment if started else None
            self._on_line(name, deployment.function if deployment else None, line)

        door = None
        try:
            door = Door() if self._launcher.dials else None
            process = await GuestProcess.start(
                self._launcher.command(slot, door.path if door else ""),
                name=name,
                cwd=slot,
                environment=self._launcher.environment(slot),
                on_line=on_line,
                door=door,
                memory_mb=self._memory_mb,
            )
        except BaseException:
            slots.remove(slot)
            raise
        finally:
            if door is not None:
                door.close()
        started.append(process)
        self.starts += 1
        self.running += 1
        process.on_death(lambda: self._ended(process, slots, slot))
        return process, slot

    def _ended(self, process: GuestProcess, slots: Slots, slot: Path) -> None:
        self.running -= 1
        self.deaths[process.ending] += 1
        self.own(asyncio.create_task(self._bury(process, slots, slot)))

    async def _bury(self, process: GuestProcess, slots: Slots, slot: Path) -> None:
        await process.gone()
        await asyncio.to_thread(slots.remove, slot)

    def own(self, task: asyncio.Task[None]) -> None:
        """Keep a background task of the engine until it is done; `close` waits for it."""
        self._housekeeping.add(task)
        task.add_done_callback(self._housekeeping.discard)


class DeploymentGuest:
    """A deployment made ready to run, in one process or several. Implements `Guest`; made by
    `SubprocessEngine.load`."""

    def __init__(self, engine: SubprocessEngine, deployment: Deployment) -> None:
        self.deployment = deployment
        self._engine = engine
        self._processes: list[GuestProcess] = []
        self._starting: asyncio.Task[GuestProcess] | None = None
        self._closed = False

    @property
    def processes(self) -> tuple[GuestProcess, ...]:
        """Its live processes, those that are being drained included."""
        return tuple(self._processes)

    async def open(self) -> None:
        """Load the code into the first process; the others follow when the load calls for them."""
        await asyncio.shield(self._start())

    async def invoke(self, invocation: Invocation, host: Host) -> Reply:
        """See `Guest.invoke`."""
        process = self._pick()
        if process is None:
            process = await self._start_within(invocation.timeout)
        if process.in_flight >= self._engine.concurrency:
            raise self._overloaded(process)
        return await process.invoke(invocation, host)

    def refusal(self) -> Overloaded | None:
        """See `Guest.refusal`."""
        least: GuestProcess | None = None
        for process in self._processes:
            if process.usable and not process.busy:
                if process.in_flight < self._engine.concurrency:
                    return None
                least = process
        return None if least is None else self._overloaded(least)

    def _overloaded(self, process: GuestProcess) -> Overloaded:
        return Overloaded(
            f"`{self.deployment.function}` has {process.in_flight} invocations in flight.",
            "Raise `concurrency` in flux.toml, or try again shortly.",
        )

    async def close(self, grace: float = 5.0) -> None:
        """See `Guest.close`."""
        self._closed = True
        if self._starting is not None:
            await asyncio.gather(self._starting, return_exceptions=True)
        await asyncio.gather(*(process.drain(grace) for process in self.processes))
        self._engine.forget(self)

    def _pick(self) -> GuestProcess | None:
        """The least loaded process that takes invocations, or None where one has to be started first."""
        if self._closed:
            raise GuestDied(f"This deployment of `{self.deployment.function}` is no longer served.")
        wanted = self._engine.processes_per_deployment
        if wanted == 1 and len(self._processes) == 1:
            (process,) = self._processes
            if process.usable and not process.busy:
                return process
        best: GuestProcess | None = None
        blocked: GuestProcess | None = None
        usable = 0
        for process in self._processes:
            if not process.usable:
                continue
            if process.busy:
                blocked = process
                continue
            usable += 1
            if best is None or process.in_flight < best.in_flight:
                best = process
        if best is not None:
            if best.in_flight and usable < wanted and len(self._processes) < wanted + MOST_EXTRA:
                self._start()
            return best
        if blocked is not None and len(self._processes) >= wanted + MOST_EXTRA:
            return blocked
        return None

    async def _start_within(self, timeout: float) -> GuestProcess:
        try:
            process = await asyncio.wait_for(asyncio.shield(self._start()), timeout)
        except TimeoutError as error:
            raise RuntimeFault(
                f"No process for `{self.deployment.function}` could be started in time."
            ) from error
        if process.usable:
            return process
        raise GuestDied(f"The guest process of `{self.deployment.function}` died as soon as it had loaded.")

    def _start(self) -> asyncio.Task[GuestProcess]:
        """The task that is starting a process; one at a time."""
        if self._starting is None:
            self._starting = asyncio.create_task(self._add(), name=f"load {self.deployment.function}")
            self._starting.add_done_callback(self._started)
        return self._starting

    def _started(self, task: asyncio.Task[GuestProcess]) -> None:
        self._starting = None
        if not task.cancelled():
            task.exception()

    async def _add(self) -> GuestProcess:
        process = await self._engine.ready(self.deployment)
        if process.alive:
            self._processes.append(process)
            process.on_retired(lambda: self._retired(process))
            process.on_death(lambda: self._died(process))
        return process

    def _retired(self, process: GuestProcess) -> None:
        """Its state is unknown: let what is in flight finish (each has a deadline), then end it; another
        takes over."""
        longest = self.deployment.timeout_ms / 1000
        self._engine.own(asyncio.create_task(process.drain(longest)))
        self._replace(process)

    def _died(self, process: GuestProcess) -> None:
        self._processes.remove(process)
        self._replace(process)

    def _replace(self, process: GuestProcess) -> None:
        """Start another at once, unless the code may be what ends each process before it has served."""
        live = [p for p in self._processes if p.usable]
        if not self._closed and process.served and len(live) < self._engine.processes_per_deployment:
            self._start()
