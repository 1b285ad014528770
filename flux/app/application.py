"""One serving process, wired: every object of Flux meets the others here and nowhere else."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
import logging
import os
from functools import partial
from pathlib import Path
from typing import Any, Self

from opentelemetry import context as otel
from opentelemetry.context import Context

from flux import __version__, semconv
from flux.api.application import make_application
from flux.app.child import Child
from flux.app.keys import with_master_key
from flux.app.metrics import Metrics, Sources
from flux.app.own_log import Withholding
from flux.app.watch import Watch
from flux.config import Config
from flux.data import install
from flux.data.database import UserDatabase
from flux.data.instrument import instrument_asyncpg
from flux.drain import state as drain_state
from flux.errors import Overloaded
from flux.gateway.gateway import Gateway
from flux.host.fetch import FetchClient, own_mark
from flux.host.jobs import Jobs
from flux.host.live import Live
from flux.host.protocol import Host
from flux.host.recording import Recording
from flux.host.secrets import Secrets
from flux.otlp.settings import Problem, resource_attributes, settings
from flux.query.reader import Reader
from flux.queue.job import Job, JobResult
from flux.queue.worker import Worker
from flux.record.call import CallError, Outcome
from flux.record.identity import new_id, program_of
from flux.recorder.execution import Execution
from flux.recorder.job_payloads import JobPayloads
from flux.recorder.recorder import Recorder
from flux.recorder.redaction import Redaction
from flux.recorder.seal import Sealer, SealError
from flux.recorder.telemetry import setup
from flux.replay.guests import Guests, Launch
from flux.replay.record import Records
from flux.replay.run import Replayer
from flux.runtime.deno import DenoLauncher
from flux.runtime.executor import Executor
from flux.runtime.functions import discover
from flux.runtime.pool import Launcher, SubprocessEngine
from flux.runtime.python import PythonLauncher
from flux.runtime.registry import Registry
from flux.runtime.request import Request
from flux.spool.writer import Spool
from flux.store.database import Store

guests = logging.getLogger("flux.guest")
"""What functions write outside any invocation."""


READING = 5.0
"""Seconds that Postgres has for a question that was asked over HTTP."""


class Application:
    """The five modules over one Postgres. Open it, use `gateway` (ASGI) or `executor`, close it.

    Attributes:
        config: with its master key.
        redaction: what is withheld.
        registry: the functions; call `registry.reload()` to serve them.
        executor: runs executions.
        gateway: the ASGI application.
        problems: `OTEL_*` variables that can't be used as they are.
        metrics: what `/_flux/metrics` says.
    """

    config: Config
    store: Store
    redaction: Redaction
    recorder: Recorder
    registry: Registry
    executor: Executor
    gateway: Gateway
    sidecar: Child
    problems: list[Problem]
    metrics: Metrics
    installation: install.Installation

    def __init__(self) -> None:
        self._stack = contextlib.AsyncExitStack()

    @classmethod
    async def open(cls, config: Config, *, jobs: bool = True) -> Self:
        """Start Postgres where needed, migrate, install capture, and wire everything. Closes what it opened
        if it fails.

        Args:
            config: the project's.
            jobs: False leaves queued jobs to other processes (a CLI command that runs one function).

        Raises:
            FluxError: with what is wrong and what to do.
        """
        self = cls()
        try:
            await self._open(with_master_key(config), jobs)
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def _open(self, config: Config, run_jobs: bool) -> None:
        self.config = config
        node = new_id()
        engines = self._engines(config)
        self.store = store = await Store.open(config, application_name=program_of(node), pool_size=4)
        self._stack.push_async_callback(store.close)
        async with store.internal() as connection:
            self.installation = await install.install(connection)

        self.redaction = redaction = Redaction(config.redact, config.redact_columns, config.redact_headers)
        self._secrets = Secrets(
            redaction,
            config.env_file,
            config.environment,
            listed=config.secrets,
            shown=config.env,
            master_key=config.master_key,
        )
        own_log = Withholding(redaction.secrets)
        own_log.attach()
        self._stack.callback(own_log.detach)
        collector, problems = settings(config.environment)
        attributes, more = resource_attributes(config.environment)
        self.problems = problems + more
        spool = Spool.create(
            config.spool_dir,
            node,
            limit=config.spool_limit,
            durability=config.durability,
            patience=config.confirm_timeout_ms / 1000,
            otlp_limit=config.otlp_limit if collector is not None else None,
        )
        if collector is not None:
            otlp = Child(
                "flux.app.otlp",
                config.root,
                node,
                name="the span export",
                final_wait=8.0,
                environment={"GRPC_VERBOSITY": "NONE"},  # what it says of each attempt is said once
            )
            await otlp.start()
            self._stack.push_async_callback(otlp.close)
        self.sidecar = Child("flux.app.sidecar", config.root, node, name="the sidecar", final_wait=15.0)
        await self.sidecar.start()
        self._stack.push_async_callback(self.sidecar.close)
        sealer = Sealer(config.master_key)
        self.recorder = recorder = Recorder(spool, sealer, redaction)
        self._stack.callback(recorder.close)
        recorder.surroundings(config.guest_env, bounds_of(config))

        provider = setup(
            recorder,
            {
                semconv.SERVICE_NAME: config.name,
                semconv.SERVICE_VERSION: __version__,
                semconv.SERVICE_INSTANCE_ID: node,
                **attributes,
            },
        )
        self._stack.callback(provider.shutdown)
        instrument_asyncpg()
        database = await UserDatabase.open(
            store, size=config.pool_size, pooler=config.pooler, program=program_of(node)
        )
        self._stack.push_async_callback(database.close)
        fetch = FetchClient(mark=own_mark(config.master_key))
        self._stack.push_async_callback(fetch.close)
        self._payloads = JobPayloads(redaction, sealer)
        self._jobs = Jobs(store, self._payloads.conceal)
        self._stack.push_async_callback(self._jobs.close)
        self.database, self._fetch = database, fetch

        self.registry = registry = Registry(config, engines, recorder.deployed)
        self._stack.push_async_callback(registry.close)
        self.executor = Executor(
            registry=registry,
            recorder=recorder,
            tracer=provider.get_tracer("flux", __version__),
            hosts=self._host,
            dev=config.dev,
        )
        self._stack.push_async_callback(self.executor.close)
        reader = Reader(
            store,
            spool_dir=config.spool_dir,
            redact_columns=config.redact_columns,
            patience=READING,
        )
        self._watch = Watch(store.connect_args, node)
        self._stack.push_async_callback(self._watch.close)
        internal = make_application(config, registry, self.executor, reader, self.ready, self._metrics)
        self.gateway = Gateway(config, registry, self.executor, internal)
        self._stack.callback(self.gateway.close)
        self.metrics = Metrics(
            Sources(
                traffic=self.gateway.traffic,
                executor=self.executor,
                recorder=recorder,
                engines=engines,
                connections=database.pool,
                sidecar=self.sidecar,
                spools=config.spool_dir,
            ),
            self._watch,
        )
        if run_jobs:
            self._worker = Worker(store, self._run_job, concurrency=config.job_concurrency, node=node)

    def _engines(self, config: Config) -> dict[str, SubprocessEngine]:
        """The engines, those that the project needs booting while Postgres starts."""
        launchers: dict[str, Launcher] = {
            "typescript": DenoLauncher(config.memory_mb),
            "python": PythonLauncher(),
        }
        engines = {
            runtime: SubprocessEngine(
                launcher,
                slots_dir=config.flux_dir / "guests",
                project=config.root,
                concurrency=config.concurrency,
                memory_mb=config.memory_mb,
                env=config.guest_env,
                dev=config.dev,
                on_line=_stray_line,
                boot_seed=partial(_boot_seed, config.master_key),
            )
            for runtime, launcher in launchers.items()
        }
        needed = {source.runtime for source in discover(config.functions_dir, config).functions}
        for runtime, engine in engines.items():
            self._stack.push_async_callback(engine.close)
            if runtime in needed:
                self._stack.push_async_callback(_over, asyncio.create_task(engine.warm()))
        return engines

    def _host(self, execution: Execution, context: Context, request: Request, deadline: float) -> Host:
        async def invoke(name: str, payload: bytes) -> Outcome:
            result = await self.executor.execute(
                Request(
                    trigger="invoke",
                    function=name,
                    body=payload,
                    parent_request_id=execution.request_id,
                    context=otel.get_current(),
                    depth=request.depth + 1,
                )
            )
            if result.error is not None or result.status >= 400:
                kind = result.error.type if result.error else str(result.status)
                message = result.error.message if result.error else f"{name} answered {result.status}."
                detail = {"request_id": result.request_id, "status": str(result.status)}
                return Outcome(error=CallError(kind, message, detail))
            if result.kind == "json":
                return Outcome(result=result.body)
            return Outcome(result=_response_value(result.body))

        live = Live(
            request_id=execution.request_id,
            session=self.database.session(
                execution.request_id,
                execution.day,
                function=execution.arrival.function or "",
                deadline=deadline,
                now_ns=execution.now,
                conceal=self._payloads.conceal,
            ),
            fetch=self._fetch,
            jobs=self._jobs,
            secrets=self._secrets,
            invoke=invoke,
            clock=execution.now,
        )
        return Recording(live, execution, context, clock=execution.now)

    async def _run_job(self, job: Job) -> JobResult:
        try:
            payload = self._payloads.open(job.payload, job.sealed)
        except SealError as sealed:
            return JobResult(
                ok=False, request_id=None, error={"type": sealed.type, "message": sealed.message}
            )
        result = await self.executor.execute(
            Request(
                trigger="job",
                function=job.name,
                body=payload,
                context=Context(),
                links=job.links(),
                parent_request_id=job.pushed_by,
                job_id=job.id,
                job_attempt=job.attempt,
                attributes={
                    semconv.MESSAGING_SYSTEM: "flux",
                    semconv.MESSAGING_DESTINATION_NAME: job.name,
                    semconv.MESSAGING_MESSAGE_ID: job.id,
                    semconv.MESSAGING_OPERATION_TYPE: "process",
                    semconv.FLUX_JOB_ATTEMPT: job.attempt,
                },
            )
        )
        if result.error is not None and result.error.type == "Overloaded":
            raise Overloaded(result.error.message)
        error = None
        if result.error is not None:
            error = {"type": result.error.type, "message": result.error.message}
        elif result.status >= 400:
            error = {"type": str(result.status), "message": f"{job.name} answered {result.status}."}
        return JobResult(ok=error is None, request_id=result.request_id, error=error)

    def replayer(self) -> Replayer:
        """What replays executions, its guests ended with this."""
        config, redaction = self.config, self.redaction
        launchers: dict[str, Launch] = {
            "typescript": DenoLauncher,
            "python": lambda memory_mb: PythonLauncher(),
        }
        guests = Guests(
            launchers,
            slots_dir=config.flux_dir / "guests",
            boot_seed=partial(_boot_seed, config.master_key),
            project=config.root,
        )
        self._stack.push_async_callback(guests.close)

        def tell(name: str, value: str) -> None:
            redaction.add_secret(name, self._secrets.version(name, value), value)

        versions = {runtime: launch(config.memory_mb).versions() for runtime, launch in launchers.items()}
        records = Records(self.store, Sealer(config.master_key), versions)
        return Replayer(records, guests, self.executor, tell=tell, clean=redaction.secrets.remove_text)

    async def ready(self) -> dict[str, Any]:
        """Whether Postgres answers, the sidecar runs and was heard of lately, and the spool is in its place.

        Beside them, for doctor: what was dropped and refused so far, how often the spool was made anew.
        """
        postgres = await self._watch.seen() is not None
        spool = self.recorder.spool
        whole = spool.whole()
        drain = self.sidecar.works(drain_state.read(spool.folder))
        return {
            "ok": postgres and drain and whole,
            "postgres": postgres,
            "drain": drain,
            "spool": whole,
            "dropped": self.recorder.dropped,
            "refused": sum(spool.refusals.values()),
            "restored": spool.restored,
            "missing": spool.missing,
        }

    async def _metrics(self, accept: str) -> tuple[bytes, str]:
        return await self.metrics.page(accept)

    async def run_jobs(self, stop: asyncio.Event) -> None:
        """Run queued jobs until `stop`."""
        await self._worker.run(stop)

    async def close(self) -> None:
        """Let guests finish, close the spool, let the sidecar drain it, let go of Postgres."""
        await self._stack.aclose()


def _response_value(body: bytes) -> bytes:
    try:
        json.loads(body)
    except ValueError:
        return json.dumps(body.decode("utf-8", "replace")).encode()
    return body


async def _over(task: asyncio.Task[None]) -> None:
    """Whether a spare came up shows when the first function is loaded; here it only has to be over."""
    await asyncio.gather(task, return_exceptions=True)


def _boot_seed(master_key: bytes | None, guest: str) -> bytes:
    """What top-level code of a guest draws its random numbers from: had again by whoever holds the key."""
    return hmac.digest(master_key or b"", b"flux guest boot\0" + guest.encode(), "sha256")


def _stray_line(guest: str, function: str | None, line: str) -> None:
    guests.info("%s: %s", function or guest, line)


def bounds_of(config: Config) -> dict[str, int | bool]:
    """What guests are started with besides code and ctx.env."""
    return {"memory_mb": config.memory_mb, "concurrency": config.concurrency, "dev": config.dev}


def server_file(flux_dir: Path) -> Path:
    """Where a serving process says its address: `.flux/server.json`."""
    return flux_dir / "server.json"


def withdraw(config: Config) -> None:
    """Take the address back, if it is this process's."""
    path = server_file(config.flux_dir)
    with contextlib.suppress(OSError, ValueError):
        if json.loads(path.read_text())["pid"] == os.getpid():
            path.unlink()


def announce(config: Config) -> None:
    """Write the address for CLI commands (`flux invoke`)."""
    path = server_file(config.flux_dir)
    temporary = path.with_suffix(f".{os.getpid()}")
    temporary.write_text(
        json.dumps({"pid": os.getpid(), "host": config.host, "port": config.port, "dev": config.dev})
    )
    temporary.replace(path)
