"""What a recorded hello costs in the server process: CPU microseconds from a request's bytes to its answer's.

    PYTHONPATH=. python benchmarks/path.py [--profile] [--record none]

The server's own connection, gateway, executor, recorder and spool, with a real guest, in this process. No
sockets to clients and no Postgres: so it says what code costs, and load from elsewhere only adds. The least
of the rounds is printed.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import pstats
import secrets
import shutil
import socket
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import uvloop
from hypercorn.asyncio.worker_context import WorkerContext
from hypercorn.config import Config as HypercornConfig
from opentelemetry.context import Context
from project import write_project

from flux.config import Config
from flux.gateway.connection import Connection, Patience
from flux.gateway.gateway import Gateway
from flux.gateway.plain import Dates
from flux.host.live import Live
from flux.host.recording import Recording
from flux.recorder.execution import Execution
from flux.recorder.recorder import Recorder
from flux.recorder.redaction import Redaction
from flux.recorder.seal import Sealer
from flux.recorder.telemetry import setup
from flux.runtime.deno import DenoLauncher
from flux.runtime.executor import Executor
from flux.runtime.pool import SubprocessEngine
from flux.runtime.registry import Registry
from flux.runtime.request import Request
from flux.spool.writer import Spool

CONNECTIONS, ROUNDS, REQUESTS = 16, 15, 1600
HELLO = b"GET /hello?name=Ada HTTP/1.1\r\nhost: 127.0.0.1:4000\r\n\r\n"


class NoSession:
    """Stands in for the data engine's session."""

    async def close(self) -> None:
        return None


class Client:
    """A client that asks again as soon as it is answered. Stands in for a connection's reader and writer."""

    def __init__(self, left: list[int]) -> None:
        self.reader = asyncio.StreamReader()
        self.transport = SimpleNamespace(get_write_buffer_size=lambda: 0, abort=lambda: None)
        self._left = left
        self._closing = False

    def ask(self) -> None:
        """Send a request, or close where enough were sent."""
        if self._left[0]:
            self._left[0] -= 1
            self.reader.feed_data(HELLO)
        else:
            self.reader.feed_eof()

    def write(self, data: bytes) -> None:
        if not data.startswith(b"HTTP/1.1 200"):
            raise SystemExit(f"not answered: {data[:200]!r}")
        self.ask()

    async def drain(self) -> None:
        return None

    def get_extra_info(self, name: str) -> Any:
        return SimpleNamespace(
            family=socket.AF_INET,
            getpeername=lambda: ("127.0.0.1", 50000),
            getsockname=lambda: ("127.0.0.1", 4000),
        )

    def is_closing(self) -> bool:
        return self._closing

    def write_eof(self) -> None:
        return None

    def close(self) -> None:
        self._closing = True

    async def wait_closed(self) -> None:
        return None


class Server:
    """The serving parts of a Flux process, without sockets and Postgres."""

    def __init__(self, folder: Path, record: str) -> None:
        root = write_project(folder / "project", record)
        shutil.rmtree(root / "functions" / "insert")
        self.config = config = Config(root=root, name="bench")
        redaction = Redaction()
        redaction.add_secret("DATABASE_URL", "1", f"postgresql://flux:{secrets.token_hex(8)}@localhost/app")
        spool = Spool.create(config.spool_dir, secrets.token_hex(16), limit=2**31)
        self.recorder = Recorder(spool, Sealer(secrets.token_bytes(32)), redaction)
        provider = setup(self.recorder, {"service.name": "bench"})
        self.engine = SubprocessEngine(
            DenoLauncher(), slots_dir=folder / "slots", concurrency=1024, env={}, dev=False
        )
        engines: Any = {"typescript": self.engine}
        self.registry = Registry(config, engines, self.recorder.deployed)
        executor = Executor(
            registry=self.registry,
            recorder=self.recorder,
            tracer=provider.get_tracer("flux"),
            hosts=self._host,
            dev=False,
        )
        self.gateway = Gateway(config, self.registry, executor, _nobody)
        self.settings = HypercornConfig()
        self.context = WorkerContext(None)

    async def round(self, requests: int) -> float:
        """CPU microseconds a request, of so many over all connections."""
        left = [requests]
        clients = [Client(left) for _ in range(CONNECTIONS)]
        connections = [
            Connection(
                Patience(75, 20, 20), self.gateway, self.gateway.flood, self.settings, self.context,
                2**26, Dates(), client.reader, client,  # type: ignore[arg-type]
            )
            for client in clients
        ]  # fmt: skip
        began = time.process_time()
        for client in clients:
            client.ask()
        await asyncio.gather(*(connection.run() for connection in connections))
        return (time.process_time() - began) / requests * 1e6

    def _host(self, execution: Execution, context: Context, request: Request, deadline: float) -> Recording:
        nothing: Any = None
        live = Live(
            request_id=execution.request_id,
            session=NoSession(),  # type: ignore[arg-type]
            fetch=nothing,
            jobs=nothing,
            secrets=nothing,
            invoke=nothing,
            clock=execution.now,
        )
        return Recording(live, execution, context, clock=execution.now)


async def _nobody(scope: Any, receive: Any, send: Any) -> None:
    raise AssertionError("nobody asks for /_flux here")


async def main(profile: bool, record: str) -> None:
    """Measure and print."""
    folder = Path(tempfile.mkdtemp(prefix="flux-bench-"))
    server = Server(folder, record)
    try:
        await server.registry.reload()
        await server.round(REQUESTS)
        took = [await server.round(REQUESTS) for _ in range(ROUNDS)]
        took.sort()
        print(f"hello, record {record!r}: {took[0]:.1f} µs a request, the middle {took[ROUNDS // 2]:.1f}")
        if profile:
            profiler = cProfile.Profile()
            profiler.enable()
            await server.round(REQUESTS)
            profiler.disable()
            pstats.Stats(profiler).sort_stats("tottime").print_stats(60)
    finally:
        await server.registry.close()
        await server.engine.close()
        server.recorder.close()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--profile", action="store_true")
    arguments.add_argument("--record", choices=("all", "errors", "none"), default="all")
    given = arguments.parse_args()
    uvloop.run(main(given.profile, given.record))
