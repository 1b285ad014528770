"""What an invocation costs in the host process: CPU microseconds, without and with host calls, per language.

    PYTHONPATH=. python benchmarks/guests.py [--profile]

A trivial Host answers at once; 16 invocations are in flight. The guest's own CPU is not counted: it is
another process. The least of the rounds is printed: load from elsewhere only adds.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import pstats
import tempfile
import time
from pathlib import Path

import uvloop

from flux.record.call import HostCall, Outcome
from flux.runtime.deno import DenoLauncher
from flux.runtime.deployment import Deployment
from flux.runtime.deployment_guest import DeploymentGuest
from flux.runtime.engine import Invocation
from flux.runtime.pool import Launcher, SubprocessEngine
from flux.runtime.python import PythonLauncher

IN_FLIGHT, ROUNDS, INVOCATIONS, CALLS = 16, 7, 2000, 3

TYPESCRIPT = """
export default async ({ input, ctx }) => {
  for (let i = 0; i < input.calls; i++) await ctx.secrets.get("KEY");
  return { ok: true };
};
"""
PYTHON = """
async def handler(input, ctx):
    for i in range(input["calls"]):
        await ctx.secrets.get("KEY")
    return {"ok": True}
"""
REQUEST = {
    "method": "POST",
    "url": "http://localhost:8000/hello?name=ann",
    "path": "/hello",
    "params": {},
    "query": {"name": ["ann"]},
    "headers": [
        ["host", "localhost:8000"],
        ["user-agent", "python-httpx/0.28"],
        ["accept", "*/*"],
        ["content-type", "application/json"],
        ["content-length", "14"],
    ],
}


class Trivial:
    """A Host that answers at once."""

    async def perform(self, call: HostCall) -> Outcome:
        return Outcome(result=b'{"value":"x"}', now_ns=1_700_000_000_000_000_000)

    def sent(self, guest: str, invocation: int) -> None:
        pass

    def begin(self, call: HostCall) -> None:
        pass

    def give_up(self, n: int) -> None:
        pass

    def notify(self, call: HostCall) -> None:
        return None

    async def close(self) -> None:
        return None


async def load(guest: DeploymentGuest, calls: int) -> None:
    """All invocations of a round."""
    body = b'{"calls": %d}' % calls
    left = iter(range(INVOCATIONS))

    async def client() -> None:
        for _ in left:
            await guest.invoke(
                Invocation(
                    "a" * 32, "b" * 32, "c" * 16, b"s" * 32, 1_700_000_000_000_000_000, 30.0, REQUEST, body
                ),
                Trivial(),
            )

    await asyncio.gather(*(client() for _ in range(IN_FLIGHT)))


async def main(profile: bool) -> None:
    """Measure and print."""
    languages: list[tuple[Launcher, str, str]] = [
        (DenoLauncher(), "index.ts", TYPESCRIPT),
        (PythonLauncher(), "main.py", PYTHON),
    ]
    for launcher, entry, source in languages:
        with tempfile.TemporaryDirectory() as folder:
            engine = SubprocessEngine(
                launcher, slots_dir=Path(folder) / "slots", concurrency=64, env={}, dev=False
            )
            files = {f"f/{entry}": source.encode()}
            deployment = Deployment(
                "0" * 64, "f", launcher.name, f"f/{entry}", files, {}, {"timeout_ms": 30000}, {}
            )
            try:
                await measure(await engine.load(deployment), launcher.name, profile)
            finally:
                await engine.close(0.1)


async def measure(guest: DeploymentGuest, name: str, profile: bool) -> None:
    """One language's numbers."""
    took: dict[int, list[float]] = {0: [], CALLS: []}
    for calls in took:
        await load(guest, calls)
    for _ in range(ROUNDS):
        for calls, times in took.items():
            began = time.process_time()
            await load(guest, calls)
            times.append((time.process_time() - began) / INVOCATIONS * 1e6)
    bare, full = min(took[0]), min(took[CALLS])
    more = (full - bare) / CALLS
    print(f"{name:7} {bare:6.1f} µs an invocation, {more:5.1f} µs a call more ({CALLS} calls: {full:.1f})")
    if profile:
        for calls in took:
            profiler = cProfile.Profile()
            profiler.enable()
            await load(guest, calls)
            profiler.disable()
            print(f"{name}, {calls} calls")
            pstats.Stats(profiler).sort_stats("tottime").print_stats(22)


if __name__ == "__main__":
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--profile", action="store_true")
    uvloop.run(main(arguments.parse_args().profile))
