"""Recorded no-op jobs a second, beside requests a second of the same function over HTTP, in one run.

    python benchmarks/jobs.py [--jobs 5000] [--seconds 5] [--rounds 2]

Starts a Flux server on a Postgres of its own; by turns loads `hello` over HTTP, and enqueues jobs for it and
waits until the last is done.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from pathlib import Path

import asyncpg
from contestants import FLUX
from runs import load
from standing import Findings, Standing, arguments, spread, verdict

WANTED = 0.8


async def _jobs(database: str, count: int) -> float:
    """Seconds that so many jobs take from the enqueueing on."""
    connection = await asyncpg.connect(database)
    try:
        await connection.execute(
            "INSERT INTO flux.jobs (id, name, payload, max_attempts, run_at, created_at) SELECT md5("
            "random()::text || n), 'hello', convert_to('{\"name\":\"Ada\"}', 'UTF8'), 1, now(), now() "
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
    parser = arguments(__doc__)
    parser.add_argument("--jobs", type=int, default=5000)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--rounds", type=int, default=2)
    given = parser.parse_args()
    if given.quick:
        given.jobs, given.seconds, given.rounds = 1000, 1, 1
    folder = Path(tempfile.mkdtemp(prefix="flux-bench-"))
    ratios, hello, rates = [], [], []
    try:
        with FLUX.running(folder) as running:
            load(running.ports, "hello", 1, 16)
            for _ in range(given.rounds):
                hello.append(load(running.ports, "hello", given.seconds, 16)["rps"])
                took = asyncio.run(_jobs(running.cluster.url("bench"), given.jobs))
                rates.append(given.jobs / took)
                ratios.append(rates[-1] / hello[-1])
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    base = f"hello over HTTP: {spread(hello, 0, '/s')}"
    measured = f"{spread(ratios)}; {spread(rates, 0, '/s')}"
    found = Standing("recorded no-op jobs", base, f"≥ {WANTED}x", measured, verdict(ratios, least=WANTED))
    Findings([found]).hand_over(given.json)


if __name__ == "__main__":
    main()
