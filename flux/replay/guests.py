"""Fresh guest processes for replays: the recorded deployment, under the recorded name.

The name gives the seed and the clock that top-level code sees; the surroundings give ctx.env and the limits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path

from flux.errors import Overloaded
from flux.host.protocol import Host
from flux.replay.record import Recorded, Surroundings
from flux.runtime.deployment import Deployment
from flux.runtime.engine import Invocation, Reply
from flux.runtime.pool import Launcher, SubprocessEngine
from flux.runtime.process import GuestProcess

Launch = Callable[[int], Launcher]
"""Makes a launcher for guests that may allocate so many MiB."""


class FreshGuest:
    """One process with a recorded deployment in it. Implements `Guest`."""

    def __init__(self, deployment: Deployment, process: GuestProcess) -> None:
        self.deployment = deployment
        self._process = process

    async def invoke(self, invocation: Invocation, host: Host) -> Reply:
        """See `Guest.invoke`."""
        return await self._process.invoke(invocation, host)

    def refusal(self) -> Overloaded | None:
        """It takes all that is replayed in it."""
        return None

    @property
    def alive(self) -> bool:
        """Whether it takes invocations."""
        return self._process.usable

    async def close(self, grace: float = 0.0) -> None:
        """End the process."""
        await self._process.drain(grace)


class Guests:
    """Starts them; one engine for each language and surroundings.

    Args:
        launch: by runtime.
        slots_dir: where processes have their folders.
        boot_seed: the seed that belongs to a process's name.
        project: the project's folder.
    """

    def __init__(
        self,
        launch: Mapping[str, Launch],
        *,
        slots_dir: Path,
        boot_seed: Callable[[str], bytes],
        project: Path,
    ) -> None:
        self._launch = launch
        self._slots_dir = slots_dir
        self._boot_seed = boot_seed
        self._project = project
        self._engines: dict[tuple[str, str], SubprocessEngine] = {}

    async def start(self, recorded: Recorded) -> FreshGuest:
        """A fresh process with the deployment of `recorded` loaded.

        Raises:
            RuntimeFault: it can't be started, or its code does not load.
        """
        engine = self._engine(recorded.deployment.runtime, recorded.surroundings)
        process = await engine.start(recorded.deployment, recorded.guest)
        return FreshGuest(recorded.deployment, process)

    async def close(self) -> None:
        """End all that run."""
        await asyncio.gather(*(engine.close(0) for engine in self._engines.values()))

    def _engine(self, runtime: str, surroundings: Surroundings) -> SubprocessEngine:
        key = runtime, surroundings.id
        if key not in self._engines:
            self._engines[key] = SubprocessEngine(
                self._launch[runtime](surroundings.memory_mb),
                slots_dir=self._slots_dir,
                project=self._project,
                concurrency=surroundings.concurrency,
                memory_mb=surroundings.memory_mb,
                env=surroundings.env,
                dev=surroundings.dev,
                boot_seed=self._boot_seed,
            )
        return self._engines[key]
