"""The same seed, clock and replies give the same output and the same calls, whatever else is going on."""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from flux.errors import DeadlineExceeded
from flux.record.call import HostCall, Outcome
from flux.runtime.confine import addresses
from flux.runtime.deployment_guest import DeploymentGuest
from tests.integration.runtime.python_guest import NOW, Python, ScriptedHost, invocation, python_engine

RUNS = 20
AT_ONCE = 10

EVERYTHING = """
    import asyncio, datetime, os, random, secrets, time, uuid
    from random import Random, SystemRandom
    from time import time as now

    async def ask(ctx, i, out):
        for step in range(3):
            got = await ctx.invoke(f"f{i}", {"step": step, "dice": random.randrange(1000)})
            out.append((i, step, got, time.time_ns(), random.random()))
            await asyncio.sleep(0)
            out.append((i, "later", step))
            if step == 1:
                await asyncio.sleep(random.random())

    async def handler(input, ctx):
        out = []
        start = time.monotonic()
        await asyncio.gather(*(ask(ctx, i, out) for i in range(4)))
        done, pending = await asyncio.wait(
            [asyncio.create_task(ctx.invoke(f"race{i}")) for i in range(5)],
            return_when=asyncio.FIRST_COMPLETED)
        out.append((len(done), len(pending)))
        for task in pending:
            await task
        numbers = [1, 2, 3, 4, 5, 6, 7]
        random.shuffle(numbers)
        fresh, system = Random(), SystemRandom()
        return {
            "out": out, "numbers": numbers, "fresh": fresh.random(),
            "system": system.random(),
            "urandom": os.urandom(9).hex(), "token": secrets.token_hex(8),
            "choice": secrets.choice("abcdef"),
            "uuid4": uuid.uuid4(), "uuid1": [uuid.uuid1(), uuid.uuid1()],
            "uuid5": uuid.uuid5(uuid.NAMESPACE_DNS, "x"),
            "now": datetime.datetime.now(),
            "aware": datetime.datetime.now(datetime.timezone.utc),
            "utc": datetime.datetime.utcnow(), "today": datetime.date.today(),
            "day": datetime.datetime.today(),
            "time": now(), "elapsed": time.monotonic() - start,
            "perf": time.perf_counter(),
            "struct": time.strftime("%Y-%m-%d %H:%M:%S"),
            "set": list({"a", "b", "c", "d"}), "hash": hash("x"),
        }
"""


