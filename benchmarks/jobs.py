"""Recorded no-op jobs a second, beside requests a second of the same function over HTTP, in one run.

    python benchmarks/jobs.py [--jobs 5000] [--seconds 5]

Starts an embedded Postgres and a Flux server, loads `hello` over HTTP, then enqueues jobs for it and waits
until the last is done.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import tempfile
import time
from pathlib import Path

import asyncpg
from throughput import _database, _flux, _load, _project

from flux.store import embedded


async def _jobs(database: str, count: int) -> float:
    connection = await asyncpg.connect(database)
    try:
        await connection.execute(
            "INSERT INTO flux.jobs (id, name, payload, max_attempts, run_at, created_at) "
            """SELECT md5(n::text), 'hello', convert_to('{"name":"Ada"}', 'UTF8'), 1, now(), now() """
            "FROM generate_series(1, $1::int) n",
            count,
        )
        began = time.perf_counter()
        await connection.execute("NOTIFY flux_jobs")
        while await connection.fetchval("SELECT count(*) FROM flux.jobs WHERE status <> 'done'"):
            await asyncio.sleep(0.05)
        return time.perf_counter() - began
    finally:
        await connection.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=5000)
    parser.add_argument("--seconds", type=float, default=5)
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="flux-bench-"))
    lease = embedded.acquire(folder)
    process = None
    try:
        database = asyncio.run(_database(lease.connect_args, "jobs"))
        process, port = _flux(_project(folder, "all"), database)
        _load(port, "hello", 1, 16)
        hello = _load(port, "hello", given.seconds, 16)["rps"]
        took = asyncio.run(_jobs(database, given.jobs))
        rate = given.jobs / took
        print(f"hello over HTTP {hello:8.0f}/s\nno-op jobs      {rate:8.0f}/s   {rate / hello:.2f}x")
    finally:
        if process is not None:
            process.terminate()
            process.wait()
        lease.close()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
