"""The pool: spares, slots, deadlines in a real Deno, replacement, refusal and draining."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path

import pytest

from flux.errors import DeadlineExceeded, FunctionError, GuestDied, Overloaded
from flux.record.call import Outcome
from flux.runtime import pool
from flux.runtime.deno import DenoLauncher
from flux.runtime.deployment_guest import DeploymentGuest
from flux.runtime.spawner import Order
from tests.integration.runtime.local_guest import (
    ScriptedHost,
    answer,
    deployment,
    engine,
    result,
    run,
)
from tests.integration.runtime.scripted import order

DEEDS = """
let served = 0;
export default async ({ input, ctx }: any) => {
  served++;
  if (input === "block") for (;;) {}
  if (input === "busy") { let n = 0; for (let i = 0; i < 1.5e9; i++) n += i; return n > 0; }
  if (input === "stuck") await new Promise(() => {});
  if (input === "hold") await ctx.sleep(1);
  if (input === "eat") { const all: unknown[] = []; for (;;) all.push(new Array(1e6).fill(Math.random())); }
  return served;
};
"""


def held() -> tuple[ScriptedHost, asyncio.Event]:
    """A host whose answers wait for the event."""
    release = asyncio.Event()

    async def wait() -> Outcome:
        await release.wait()
        return result({})

    return ScriptedHost(lambda call, args: wait()), release


async def until_asked(host: ScriptedHost) -> None:
    while not host.calls:
        await asyncio.sleep(0)


async def test_versions_name_the_engine_and_the_guest_without_starting_one(tmp_path: Path) -> None:
    async with engine(tmp_path) as deno:
        assert {"deno", "v8", "typescript", "guest", "platform"} <= deno.versions().keys()
        assert not (tmp_path / "slots").exists()


async def test_an_endless_loop_is_killed_at_its_deadline_and_the_next_invocation_works(
    tmp_path: Path,
) -> None:
    async with engine(tmp_path) as deno:
        guest = await deno.load(deployment(DEEDS))
        assert await run(guest) == 1
        host, _ = held()
        other = asyncio.create_task(run(guest, "hold", host))
        await until_asked(host)
        process = guest.processes[0]
        died: list[float] = []
        process.on_death(lambda: died.append(time.monotonic()))
        began = time.monotonic()
        with pytest.raises(DeadlineExceeded) as caught:
            await run(guest, "block", timeout=0.3)
        assert (caught.value.guest, caught.value.invocation) == (process.name, 3)
        with pytest.raises(GuestDied, match="event loop was blocked"):
            await other
        assert died[0] - began < 0.3 + 0.25
        assert await run(guest) == 1
        assert guest.processes[0].name != process.name


async def test_a_stuck_invocation_retires_its_process_and_spares_the_others(tmp_path: Path) -> None:
    async with engine(tmp_path) as deno:
        guest = await deno.load(deployment(DEEDS))
        host, release = held()
        other = asyncio.create_task(run(guest, "hold", host))
        await until_asked(host)
        first = guest.processes[0]
        with pytest.raises(DeadlineExceeded):
            await run(guest, "stuck", timeout=0.1)
        assert await run(guest) == 1
        assert first.alive
        release.set()
        assert await other == 2
        await first.gone()
        assert first not in guest.processes


async def test_invocations_go_elsewhere_while_a_process_computes(tmp_path: Path) -> None:
    async with engine(tmp_path) as deno:
        guest = await deno.load(deployment(DEEDS))
        await run(guest)
        busy = asyncio.create_task(run(guest, "busy", timeout=60))
        await asyncio.sleep(0.15)
        waiting = [asyncio.create_task(run(guest, timeout=60)) for _ in range(2)]
        await asyncio.sleep(0.15)
        assert await run(guest, timeout=60) == 1
        assert not busy.done()
        assert await busy is True
        assert len(await asyncio.gather(*waiting)) == 2


async def test_a_guest_out_of_memory_dies_alone(tmp_path: Path) -> None:
    async with engine(tmp_path, DenoLauncher(memory_mb=64)) as deno:
        guest = await deno.load(deployment(DEEDS))
        with pytest.raises(GuestDied, match="ran out of memory"):
            await run(guest, "eat")
        assert await run(guest) == 1


async def test_more_than_may_be_in_flight_is_refused(tmp_path: Path) -> None:
    async with engine(tmp_path, concurrency=2) as deno:
        guest = await deno.load(deployment(DEEDS))
        host, release = held()
        two = [asyncio.create_task(run(guest, "hold", host)) for _ in range(2)]
        await until_asked(host)
        with pytest.raises(Overloaded):
            await run(guest)
        release.set()
        await asyncio.gather(*two)
        assert await run(guest) == 3


async def test_several_processes_share_the_load(tmp_path: Path) -> None:
    async with engine(tmp_path, processes_per_deployment=2) as deno:
        guest = await deno.load(deployment(DEEDS))
        host, release = held()
        held_up = [asyncio.create_task(run(guest, "hold", host)) for _ in range(2)]
        while len(guest.processes) < 2:
            await asyncio.sleep(0.01)
        held_up += [asyncio.create_task(run(guest, "hold", host)) for _ in range(2)]
        while len(host.calls) < 4:
            await asyncio.sleep(0.01)
        assert [process.in_flight for process in guest.processes] == [2, 2]
        release.set()
        await asyncio.gather(*held_up)


async def test_a_closed_guest_finishes_what_is_in_flight_and_takes_no_more(tmp_path: Path) -> None:
    async with engine(tmp_path) as deno:
        guest = await deno.load(deployment(DEEDS))
        host, release = held()
        running = asyncio.create_task(run(guest, "hold", host))
        await until_asked(host)
        closing = asyncio.create_task(guest.close(5))
        await asyncio.sleep(0)
        with pytest.raises(GuestDied, match="no longer served"):
            await run(guest)
        release.set()
        assert await running == 1
        await closing
        assert guest.processes == ()


async def test_each_process_has_a_slot_and_slots_go_with_processes(tmp_path: Path) -> None:
    slots = tmp_path / "slots"
    async with engine(tmp_path) as deno:
        guests: list[DeploymentGuest] = [await deno.load(deployment(DEEDS)) for _ in range(2)]
        await deno.warm()
        (own,) = [entry for entry in slots.iterdir() if entry.is_dir() and not entry.is_symlink()]
        assert len([entry for entry in own.iterdir() if (entry / "bundle").is_dir()]) == 3
        name, _, _loaded = guests[0].processes[0].name.rpartition("-")
        assert (own / name / "bundle" / "f" / "index.ts").is_file()
        await guests[0].close()
        while (own / name).exists():
            await asyncio.sleep(0.01)
        assert await run(guests[1]) == 1
    assert [entry for entry in slots.iterdir() if entry.is_dir() and not entry.is_symlink()] == []


async def test_the_next_spare_starts_after_the_code_was_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "QUIET", 1.0)
    async with engine(tmp_path) as deno:
        await deno.warm()
        guest = await deno.load(deployment(DEEDS))
        assert len(list((tmp_path / "slots").glob("deno-*/*/bundle"))) == 1
        assert await run(guest) == 1
        while deno.running < 2:
            await asyncio.sleep(0.01)


async def test_leftovers_of_dead_servers_are_cleared_and_those_of_live_ones_kept(tmp_path: Path) -> None:
    dead = tmp_path / "slots" / "deno-1-abc"
    (dead / "deno-123456" / "bundle").mkdir(parents=True)
    (dead / "lock").touch()
    async with engine(tmp_path) as one:
        await one.warm()
        assert not dead.exists()
        async with engine(tmp_path) as two:
            await two.warm()
            assert await run(await one.load(deployment(DEEDS))) == 1


async def test_files_that_lead_out_of_the_bundle_are_refused(tmp_path: Path) -> None:
    async with engine(tmp_path) as deno:
        with pytest.raises(Exception, match="outside its bundle"):
            await deno.load(deployment(DEEDS, {"../../evil.ts": ""}))
    assert not list(tmp_path.rglob("evil.ts"))
    assert os.listdir(tmp_path) == ["slots"]


async def test_a_project_may_lie_in_a_folder_with_any_name(tmp_path: Path) -> None:
    async with engine(tmp_path / "my app, ü#100%") as deno:
        guest = await deno.load(deployment('import "../lib/x.ts";\n' + DEEDS, {"lib/x.ts": "export {};"}))
        assert await run(guest) == 1
        with pytest.raises(FunctionError) as caught:
            await deno.load(deployment("\nnull.x;\nexport default () => 1;"))
        assert (caught.value.file, caught.value.line) == ("functions/f/index.ts", 2)


async def test_what_top_level_code_saw_follows_from_the_recorded_name(tmp_path: Path) -> None:
    code = "const r = Math.random(), t = Date.now();\nexport default () => [r, t];"
    asked: list[str] = []

    def seed(name: str) -> bytes:
        asked.append(name)
        return b"s" * 32

    seen = []
    for folder in ("one", "two"):
        async with engine(
            tmp_path / folder, boot_seed=seed, clock_ns=lambda: 1_700_000_000_000_000_000
        ) as deno:
            reply = await answer(await deno.load(deployment(code)))
            assert reply.guest == asked[-1]
            assert reply.guest.endswith(f"-{1_700_000_000_000_000:x}")
            seen.append(reply.body)
    assert seen[0] == seen[1]
    assert seen[0].endswith(b",1700000000000]")


class Faltering(DenoLauncher):
    """Its first processes die as they boot."""

    def __init__(self, deaths: int) -> None:
        super().__init__(0)
        self.deaths = deaths

    def order(self, slot: Path, door: str) -> Order:
        self.deaths -= 1
        dies = "import os; os.write(2, b'no threads left\\n'); os.abort()"
        return order(sys.executable, "-S", "-c", dies) if self.deaths >= 0 else super().order(slot, door)


async def test_a_runtime_that_dies_as_it_boots_is_started_again_a_few_times(tmp_path: Path) -> None:
    async with engine(tmp_path, Faltering(pool.BOOTS - 1)) as deno:
        assert await run(await deno.load(deployment(DEEDS))) == 1
    async with engine(tmp_path, Faltering(pool.BOOTS)) as deno:
        with pytest.raises(GuestDied, match="was ended by SIGABRT: no threads left"):
            await deno.load(deployment(DEEDS))
        assert await run(await deno.load(deployment(DEEDS))) == 1
