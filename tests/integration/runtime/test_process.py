"""Whatever a guest does, each invocation ends, and no guest survives what it should not."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from flux.errors import DeadlineExceeded, GuestDied, RuntimeFault
from flux.record.call import HostCall, Outcome
from flux.runtime.process import GuestProcess
from flux.runtime.spawner import Spawner
from tests.integration.runtime.local_guest import ScriptedHost, deployment, invocation, result
from tests.integration.runtime.scripted import order, start


@pytest.fixture(name="process")
async def _process(tmp_path: Path) -> AsyncIterator[GuestProcess]:
    process = await start()
    await process.load(deployment(""), {"root": str(tmp_path)}, 5)
    yield process
    await process.drain(0)


async def do(process: GuestProcess, what: str, host: ScriptedHost | None = None, timeout: float = 5) -> Any:
    reply = await process.invoke(invocation(what, timeout=timeout), host or ScriptedHost())
    return orjson.loads(reply.body)


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return Path(f"/proc/{pid}/stat").read_text().split(") ")[1][0] == "Z"


async def test_it_boots_says_its_versions_and_answers(process: GuestProcess) -> None:
    assert process.versions == {"scripted": "1"}
    assert await do(process, "echo") == "echo"
    reply = await process.invoke(invocation("echo"), ScriptedHost())
    assert (reply.guest, reply.invocation) == ("scripted-1", 2)


async def test_a_call_is_performed_and_its_reply_written(process: GuestProcess) -> None:
    host = ScriptedHost(lambda call, args: result("answer"))
    assert await do(process, "call", host) == "answer"


async def test_open_calls_are_awaited_after_the_end(process: GuestProcess) -> None:
    release = asyncio.Event()

    async def wait() -> Outcome:
        await release.wait()
        return result({})

    host = ScriptedHost(lambda call, args: wait())
    running = asyncio.create_task(do(process, "call and done", host))
    while not host.calls:
        await asyncio.sleep(0)
    assert not running.done()
    release.set()
    assert await running == 1


async def test_open_calls_are_abandoned_at_the_deadline(process: GuestProcess) -> None:
    async def hang() -> Outcome:
        await asyncio.Event().wait()
        return result({})

    host = ScriptedHost(lambda call, args: hang())
    assert await do(process, "call and done", host, timeout=0.1) == 1
    assert len(host.cancelled) == 1
    assert process.alive
    assert not process.retired


async def test_an_aborted_call_is_cancelled_without_a_reply(process: GuestProcess) -> None:
    async def hang() -> Outcome:
        await asyncio.Event().wait()
        return result({})

    assert await do(process, "abort", ScriptedHost(lambda call, args: hang())) == 1


async def test_a_death_fails_all_that_is_in_flight_at_once_and_cancels_its_calls(
    process: GuestProcess,
) -> None:
    async def hang() -> Outcome:
        await asyncio.Event().wait()
        return result({})

    host = ScriptedHost(lambda call, args: hang())
    first = asyncio.create_task(do(process, "call", host))
    while not host.calls:
        await asyncio.sleep(0)
    second = asyncio.create_task(do(process, "die"))
    failures = await asyncio.gather(first, second, return_exceptions=True)
    assert [type(failure) for failure in failures] == [GuestDied, GuestDied]
    assert "ended by itself (exit code 7)" in str(failures[0])
    assert len(host.cancelled) == 1
    assert (getattr(failures[1], "guest", None), getattr(failures[1], "invocation", None)) == (
        "scripted-1",
        2,
    )
    with pytest.raises(GuestDied):
        await do(process, "echo")


@pytest.mark.parametrize(
    "breach",
    [
        '{"t": "call", "i": 99, "n": 1, "op": "db.sql"}',
        '{"t": "call", "i": "i", "n": 0, "op": "db.sql"}',
        '{"t": "call", "i": "i", "n": true, "op": "db.sql"}',
        '{"t": "call", "i": "i", "n": 2, "op": "db.sql", "tx": 5}',
        '{"t": "call", "i": "i", "n": 2, "op": "log"}',
        '{"t": "call", "i": "i", "n": 2, "op": "unheard.of"}',
        '{"t": "note", "i": "i", "n": 1, "op": "db.sql"}',
        '{"t": "note", "i": 99, "n": 1, "op": "log"}',
        '{"t": "call", "i": "i"}',
        '{"t": "done", "i": 99}',
        '{"t": "done", "i": "i", "status": 99}',
        '{"t": "done", "i": "i", "status": 200, "headers": [[1, 2]]}',
        '{"t": "error", "i": "i", "error": 5}',
        '{"t": "booted"}',
        '{"t": "unheard of"}',
        '{"t": {"a": 1}}',
        "oversize",
        "garbage",
    ],
)
async def test_a_guest_that_breaks_the_protocol_is_killed(process: GuestProcess, breach: str) -> None:
    with pytest.raises(GuestDied, match="broke the protocol"):
        await do(process, breach)
    await process.gone()
    assert gone(process.pid)


async def test_a_second_end_of_an_invocation_kills(process: GuestProcess) -> None:
    assert await do(process, "done twice") == 1
    await process.gone()
    assert not process.alive


async def test_a_deadline_kills_a_blocked_guest_at_once(process: GuestProcess) -> None:
    host = ScriptedHost()
    other = asyncio.create_task(do(process, '{"t": "note", "i": "i", "n": 1, "op": "log"}'))
    await asyncio.sleep(0)
    died: list[float] = []
    process.on_death(lambda: died.append(time.monotonic()))
    began = time.monotonic()
    with pytest.raises(DeadlineExceeded, match="did not answer within 200 ms"):
        await do(process, "block", host, timeout=0.2)
    assert time.monotonic() - began < 0.2 + 0.25
    with pytest.raises(GuestDied):
        await other
    assert died[0] - began < 0.2 + 0.25
    await process.gone()
    assert gone(process.pid)


async def test_a_deadline_spares_a_guest_that_still_answers_but_retires_it(process: GuestProcess) -> None:
    retired: list[bool] = []
    process.on_retired(lambda: retired.append(True))
    forever = '{"t": "note", "i": "i", "n": 1, "op": "log"}'
    with pytest.raises(DeadlineExceeded):
        await do(process, forever, timeout=0.1)
    assert (process.alive, process.retired, retired) == (True, True, [True])
    assert await do(process, "echo") == "echo"


async def test_each_invocation_has_its_own_deadline_in_whatever_order_they_began(
    process: GuestProcess,
) -> None:
    silent = '{"t": "note", "i": "i", "n": 1, "op": "log"}'
    ended: list[float] = []

    async def wait(timeout: float) -> None:
        began = time.monotonic()
        with pytest.raises(DeadlineExceeded, match=f"within {timeout * 1000:.0f} ms"):
            await do(process, silent, timeout=timeout)
        assert time.monotonic() - began >= timeout - 0.002
        ended.append(timeout)

    await asyncio.gather(*(wait(timeout) for timeout in (0.3, 0.01, 0.2, 0.1)))
    assert ended == [0.01, 0.1, 0.2, 0.3]
    assert await do(process, "echo") == "echo"


async def test_a_retirement_is_told_once_it_is_known_whether_the_guest_lives(process: GuestProcess) -> None:
    told: list[str] = []
    process.on_retired(lambda: told.append("retired"))
    process.on_death(lambda: told.append("died"))
    other = asyncio.create_task(do(process, '{"t": "note", "i": "i", "n": 1, "op": "log"}'))
    await asyncio.sleep(0)
    with pytest.raises(DeadlineExceeded):
        await do(process, "block", timeout=0.1)
    assert (process.usable, told) == (False, [])
    with pytest.raises(GuestDied):
        await other
    assert told == ["died"]


async def test_a_caller_that_gives_up_cancels_its_invocation_and_calls(process: GuestProcess) -> None:
    async def hang() -> Outcome:
        await asyncio.Event().wait()
        return result({})

    host = ScriptedHost(lambda call, args: hang())
    running = asyncio.create_task(do(process, "call", host))
    while not host.calls:
        await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert len(host.cancelled) == 1
    assert process.in_flight == 0
    assert await do(process, "echo") == "echo"


async def test_a_caller_that_gives_up_has_its_invocation_cancelled_in_the_guest(
    process: GuestProcess,
) -> None:
    silent = '{"t": "note", "i": "i", "n": 1, "op": "log"}'
    host = ScriptedHost()
    running = asyncio.create_task(do(process, silent, host))
    while not host.notes:
        await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert await do(process, "cancelled") == [1]


@pytest.mark.parametrize(
    "late", ["done", "error", "call", "note", "abort", "done done", "call done call", "error done"]
)
async def test_what_a_guest_still_says_of_an_invocation_given_up_is_ignored(
    process: GuestProcess, late: str
) -> None:
    silent = '{"t": "note", "i": "i", "n": 1, "op": "log"}'
    given_up, other = ScriptedHost(), ScriptedHost()
    running = asyncio.create_task(do(process, silent, given_up))
    while not given_up.notes:
        await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    with pytest.raises(DeadlineExceeded):
        await do(process, silent, timeout=0.1)
    assert await do(process, f"late {late}", other) == "late"
    assert (given_up.calls, other.calls) == ([], [])
    assert await do(process, "echo") == "echo"


async def test_a_guest_that_stops_reading_is_killed_before_memory_runs_out(
    process: GuestProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flux.runtime.connection.MOST_UNREAD", 8 * 2**20)
    big = b'"' + b"x" * 2**18 + b'"'
    host = ScriptedHost(lambda call, args: Outcome(result=big))
    with pytest.raises(GuestDied, match="stopped reading"):
        await do(process, "stop reading", host)


async def test_a_fault_of_the_host_fails_the_invocation_alone(process: GuestProcess) -> None:
    def refuse(call: HostCall, args: object) -> Outcome:
        raise ValueError("broken")

    with pytest.raises(RuntimeFault, match="failed inside Flux: ValueError: broken"):
        await do(process, "call", ScriptedHost(refuse))
    assert await do(process, "echo") == "echo"


async def test_lines_on_stderr_are_handed_on(tmp_path: Path) -> None:
    lines: list[str] = []
    process = await start(lines=lines)
    await process.load(deployment(""), {"root": str(tmp_path)}, 5)
    await do(process, "stray")
    await process.drain(0)
    assert lines == ["stray line"]


async def test_a_guest_that_does_not_boot_is_reported(tmp_path: Path) -> None:
    with pytest.raises(RuntimeFault, match="did not boot"):
        await start("never boots", timeout=0.2)
    with pytest.raises(GuestDied, match="no room"):
        await start("dies")
    with pytest.raises(RuntimeFault, match="can't be started"), contextlib.closing(Spawner()) as spawner:
        await GuestProcess.start(spawner, order("/nowhere"), name="x", on_line=print)


async def test_drain_waits_for_what_is_in_flight(process: GuestProcess) -> None:
    running = asyncio.create_task(do(process, "pause"))
    await asyncio.sleep(0)
    await process.drain(5)
    assert await running == "paused"
    assert gone(process.pid)


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's parent-death signal is Linux's")
def test_no_guest_outlives_a_server_that_is_killed() -> None:
    server = """
import asyncio, sys
from tests.integration.runtime import scripted
async def main():
    process = await scripted.start()
    print(process.pid, flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""
    with subprocess.Popen(
        [sys.executable, "-c", server],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.getcwd()},
    ) as running:
        assert running.stdout is not None
        guest = int(running.stdout.readline())
        assert not gone(guest)
        descriptor = os.pidfd_open(guest)
        running.send_signal(signal.SIGKILL)
    with contextlib.closing(os.fdopen(descriptor, "rb", 0)):
        assert select.select([descriptor], [], [], 5)[0] == [descriptor]
    assert gone(guest)
