"""Who is measured beside whom: each does the same work, on a Postgres of its own, in processes that are
started for one run and ended after it, so that nobody waits on an idle neighbour.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from cluster import Cluster
from project import write_project

HERE = Path(__file__).parent
COMPETITORS = Path(os.environ.get("FLUX_BENCH_PYTHON", HERE / ".venv/bin/python"))
"""Python of the environment that benchmarks/requirements.txt pins."""
PATIENCE = 60.0
"""Seconds that a server may take to start or to stop."""


class NotRun(Exception):
    """A contestant could not be started; the message says why."""


@dataclass
class Running:
    """A contestant's processes.

    Attributes:
        cluster: its Postgres. ports: one for each of its server processes. roots: role -> process ids.
        spool: where its spools are, or None. collector: the port of its collector, or None.
        servers: the processes behind the ports.
    """

    cluster: Cluster
    ports: list[int] = field(default_factory=list)
    roots: dict[str, list[int]] = field(default_factory=dict)
    spool: Path | None = None
    collector: int | None = None
    servers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def end(self) -> None:
        """End the servers, so that what they still hold reaches where it is kept. May be called twice."""
        _stop(self.servers)


@dataclass(frozen=True)
class Contestant:
    """One way of doing the work.

    Attributes:
        name: in tables. kind: how it is started. record: of a Flux contestant, what its functions record.
        reset: False leaves out the pool's reset of a connection at each release. kept: a query that counts
        the requests it has a record of, or None; a traced one's are the collector's. workloads: what it
        takes part in. workers: most server processes it is measured with.
    """

    name: str
    kind: Literal["raw", "bare", "traced", "dbos", "flux"]
    record: str = "all"
    reset: bool = True
    kept: str | None = None
    workloads: tuple[str, ...] = ("hello", "insert")
    workers: int = 2

    @contextmanager
    def running(self, folder: Path, workers: int = 1) -> Iterator[Running]:
        """Its processes, answering; they are ended at the end.

        Raises:
            NotRun: it can't be started.
        """
        place = folder / re.sub(r"\W+", "-", self.name)
        others: list[subprocess.Popen[bytes]] = []
        with Cluster(place) as cluster:
            running = Running(cluster, roots={"Postgres": [cluster.postmaster]})
            try:
                self._start(running, place, workers, others)
                yield running
            finally:
                running.end()
                _stop(others)

    def counted(self, running: Running) -> int | None:
        """Requests it has a record of, of all its runs; a traced one's since this was last asked. None
        where it keeps none.
        """
        if running.collector is not None:
            with urllib.request.urlopen(f"http://127.0.0.1:{running.collector}/", timeout=120) as answer:
                return int(re.search(rb'"server": (\d+)', answer.read())[1])  # type: ignore[index]
        return None if self.kept is None else int(running.cluster.value("bench", self.kept))

    def _start(
        self, running: Running, place: Path, workers: int, others: list[subprocess.Popen[bytes]]
    ) -> None:
        database = running.cluster.database("bench", flux=self.kind == "flux")
        env = {**os.environ, "NO_COLOR": "1"}
        cwd = place
        if self.kind in ("traced", "dbos") and not COMPETITORS.exists():
            raise NotRun("its environment is not installed (benchmarks/requirements.txt)")
        if self.kind == "flux":
            cwd = write_project(place / "project", self.record)
            running.spool = cwd / ".flux/spool"
            env |= {"DATABASE_URL": database, "FLUX_MASTER_KEY": "5a" * 32}
        if self.kind == "traced":
            running.collector = free_port()
            process = _launch([COMPETITORS, HERE / "collector.py", running.collector], cwd, env, others)
            running.roots["collector"] = [process.pid]
            _await(process, running.collector, place)
            env |= {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{running.collector}"}
        for number in range(workers):
            port = free_port()
            process = _launch(self._command(port, database, number), cwd, env, running.servers)
            _await(process, port, cwd)
            running.ports.append(port)
            running.roots.setdefault("server", []).append(process.pid)

    def _command(self, port: int, database: str, number: int) -> list[object]:
        match self.kind:
            case "raw":
                return [sys.executable, HERE / "raw.py", port, database]
            case "bare":
                more = [] if self.reset else ["--no-reset"]
                return [sys.executable, HERE / "bare.py", port, database, *more]
            case "traced":
                return [COMPETITORS, HERE / "traced.py", port, database]
            case "dbos":
                return [COMPETITORS, HERE / "durable.py", port, database, "--worker", number]
        return [sys.executable, "-m", "flux", "serve", "--port", port]


RAW = Contestant("raw ASGI on Hypercorn", "raw")
BARE = Contestant("bare Quart", "bare")
UNRESET = Contestant("bare Quart, pool without reset", "bare", reset=False, workloads=("insert",), workers=1)
TRACED = Contestant("Quart + OpenTelemetry", "traced", workers=1)
DBOS = Contestant("DBOS", "dbos", kept="SELECT count(*) FROM dbos.workflow_status WHERE status = 'SUCCESS'")
EXECUTIONS = "SELECT count(*) FROM flux.executions"
UNRECORDED = Contestant("Flux, record none", "flux", record="none", kept=EXECUTIONS, workers=1)
FLUX = Contestant("Flux, recorded", "flux", kept=EXECUTIONS)
ALL = (RAW, BARE, UNRESET, TRACED, DBOS, UNRECORDED, FLUX)


def free_port() -> int:
    """One that nobody listens on now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def _launch(
    command: list[object], cwd: Path, env: dict[str, str], processes: list[subprocess.Popen[bytes]]
) -> subprocess.Popen[bytes]:
    with (cwd / "output.log").open("ab") as output:
        process = subprocess.Popen(
            [str(part) for part in command], cwd=cwd, env=env, stdout=output, stderr=subprocess.STDOUT
        )
    processes.append(process)
    return process


def _await(process: subprocess.Popen[bytes], port: int, cwd: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if process.poll() is not None:
            said = (cwd / "output.log").read_text(errors="replace").strip().splitlines()
            raise NotRun(f"it ended at once: {said[-1] if said else process.returncode}")
        with socket.socket() as sock:
            if sock.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise NotRun(f"it did not listen within {PATIENCE:.0f} s")


def _stop(processes: list[subprocess.Popen[bytes]]) -> None:
    """End them, servers before their collector; one that doesn't end is killed."""
    for process in reversed(processes):
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
