"""How soon after its deadline a function that never returns is dead, beside the 50 ms it may take.

    python benchmarks/kill.py [--runs 20]

An endless loop runs in a real Deno and a real Python guest, alone and with another invocation in flight; each
run has a process of its own. "answered" is when the caller has its DeadlineExceeded, "killed" when the signal
was sent, "gone" when the kernel has ended the process. Milliseconds after the deadline.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import statistics
import tempfile
import threading
import time
from pathlib import Path

import uvloop
from standing import Findings, Standing, arguments

from flux.errors import DeadlineExceeded, GuestDied
from flux.record.call import HostCall, Outcome
from flux.runtime.deno import DenoLauncher
from flux.runtime.deployment import Deployment
from flux.runtime.deployment_guest import DeploymentGuest
from flux.runtime.engine import Invocation
from flux.runtime.pool import Launcher, SubprocessEngine
from flux.runtime.python import PythonLauncher

TIMEOUT, ALLOWED_MS = 0.15, 50.0

TYPESCRIPT = """
export default async ({ input, ctx }) => {
  if (input === "hold") await ctx.sleep(60_000);
  if (input === "loop") for (;;) {}
  return input;
};
"""
PYTHON = """
async def handler(input, ctx):
    if input == "hold":
        await ctx.sleep(60_000)
    while input == "loop":
        pass
    return input
"""
Times = dict[str, list[float]]


class Holding:
    """A Host that never answers."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()

    async def perform(self, call: HostCall) -> Outcome:
        self.asked.set()
        await asyncio.Event().wait()
        return Outcome(result=b"{}")

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


def invocation(given: str, timeout: float) -> Invocation:
    """An invocation whose input is `given`."""
    return Invocation(
        "a" * 32, "b" * 32, "c" * 16, b"s" * 32, 1_700_000_000_000_000_000, timeout, {}, given.encode()
    )


def ended(pid: int, started: threading.Event) -> float:
    """Wait until the process has ended, in a thread; when that was."""
    descriptor = os.pidfd_open(pid)
    try:
        started.set()
        select.select([descriptor], [], [])
        return time.monotonic()
    finally:
        os.close(descriptor)


async def kill_one(guest: DeploymentGuest, beside: bool, times: Times) -> None:
    """One runaway."""
    await guest.invoke(invocation('"warm"', 10), Holding())
    process = guest.processes[0]
    other: asyncio.Task[object] | None = None
    if beside:
        host = Holding()
        other = asyncio.create_task(guest.invoke(invocation('"hold"', 60), host))
        await host.asked.wait()
    killed: list[float] = []
    process.on_death(lambda: killed.append(time.monotonic()))
    watching = threading.Event()
    gone = asyncio.create_task(asyncio.to_thread(ended, process.pid, watching))
    await asyncio.to_thread(watching.wait)
    deadline = time.monotonic() + TIMEOUT
    with contextlib.suppress(DeadlineExceeded):
        await guest.invoke(invocation('"loop"', TIMEOUT), Holding())
    times["answered"].append(time.monotonic() - deadline)
    times["gone"].append(await gone - deadline)
    times["killed"].append(killed[0] - deadline)
    if other is not None:
        with contextlib.suppress(GuestDied):
            await other


async def main(runs: int) -> Findings:
    """Measure and print."""
    gone: list[float] = []
    middles = []
    languages: list[tuple[Launcher, str, str]] = [
        (DenoLauncher(), "index.ts", TYPESCRIPT),
        (PythonLauncher(), "main.py", PYTHON),
    ]
    for launcher, entry, source in languages:
        files = {f"f/{entry}": source.encode()}
        deployment = Deployment(
            "0" * 64, "f", launcher.name, f"f/{entry}", files, {}, {"timeout_ms": 1000}, {}
        )
        for beside in (False, True):
            times: Times = {"answered": [], "killed": [], "gone": []}
            with tempfile.TemporaryDirectory() as folder:
                engine = SubprocessEngine(
                    launcher, slots_dir=Path(folder) / "slots", concurrency=64, env={}, dev=False
                )
                try:
                    guest = await engine.load(deployment)
                    for _ in range(runs):
                        await kill_one(guest, beside, times)
                finally:
                    await engine.close(0.1)
            report(f"{launcher.name}, {'another in flight' if beside else 'alone'}", times)
            gone += [value * 1000 for value in times["gone"]]
            middles.append(statistics.median(times["gone"]) * 1000)
    late = sum(value > ALLOWED_MS for value in gone)
    measured = (
        f"p50 {min(middles):.0f}–{max(middles):.0f}, of all {len(gone)}: p99"
        f" {sorted(gone)[int(len(gone) * 0.99)]:.0f}, max {max(gone):.0f} ms; {late} later"
    )
    judged = "**not reached in every run**" if late else "reached"
    what = "a runaway function (TypeScript, Python) is gone after its deadline"
    return Findings([Standing(what, "–", f"< {ALLOWED_MS:.0f} ms", measured, judged)])


def report(name: str, times: Times) -> None:
    """One line."""
    shown = []
    for what, values in times.items():
        ordered = sorted(value * 1000 for value in values)
        shown.append(
            f"{what} p50 {ordered[len(ordered) // 2]:5.1f} p99 {ordered[int(len(ordered) * 0.99)]:5.1f}"
        )
    late = sum(value * 1000 > ALLOWED_MS for value in times["gone"])
    print(f"{name:26} {', '.join(shown)} ms; beyond {ALLOWED_MS:.0f} ms: {late} of {len(times['gone'])}")


if __name__ == "__main__":
    options = arguments(__doc__)
    options.add_argument("--runs", type=int, default=20, help="of each of the four cases")
    given = options.parse_args()
    uvloop.run(main(4 if given.quick else given.runs)).hand_over(given.json)
