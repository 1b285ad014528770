"""A deployment made ready to run: its processes, which of them takes an invocation, replacing and draining
them. Made by the engine, used by the executor as a `Guest`.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from flux.errors import GuestDied, Overloaded, RuntimeFault
from flux.host.protocol import Host
from flux.runtime.deployment import Deployment
from flux.runtime.engine import Invocation, Reply
from flux.runtime.process import GuestProcess

MOST_EXTRA = 4
"""Processes beyond `processes_per_deployment` that may stand in while others are blocked by a long
computation."""


class Processes(Protocol):
    """What the engine does for its guests."""

    concurrency: int
    processes_per_deployment: int

    async def ready(self, deployment: Deployment) -> GuestProcess:
        """A process with `deployment` loaded."""
        ...

    def forget(self, guest: DeploymentGuest) -> None:
        """`guest` is closed."""
        ...

    def own(self, task: asyncio.Task[None]) -> None:
        """Keep a background task until it is done."""
        ...


class DeploymentGuest:
    """A deployment made ready to run, in one process or several. Implements `Guest`; made by
    `SubprocessEngine.load`."""

    def __init__(self, engine: Processes, deployment: Deployment) -> None:
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
