"""The functions being served: which deployment and which guest stand behind each name and route.

The gateway matches routes here, the executor and the queue look names up. A reload builds the
changed deployments, loads them into fresh guests, and swaps the whole table at once; what is in
flight finishes on the old guests.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from flux.config import Config
from flux.errors import FluxError
from flux.record.events import Deployed
from flux.runtime import bundle
from flux.runtime.deployment import Deployment
from flux.runtime.engine import Engine, Guest
from flux.runtime.functions import FunctionSource, Problem, discover
from flux.runtime.routes import Routes, parse

CLOSE_GRACE = 30.0
"""Seconds that invocations in flight on a replaced guest may take."""
RETIRE_AFTER = 0.05
"""Seconds that a replaced guest lives on at least: its end takes time from the first answers of the next."""
LOADS_AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class Served:
    """One function as it is served now. `failure` is set, and `guest` None, where its code did not load."""

    name: str
    deployment: Deployment
    methods: tuple[str, ...]
    route: str
    record: str
    timeout: float
    guest: Guest | None
    failure: FluxError | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """What a reload did to one function: `added`, `changed`, `removed`, `failed` (with its error) or
    `kept`. `milliseconds`: since the reload began until its code was loaded and its deployment recorded.
    """

    name: str
    kind: str
    error: FluxError | None = None
    milliseconds: float = 0.0


class Registry:
    """The live table of functions. Used from one event loop.

    Args:
        config: where the functions are, and their defaults.
        engines: runtime name (`typescript`, `python`) -> Engine.
        deployed: called with each new deployment before the first execution that names it (the recorder's).
        clock: wall-clock nanoseconds.
    """

    def __init__(
        self,
        config: Config,
        engines: Mapping[str, Engine],
        deployed: Callable[[Deployed], None],
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self._config = config
        self._engines = engines
        self._deployed = deployed
        self._clock = clock
        self._contents = bundle.ContentCache()
        self._served: dict[str, Served] = {}
        self._stored: set[str] = set()
        self._retiring: set[asyncio.Task[None]] = set()
        self._reloading = asyncio.Lock()
        self.routes = Routes()
        self.problems: list[Problem] = []

    @property
    def functions(self) -> Mapping[str, Served]:
        """Functions by name, sorted."""
        return self._served

    def get(self, name: str) -> Served | None:
        """The function of that name, or None."""
        return self._served.get(name)

    async def reload(self) -> list[Change]:
        """Read functions/ again and serve what changed. A function that does not load answers with its
        error; others go on.
        """
        began = time.perf_counter()
        async with self._reloading:
            return await self._reload(began)

    async def _reload(self, began: float) -> list[Change]:
        loop = asyncio.get_running_loop()
        git = loop.run_in_executor(None, bundle.git_state, self._config.root)
        limit = asyncio.Semaphore(LOADS_AT_ONCE)

        async def one(source: FunctionSource) -> tuple[Served | None, Change]:
            async with limit:
                return await self._load(source, git, began)

        try:
            found = discover(self._config.functions_dir, self._config)
            results = await asyncio.gather(*(one(source) for source in found.functions))
        finally:
            await git
        before = self._served
        after = {served.name: served for served, _ in results if served is not None}
        changes = [change for _, change in results]
        changes += [Change(name, "removed") for name in before if name not in after]
        self._served = dict(sorted(after.items()))
        self.problems = found.problems
        self.routes = _routes(self._served.values())
        for name, old in before.items():
            new = after.get(name)
            if old.guest is not None and (new is None or new.guest is not old.guest):
                self._retire(old.guest)
        return changes

    async def _load(
        self, source: FunctionSource, git: asyncio.Future[bundle.GitState | None], began: float
    ) -> tuple[Served | None, Change]:
        old = self._served.get(source.name)
        engine = self._engines[source.runtime]
        try:
            deployment = bundle.build(source, self._config.functions_dir, engine.versions(), self._contents)
        except FluxError as error:
            return old, Change(source.name, "failed", error)
        if old is not None and old.deployment.id == deployment.id and old.guest is not None:
            return old, Change(source.name, "kept")
        guest: Guest | None = None
        failure: FluxError | None = None
        try:
            guest = await engine.load(deployment)
        except FluxError as error:
            failure = error
        try:
            self._store(deployment, await git)
        except BaseException:
            if guest is not None:
                self._retire(guest)
            raise
        elapsed = (time.perf_counter() - began) * 1000
        kind = "failed" if failure else "added" if old is None else "changed"
        served = Served(
            name=source.name,
            deployment=deployment,
            methods=_methods(deployment),
            route=str(deployment.config["route"]),
            record=str(deployment.config["record"]),
            timeout=deployment.timeout_ms / 1000,
            guest=guest,
            failure=failure,
        )
        return served, Change(source.name, kind, failure, elapsed)

    def _store(self, deployment: Deployment, git: bundle.GitState | None) -> None:
        if deployment.id in self._stored:
            return
        self._deployed(
            Deployed(
                deployment=deployment.id,
                function=deployment.function,
                at_ns=self._clock(),
                runtime=deployment.runtime,
                entry=deployment.entry,
                config=dict(deployment.config),
                manifest=dict(deployment.manifest),
                bundle=bundle.pack(deployment),
                engine=dict(deployment.engine),
                git_commit=git.commit if git else None,
                git_dirty=git.dirty if git else None,
                route=str(deployment.config["route"]),
                method=",".join(_methods(deployment)),
            )
        )
        self._stored.add(deployment.id)

    def _retire(self, guest: Guest) -> None:
        task = asyncio.create_task(_close_soon(guest))
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)

    async def close(self, grace: float = 5.0) -> None:
        """End every guest, letting what is in flight finish for at most `grace` seconds."""
        guests = [served.guest for served in self._served.values() if served.guest is not None]
        self._served = {}
        self.routes = Routes()
        await asyncio.gather(
            *(guest.close(grace) for guest in guests), *self._retiring, return_exceptions=True
        )


async def _close_soon(guest: Guest) -> None:
    await asyncio.sleep(RETIRE_AFTER)
    await guest.close(CLOSE_GRACE)


def _routes(served: Iterable[Served]) -> Routes:
    routes = Routes()
    for function in served:
        routes.add(function.name, function.methods, parse(function.route))
    return routes


def _methods(deployment: Deployment) -> tuple[str, ...]:
    method = deployment.config["method"]
    return (method,) if isinstance(method, str) else tuple(method)
