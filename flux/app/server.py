"""`flux serve` and `flux dev`: the application behind Hypercorn, from the port to the last record."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from hypercorn.config import Config as HypercornConfig

from flux.address import base_url
from flux.app import memory, port
from flux.app.application import Application, announce, withdraw
from flux.app.changes import Changes, written
from flux.app.limit import Limit
from flux.app.schema import FOLDER, push_files
from flux.config import Config
from flux.gateway.connection import Patience
from flux.gateway.listener import listen, room_for
from flux.runtime.registry import Change
from flux.runtime.request import Request, Result

log = logging.getLogger("flux.app")


YOUNG = 10_000
"""New objects before the collector looks among them for circles. Requests leave none. By Python's own 700 it
would look at those under way several times a turn of the loop.
"""


class Audience(Protocol):
    """Who is told what happens; the CLI prints it."""

    def started(self, app: Application, changes: list[Change], schema: list[str], url: str) -> None:
        """The port answers."""
        ...

    def reloaded(self, app: Application, changes: list[Change]) -> None:
        """functions/ was read again."""
        ...

    def schema(self, applied: list[str], drifted: list[str]) -> None:
        """Schema files were looked at."""
        ...

    def trouble(self, message: str, hint: str | None) -> None:
        """Something went wrong that doesn't end the server."""
        ...

    def finished(self, request: Request, result: Result) -> None:
        """An execution is over and recorded."""
        ...

    def left(self, request: Request, request_id: str, warnings: Sequence[str]) -> None:
        """What an execution left behind, known only after its answer."""
        ...

    def stopping(self) -> None:
        """A signal came."""
        ...


async def serve(config: Config, audience: Audience) -> None:
    """Serve until SIGINT or SIGTERM, then drain and end.

    Raises:
        FluxError: it could not start.
    """
    memory.return_large_blocks()
    sock = port.bind(config.host, config.port)
    config = replace(config, port=int(sock.getsockname()[1]))
    stop = asyncio.Event()
    limit = Limit(
        config.stop_timeout_ms / 1000,
        "The server could not end in time (stop_timeout_ms). What Postgres has not got stays in the spool, "
        "for the next start.",
    )
    try:
        app = await Application.open(config)
    except BaseException:
        sock.close()
        raise
    try:
        app.executor.finished = audience.finished
        app.executor.left = audience.left
        for problem in app.problems:
            audience.trouble(problem.message, problem.hint)
        room = room_for(config.max_connections)
        if room < config.max_connections:
            audience.trouble(
                f"The limit of open files leaves room for {room} connections at once; max_connections is "
                f"{config.max_connections}.",
                "Raise the limit (`ulimit -n`; systemd: LimitNOFILE), or lower max_connections in flux.toml.",
            )
        changed = Changes(config.root, stop)
        if config.dev:
            await changed.begin()  # before anything is read, lest a change in between be missed
        schema = await _apply_schema(app, audience) if config.dev else []
        changes = await app.registry.reload()
        gc.freeze()  # what is there by now stays: looking through it again and again finds nothing
        gc.set_threshold(YOUNG)
        loop = asyncio.get_running_loop()
        for name in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(name, _stop, stop, audience, limit)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(app.run_jobs(stop))
            if config.dev:
                tasks.create_task(_watch(app, audience, changed))
            server = tasks.create_task(
                listen(
                    app.gateway,
                    app.gateway.flood,
                    _settings(config),
                    sock,
                    stop,
                    patience=_patience(config),
                    connections=room,
                    body_limit=config.body_limit,
                )
            )
            announce(app.config)
            audience.started(app, changes, schema, base_url(config.host, config.port))
            await server
            stop.set()
    finally:
        stop.set()
        withdraw(config)
        await app.close()
        limit.lift()


def _stop(stop: asyncio.Event, audience: Audience, limit: Limit) -> None:
    if not stop.is_set():
        audience.stopping()
        limit.set()
    stop.set()


def _settings(config: Config) -> HypercornConfig:
    settings = HypercornConfig()
    settings.backlog = 1024
    settings.include_server_header = settings.include_date_header = False
    settings.keep_alive_max_requests = 2**31
    settings.graceful_timeout = config.stop_timeout_ms / 2000
    settings.h11_max_incomplete_size = 64 * 1024
    settings.loglevel = "WARNING"
    return settings


def _patience(config: Config) -> Patience:
    return Patience(
        idle=config.keep_alive_ms / 1000,
        read=config.read_timeout_ms / 1000,
        write=config.write_timeout_ms / 1000,
    )


async def _apply_schema(app: Application, audience: Audience) -> list[str]:
    def slow(message: str) -> None:
        audience.trouble(message, "Nothing is served before it is over. Ctrl-C ends it and undoes its file.")

    report = await push_files(app.config, app.store, slow=slow)
    if report.applied:
        app.database.schema_changed()
    audience.schema(report.applied, report.drifted)
    return report.applied


async def _watch(app: Application, audience: Audience, changed: Changes) -> None:
    config = app.config
    schema = config.root / FOLDER
    async for paths in changed:
        try:
            if any(schema in (path, path.parent) for path in paths):
                await written(schema)
                await _apply_schema(app, audience)
            if any(path.name in ("flux.toml", ".env") and path.parent == config.root for path in paths):
                audience.trouble("flux.toml or .env has changed.", "Restart `flux dev` to use it.")
            if any(config.functions_dir in path.parents or path == config.functions_dir for path in paths):
                audience.reloaded(app, await app.registry.reload())
        except Exception as error:
            message = getattr(error, "message", None) or f"{type(error).__name__}: {error}"
            audience.trouble(message, getattr(error, "hint", None))
