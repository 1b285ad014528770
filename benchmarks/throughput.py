"""Requests a second of a fully recorded function beside bare Quart doing the same, in one run on one machine.

    python benchmarks/throughput.py [--seconds 5] [--rounds 3]

Starts an embedded Postgres, a bare Quart server and two Flux servers (recording on, recording off), and
loads them in turn with 16
keep-alive connections. Prints the medians, the ratios, CPU-seconds per 1,000 requests, and how far the
spool lags at the end.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import asyncpg

from flux.store import embedded, migrate

HERE = Path(__file__).parent
HELLO = """import { defineFunction } from "@flux/functions";
export default defineFunction({
  name: "hello",
  handler: async ({ input }) => ({ message: `Hello, ${input.name ?? "world"}!` }),
});
"""
INSERT = """import { defineFunction } from "@flux/functions";
export default defineFunction({
  name: "insert",
  handler: async ({ input, ctx }) => {
    const [row] = await ctx.db.query({ table: "notes", operation: "insert", data: { text: input.text } });
    return { id: row.id };
  },
});
"""
SCHEMA = "CREATE TABLE notes (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, text text NOT NULL)"


def _project(folder: Path, record: str) -> Path:
    root = folder / f"record-{record}"
    for name, source, method in (("hello", HELLO, "GET"), ("insert", INSERT, "POST")):
        (root / "functions" / name).mkdir(parents=True)
        (root / "functions" / name / "index.ts").write_text(source)
        (root / "functions" / name / "flux.json").write_text(json.dumps({"method": method, "record": record}))
    (root / "flux.toml").write_text('name = "bench"\n')
    return root


async def _database(args: dict[str, Any], name: str) -> str:
    connection = await asyncpg.connect(**args)
    await connection.execute(f"CREATE DATABASE {name}")
    await connection.close()
    made = await asyncpg.connect(**{**args, "database": name})
    await migrate.apply(made)
    await made.execute(SCHEMA)
    await made.close()
    return f"postgresql://{args['user']}@/{name}?host={args['host']}"


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def _flux(root: Path, database: str) -> tuple[subprocess.Popen[str], int]:
    env = {**os.environ, "DATABASE_URL": database, "FLUX_MASTER_KEY": "5a" * 32, "NO_COLOR": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "flux", "serve", "--port", "0"],
        cwd=root,
        env=env,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if found := re.search(r"Serving on http://127\.0\.0\.1:(\d+)", line):
            return process, int(found[1])
    raise SystemExit("flux serve did not start")


def _bare(database: str) -> tuple[subprocess.Popen[str], int]:
    port = _free_port()
    process = subprocess.Popen([sys.executable, str(HERE / "bare.py"), str(port), database], text=True)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with socket.socket() as sock:
            if sock.connect_ex(("127.0.0.1", port)) == 0:
                return process, port
        time.sleep(0.05)
    raise SystemExit("the bare server did not start")


def _cpu(pid: int) -> float:
    """CPU seconds of a process and its descendants so far."""
    ticks = os.sysconf("SC_CLK_TCK")
    total, todo = 0.0, [pid]
    while todo:
        one = todo.pop()
        try:
            fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
            children = Path(f"/proc/{one}/task/{one}/children").read_text().split()
        except OSError:
            continue
        total += (int(fields[11]) + int(fields[12])) / ticks
        todo += [int(child) for child in children]
    return total


def _load(port: int, what: str, seconds: float, connections: int) -> dict[str, float]:
    extra = ["--method", "GET", "--path", "/hello?name=Ada"]
    if what == "insert":
        extra = ["--method", "POST", "--path", "/insert", "--body", '{"text":"a note"}']
    done = subprocess.run(
        [
            sys.executable,
            str(HERE / "load.py"),
            "127.0.0.1",
            str(port),
            "--seconds",
            str(seconds),
            "--connections",
            str(connections),
            *extra,
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


async def _lag(database: str, spool: Path) -> float:
    """Seconds until every execution so far is in Postgres."""
    began = time.perf_counter()
    connection = await asyncpg.connect(database)
    try:
        last, since = -1, time.perf_counter()
        while True:
            count = await connection.fetchval("SELECT count(*) FROM flux.executions")
            if count != last:
                last, since = count, time.perf_counter()
            elif time.perf_counter() - since > 0.5:
                return since - began
            await asyncio.sleep(0.05)
    finally:
        await connection.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--what", choices=("hello", "insert"), action="append")
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="flux-bench-"))
    lease = embedded.acquire(folder)
    processes: dict[str, tuple[subprocess.Popen[str], int]] = {}
    try:
        databases = {
            name: asyncio.run(_database(lease.connect_args, name))
            for name in ("bare", "recorded", "unrecorded")
        }
        processes["bare Quart"] = _bare(databases["bare"])
        processes["flux, record none"] = _flux(_project(folder, "none"), databases["unrecorded"])
        processes["flux, recorded"] = _flux(_project(folder, "all"), databases["recorded"])
        for what in given.what or ("hello", "insert"):
            figures: dict[str, list[dict[str, float]]] = {name: [] for name in processes}
            for _ in range(given.rounds):
                for name, (process, port) in processes.items():
                    _load(port, what, 0.5, given.connections)
                    before = _cpu(process.pid)
                    found = _load(port, what, given.seconds, given.connections)
                    found["cpu"] = (_cpu(process.pid) - before) / found["requests"] * 1000
                    figures[name].append(found)
                    if name == "flux, recorded":
                        found["lag"] = asyncio.run(_lag(databases["recorded"], folder))
            base = statistics.median(f["rps"] for f in figures["bare Quart"])
            print(
                f"\n{what}, {given.connections} connections, "
                f"medians of {given.rounds} x {given.seconds:.0f} s"
            )
            print(f"{'':20}{'req/s':>9}{'ratio':>8}{'p50 ms':>9}{'p99 ms':>9}{'CPU s/1000':>12}{'failed':>8}")
            for name, runs in figures.items():
                middle = {
                    key: statistics.median(run[key] for run in runs)
                    for key in ("rps", "p50_ms", "p99_ms", "cpu")
                }
                failed = sum(run["failed"] for run in runs)
                print(
                    f"{name:20}{middle['rps']:9.0f}{middle['rps'] / base:8.2f}{middle['p50_ms']:9.2f}"
                    f"{middle['p99_ms']:9.2f}{middle['cpu']:12.3f}{failed:8.0f}"
                )
            on = statistics.median(f["rps"] for f in figures["flux, recorded"])
            off = statistics.median(f["rps"] for f in figures["flux, record none"])
            lag = max(f["lag"] for f in figures["flux, recorded"])
            print(f"recorded against record none: {on / off:.2f}; drained {lag:.2f} s after the load ended")
    finally:
        for process, _ in processes.values():
            process.terminate()
        for process, _ in processes.values():
            process.wait()
        lease.close()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
