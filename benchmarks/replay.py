"""How fast recorded executions are replayed: one process per recorded guest, and a fresh process for each.

    python -m benchmarks.replay [--count 400]

Records executions of a TypeScript and a Python function through one application (8 in flight, three host
calls each), then replays them both ways. Prints replays per second, and the replaying process's own time.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from flux.app.application import Application
from flux.config import load
from flux.runtime.request import Request

TYPESCRIPT = """import { defineFunction } from "@flux/functions";
export default defineFunction({ name: "ts", handler: async ({ input, ctx }) => {
  const [row] = await ctx.db.sql("select $1::int + 1 as next", [input.n]);
  await Promise.all([ctx.sleep(1), ctx.sleep(2)]);
  console.log("done", row.next);
  return { next: row.next, random: Math.random(), now: Date.now() };
} });
"""
PYTHON = """import asyncio, random, time

async def handler(input, ctx):
    row = await ctx.db.fetchrow("select $1::int + 1 as next", input["n"])
    await asyncio.gather(asyncio.sleep(0.001), asyncio.sleep(0.002))
    print("done", row["next"])
    return {"next": row["next"], "random": random.random(), "now": time.time()}
"""
FUNCTIONS = {"ts": ("index.ts", TYPESCRIPT), "py": ("main.py", PYTHON)}


async def record(app: Application, count: int) -> None:
    """Run each function `count` times, 8 at once."""
    gate = asyncio.Semaphore(8)

    async def one(function: str, n: int) -> None:
        async with gate:
            request = Request(trigger="invoke", function=function, body=b'{"n": %d}' % n)
            result = await app.executor.execute(request)
            assert result.status == 200, result.body

    await asyncio.gather(*(one(function, n) for n in range(count) for function in FUNCTIONS))


async def main(count: int) -> None:
    """Record, replay, print."""
    root = Path(tempfile.mkdtemp(prefix="flux-bench-", dir="/tmp"))
    root.chmod(0o755)
    for name, (file, text) in FUNCTIONS.items():
        (root / "functions" / name).mkdir(parents=True)
        (root / "functions" / name / file).write_text(text)
    (root / "flux.toml").write_text('name = "bench"\n')
    config = load(root, dev=True)
    since = datetime.now(UTC)
    app = await Application.open(config, jobs=False)
    try:
        await app.registry.reload()
        await record(app, count)
        until = datetime.now(UTC)
    finally:
        await app.close()
    app = await Application.open(config, jobs=False)
    try:
        replayer = app.replayer()
        for function in FUNCTIONS:
            began, cpu = time.perf_counter(), time.process_time()
            found = await replayer.window(since, until, function=function)
            took, used = time.perf_counter() - began, time.process_time() - cpu
            print(
                f"{function}: one process per recorded guest: {found.replayed / took:.0f}/s, "
                f"{used / max(found.replayed, 1) * 1000:.1f} ms of the replaying process each; "
                f"{found.identical} of {found.replayed} identical, {found.refused} refused"
            )
            ids = [each.replay_of for each in found.results][:60]
            began = time.perf_counter()
            lanes = iter(ids)

            async def lane(waiting: Iterator[str] = lanes) -> None:
                for request_id in waiting:
                    assert (await replayer.one(request_id)).divergence is None

            await asyncio.gather(lane(), lane())
            took = time.perf_counter() - began
            print(f"{function}: a fresh process for each: {len(ids) / took:.0f}/s")
    finally:
        await app.close()
        shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=400)
    asyncio.run(main(parser.parse_args().count))