class InOrder(ScriptedHost):
    """Replies as a recorded host would: answers depend on the call, the order of delivery on a plan.

    Attributes:
        plan: seeds the order in which open calls are answered.
    """

    def __init__(self, guest: DeploymentGuest, plan: int, pause: random.Random) -> None:
        super().__init__()
        self._guest = guest
        self._order = random.Random(plan)
        self._pause = pause
        self._open: list[tuple[HostCall, asyncio.Future[None]]] = []
        self._task: asyncio.Task[None] | None = None

    async def perform(self, call: HostCall) -> Outcome:
        self.calls.append(call)
        gate: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._open.append((call, gate))
        if self._task is None:
            self._task = asyncio.create_task(self._release())
        await gate
        self.now += 1_000_000
        return Outcome(result=json.dumps({"n": call.n}).encode(), now_ns=self.now)

    async def _release(self) -> None:
        """Once the guest is quiet, answer half of what is open, at once: several replies in one chunk."""
        while True:
            await self._quiet()
            if not self._open:
                self._task = None
                return
            self._open.sort(key=lambda entry: entry[0].n)
            self._order.shuffle(self._open)
            count = max(1, len(self._open) // 2)
            now, self._open = self._open[:count], self._open[count:]
            for _, gate in now:
                gate.set_result(None)

    async def _quiet(self) -> None:
        """Wait until the guest waits for an answer, and all that it has asked for is here."""
        while True:
            asked = len(self.calls)
            await asyncio.sleep(0.02 + self._pause.random() * 0.01)
            if _asleep(self._guest):
                for _ in range(10):  # what it has sent is read, and comes to be performed
                    await asyncio.sleep(0)
                if len(self.calls) == asked:
                    return


def _asleep(guest: DeploymentGuest) -> bool:
    """Whether no thread of the guest's processes is running or would if it could."""
    stats = [stat for process in guest.processes for stat in Path(f"/proc/{process.pid}/task").glob("*/stat")]
    return all(stat.read_text().rpartition(") ")[2][0] == "S" for stat in stats)


async def one(guest: DeploymentGuest, pause: random.Random) -> tuple[bytes, list[tuple[int, str, bytes]]]:
    host = InOrder(guest, 5, pause)
    reply = await guest.invoke(invocation({"a": 1}, timeout=60), host)
    return reply.body, [(call.n, call.op, call.arguments) for call in host.calls]


async def test_twenty_runs_with_ten_in_flight_are_identical(python: Python) -> None:
    guest = await python.load(EVERYTHING)
    pause = random.Random(1)
    seen = []
    for _ in range(RUNS // AT_ONCE):
        seen += await asyncio.gather(*(one(guest, pause) for _ in range(AT_ONCE)))
    bodies = {body for body, _ in seen}
    calls = {tuple(made) for _, made in seen}
    assert len(seen) == RUNS
    assert len(bodies) == 1
    assert len(calls) == 1
    value = json.loads(seen[0][0])
    assert len(value["out"]) == 25
    assert value["now"].startswith("2023-11-14T22:13:20")
    assert len(set(value["uuid1"])) == 2


async def test_a_fresh_process_gives_the_same(python: Python) -> None:
    first = await one(await python.load(EVERYTHING), random.Random(1))
    assert await one(await python.load(EVERYTHING), random.Random(2)) == first


async def test_another_seed_gives_other_values(python: Python) -> None:
    guest = await python.load("import uuid\ndef handler(input, ctx): return uuid.uuid4()")
    replies = [await guest.invoke(invocation(seed=bytes([n]) * 32), ScriptedHost()) for n in (1, 2, 1)]
    assert replies[0].body == replies[2].body != replies[1].body


async def test_the_clock_stands_still_but_for_replies(python: Python) -> None:
    code = """
        import time, datetime
        async def handler(input, ctx):
            before = time.time_ns()
            for _ in range(100_000):
                pass
            same = time.time_ns()
            await ctx.sleep(5)
            return [before, same, time.time_ns() - before, time.process_time_ns(), datetime.datetime.now()]
    """
    assert await python.run(code) == [NOW, NOW, 1_000_000, 1_000_000, "2023-11-14T22:13:20.001000"]


async def test_two_replies_in_one_chunk_do_not_interleave(python: Python) -> None:
    both: list[asyncio.Future[None]] = []

    async def together(call: HostCall) -> object:
        gate: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        both.append(gate)
        if len(both) == 2:
            for waiting in both:
                waiting.set_result(None)
        await gate
        return call.n

    code = """
        import asyncio
        async def handler(input, ctx):
            seen = []
            async def work(name):
                await ctx.invoke(name)
                for step in range(5):
                    seen.append(name + str(step))
                    await asyncio.sleep(0)
            await asyncio.gather(work("a"), work("b"))
            return seen
    """
    host = ScriptedHost({"invoke": together})
    seen = await python.run(code, host=host)
    blocks = [[f"{name}{step}" for step in range(5)] for name in "ab"]
    assert sorted([seen[:5], seen[5:]]) == blocks


async def test_replies_to_different_invocations_in_one_chunk_do_not_interleave(python: Python) -> None:
    names = "abcdefgh"
    waiting: list[asyncio.Future[None]] = []

    async def together(call: HostCall) -> object:
        gate: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting.append(gate)
        if len(waiting) == len(names):
            for each in waiting:
                each.set_result(None)
        await gate
        return call.n

    code = """
        import asyncio
        trail = []
        async def handler(input, ctx):
            if input == "read":
                return trail
            await ctx.invoke("other")
            for step in range(5):
                trail.append(input)
                await asyncio.sleep(0)
    """
    guest = await python.load(code)
    host = ScriptedHost({"invoke": together})
    await asyncio.gather(*(guest.invoke(invocation(name), host) for name in names))
    trail = json.loads((await guest.invoke(invocation("read"), host)).body)
    assert sorted(trail[at : at + 5] for at in range(0, 40, 5)) == [[name] * 5 for name in names]


async def test_code_that_spins_on_sleep_zero_still_gets_its_reply(python: Python) -> None:
    code = """
        import asyncio
        async def handler(input, ctx):
            task = asyncio.create_task(ctx.invoke("other"))
            while not task.done():
                await asyncio.sleep(0)
            return task.result()
    """
    assert await python.run(code, host=ScriptedHost({"invoke": 5})) == 5


async def test_datetime_is_still_datetime(python: Python) -> None:
    code = """
        import copy, datetime as dt, pickle
        from datetime import datetime, date, timedelta, timezone

        class Mine(datetime):
            pass

        def handler(input, ctx):
            now = datetime.now(timezone.utc)
            made = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=timezone(timedelta(hours=2)))
            assert isinstance(now, datetime) and isinstance(now, date)
            assert not isinstance(date.today(), datetime)
            assert issubclass(datetime, date) and type(now) == datetime
            assert {datetime: 1}[type(now)] == 1
            assert datetime.fromisoformat(made.isoformat()) == made == datetime.strptime(
                "2026-01-02T03:04:05.000006+0200", "%Y-%m-%dT%H:%M:%S.%f%z")
            assert pickle.loads(pickle.dumps(made)) == made == copy.deepcopy(made)
            assert pickle.loads(pickle.dumps(date.today())) == date.today()
            assert type(now + timedelta(1)) is type(made)
            assert datetime.combine(date(2026, 1, 2), made.timetz()) == made
            mine = Mine.now()
            assert type(mine) is Mine and isinstance(mine, datetime)
            assert isinstance(Mine(2026, 1, 1), Mine)
            assert not isinstance(now, Mine) and datetime.now().tzinfo is None
            match now:
                case dt.datetime():
                    pass
                case _:
                    raise AssertionError
            zone = timezone(timedelta(hours=5, minutes=30))
            return [datetime.now(zone).isoformat(), repr(date(2026, 1, 2))]
    """
    assert await python.run(code) == ["2023-11-15T03:43:20+05:30", "datetime.date(2026, 1, 2)"]


async def test_hashes_by_address_are_the_same_in_every_process(tmp_path: Path) -> None:
    if not addresses_can_be_fixed():
        pytest.skip("this kernel refuses fixed addresses")
    code = """
        class Mine: pass
        def handler(input, ctx): return [hash(None), hash(int), hash(Mine), hash(print), hash(handler)]
    """
    seen = []
    for turn in range(2):
        async with python_engine(tmp_path / str(turn)) as python:
            seen += [await python.run(code) for _ in range(2)]
    assert seen[0] == seen[1] == seen[2] == seen[3]


def addresses_can_be_fixed() -> bool:
    """Whether a process that is executed may ask for it."""
    ask = "import ctypes; print(ctypes.CDLL(None).personality(0x0040000))"
    with addresses.fixed():
        asked = subprocess.run([sys.executable, "-c", ask], capture_output=True, check=True)
    return asked.stdout == b"262144\n"


async def test_alarms_are_refused(python: Python) -> None:
    error = await python.fail("import signal\ndef handler(input, ctx): signal.alarm(1)")
    assert "can't set alarms" in error.message


async def test_code_that_spins_sees_the_same_turns_however_late_the_reply_is(python: Python) -> None:
    code = """
        import asyncio
        async def handler(input, ctx):
            task, turns = asyncio.create_task(ctx.invoke("other")), 0
            while not task.done():
                turns += 1
                await asyncio.sleep(0)
            return turns
    """

    async def late(call: HostCall) -> object:
        await asyncio.sleep(0.05)
        return 5

    at_once = await python.run(code, host=ScriptedHost({"invoke": 5}))
    assert await python.run(code, host=ScriptedHost({"invoke": late})) == at_once > 100


async def test_a_spinning_invocation_still_ends_at_its_deadline(python: Python) -> None:
    code = """
        import asyncio
        async def handler(input, ctx):
            task = asyncio.create_task(ctx.invoke("other"))
            while not task.done():
                await asyncio.sleep(0)
    """

    async def never(call: HostCall) -> object:
        return await asyncio.get_running_loop().create_future()

    guest = await python.load(code)
    with pytest.raises(DeadlineExceeded):
        await guest.invoke(invocation(timeout=0.5), ScriptedHost({"invoke": never}))
