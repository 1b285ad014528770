"""Guest processes: warm spares, loading code, their folders and their ends. One engine per language.

`SubprocessEngine` implements `Engine` over any language for which there is a `Launcher`. The executor uses it
through the protocol; the app makes and closes it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from flux.errors import GuestDied, RuntimeFault
from flux.runtime.deployment import Deployment
from flux.runtime.deployment_guest import DeploymentGuest
from flux.runtime.door import Door
from flux.runtime.ending import ENDINGS
from flux.runtime.process import GuestProcess
from flux.runtime.slots import Slots, place, seen
from flux.runtime.spawner import Order, Spawner

LOAD_TIMEOUT = 10.0
"""Seconds that a module's top-level code may take."""
BOOTS = 3
"""Processes that are started for one that is wanted, where they die before any code is in them."""
QUIET = 0.05
"""Seconds after code was loaded before the next spare is started: that holds up the event loop, and its boot
takes processor time, which the first answers of what was loaded need."""


log = logging.getLogger("flux.runtime")


class Launcher(Protocol):
    """How one language's guest is started. Stateless as to processes: the pool owns them."""

    name: str
    """`deno`, `python`: the engine's name and the prefix of its processes' names."""

    def versions(self) -> dict[str, str]:
        """Versions that a deployment's identity includes; quick, and without starting a guest each time."""
        ...

    dials: bool
    """Whether its guests come to a door for what they read; else they read their stdin."""

    def spawner(self, project: Path | None) -> Spawner:
        """What starts its guests.

        `project` is the folder whose owner they run as where the server is root."""
        ...

    def order(self, slot: Path, door: str) -> Order:
        """How a guest is started that lives in `slot`, its working directory. Code will stand in
        `slot/"bundle"`; `door` is the path of the socket to connect to, or empty."""
        ...

    def booted(self, slot: Path) -> None:
        """The guest in `slot` has booted; no code is in it yet. Called in a thread."""
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
        project: the project's folder, whose owner guests run as where the server is root.
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
        project: Path | None = None,
    ) -> None:
        self.name = launcher.name
        self.concurrency = concurrency
        self.processes_per_deployment = processes_per_deployment
        self._launcher = launcher
        self._spawner = launcher.spawner(project)
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
        self._spawner.close()
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

    async def start(self, deployment: Deployment, name: str) -> GuestProcess:
        """A fresh process with `deployment` loaded, under the name that another had: its top-level code sees
        the random numbers and the clock that it saw there. The caller drains it.

        Raises:
            FunctionError: the code does not load.
            RuntimeFault: no process can be started, or the top-level code took too long.
        """
        process, slot = await self._claim()
        self._refill()
        return await self._load(process, slot / "bundle", deployment, name)

    async def _load(
        self, process: GuestProcess, bundle: Path, deployment: Deployment, name: str | None = None
    ) -> GuestProcess:
        try:
            place(deployment.files, bundle)
        except BaseException:
            process.kill("its code could not be placed", "load")
            raise
        now = self._clock_ns() // 1000 if name is None else int(name.rpartition("-")[2], 16)
        process.rename(f"{process.name}-{now:x}" if name is None else name)
        header = {
            "root": f"{seen(bundle.parent)}/bundle",
            "entry": deployment.entry,
            "function": deployment.function,
            "env": self._env,
            "dev": self._dev,
            "seed": self._boot_seed(process.name).hex(),
            "now": now,
        }
        await process.load(deployment, header, self._load_timeout)
        return process

    def forget(self, guest: DeploymentGuest) -> None:
        """`guest` is closed."""
        self._guests.discard(guest)

    async def _claim(self) -> tuple[GuestProcess, Path]:
        death = GuestDied(f"The {self.name} guest dies as soon as it has booted.")
        for _ in range(BOOTS):
            if self._closed:
                raise RuntimeFault(f"The {self.name} engine is shut down.")
            self._refill()
            spare, self._spare = self._spare, None
            assert spare is not None
            try:
                process, slot = await asyncio.shield(spare)
            except GuestDied as error:  # no code was in it yet: the runtime itself has failed
                log.warning("%s It had not booted; another is started.", error.message)
                death = error
                continue
            except asyncio.CancelledError:
                if spare.done() or self._spare is not None:
                    self._discard(spare)
                else:
                    self._spare = spare
                raise
            if process.usable:
                return process, slot
        raise death

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
            door = Door(self._spawner.account) if self._launcher.dials else None
            process = await GuestProcess.start(
                self._spawner,
                self._launcher.order(slot, door.path if door else ""),
                name=name,
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
        await asyncio.to_thread(self._launcher.booted, slot)
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
