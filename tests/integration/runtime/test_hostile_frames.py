"""Frames that no honest guest sends, by the thousands and in odd shapes: the process dies or is ignored, the
server's memory stays what it was, and another process beside it answers the whole time.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import orjson
import pytest

from flux.errors import GuestDied
from flux.runtime.process import GuestProcess
from tests.integration.runtime import scripted
from tests.integration.runtime.local_guest import ScriptedHost, deployment, invocation


async def start(folder: Path, lines: list[str] | None = None) -> GuestProcess:
    process = await scripted.start(lines=lines, name="scripted")
    await process.load(deployment(""), {"root": str(folder)}, 5)
    return process


@pytest.fixture(name="process")
async def _process(tmp_path: Path) -> AsyncIterator[GuestProcess]:
    process = await start(tmp_path)
    yield process
    await process.drain(0)


@pytest.fixture(name="beside")
async def _beside(tmp_path: Path) -> AsyncIterator[list[float]]:
    """Asks another process over and over; how long each answer took, in seconds."""
    other = await start(tmp_path)
    took: list[float] = []
    loop = asyncio.get_running_loop()

    async def ask() -> None:
        while True:
            began = loop.time()
            reply = await other.invoke(invocation("echo"), ScriptedHost())
            assert reply.body == b'"echo"'
            took.append(loop.time() - began)
            await asyncio.sleep(0.001)

    asking = asyncio.create_task(ask())
    yield took
    assert not asking.done(), asking
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    await other.drain(0)


async def breach(process: GuestProcess, what: str) -> str:
    with pytest.raises(GuestDied) as caught:
        await process.invoke(invocation(what), ScriptedHost())
    await process.gone()
    return str(caught.value)


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("flood of pongs", None),
        ("flood of notes", None),
        ("flood of calls", "numbered 1 after 1"),
        ("flood of aborts", None),
        ("flood of nothing", "impossible size"),
    ],
)
async def test_a_flood_of_frames_is_read_while_others_are_answered(
    process: GuestProcess, beside: list[float], what: str, said: str | None
) -> None:
    host = ScriptedHost()
    while not beside:
        await asyncio.sleep(0)
    before = len(beside)
    if said is None:
        assert (await process.invoke(invocation(what), host)).body == b'"flooded"'
        assert len(beside) > before
    else:
        assert said in await breach(process, what)


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("bytes 40000000 00000008", "impossible size"),
        ("bytes ffffffff ffffffff", "impossible size"),
        ("bytes 00000004 00000000", "not JSON"),
        ("bytes 00000006 00000002 5b5d", "not an object"),
        ("bytes 00000006 00000002 7b7d", "KeyError"),
        ("bytes 00000007 00000003 ff7b7d", "not JSON"),
        ('{"t": "call", "i": [1], "n": 1, "op": "db.sql"}', "broke the protocol"),
        ('{"t": "call", "i": "i", "n": -1, "op": "db.sql"}', "numbered -1"),
        ('{"t": "call", "i": "i", "n": 1.0, "op": "db.sql"}', "numbered 1.0"),
        ('{"t": "call", "i": "i", "n": 1, "op": ["db.sql"]}', "broke the protocol"),
        ('{"t": "call", "i": "i", "n": 1, "op": "db.sql", "span": 1}', "numbered 1"),
        ('{"t": "done", "i": null}', "an end of invocation None"),
        ('{"t": "done", "i": "i", "status": 1000}', "a response with status 1000"),
        ('{"t": "done", "i": "i", "status": "200"}', "a response with status 200"),
        ('{"t": "done", "i": "i", "status": 200, "headers": [["a", "b\\r\\nc: d"]]}', "HTTP can't carry"),
        ('{"t": "done", "i": "i", "status": 200, "headers": [["a b", "c"]]}', "HTTP can't carry"),
        ('{"t": "done", "i": "i", "status": 200, "headers": [["", "c"]]}', "HTTP can't carry"),
        ('{"t": "done", "i": "i", "status": 200, "headers": {"a": "b"}}', "broke the protocol"),
        ('{"t": "error", "i": "i"}', "broke the protocol"),
        ('{"t": "error", "i": "i", "error": {"frames": 5}}', "broke the protocol"),
        ('{"t": "error", "i": "i", "error": {"fields": [1]}}', "broke the protocol"),
        ('{"t": "invoke", "i": "i"}', "unknown type 'invoke'"),
        ('{"t": "reply", "i": "i", "n": 1}', "unknown type 'reply'"),
        ("close", "closed its connection to Flux"),
    ],
)
async def test_a_forged_frame_ends_its_process_and_says_why(
    process: GuestProcess, what: str, said: str
) -> None:
    assert said in await breach(process, what)
    assert not process.alive


async def test_another_invocation_of_the_process_is_told_that_it_died(process: GuestProcess) -> None:
    waiting = asyncio.create_task(
        process.invoke(invocation('{"t": "note", "i": "i", "n": 1, "op": "log"}'), ScriptedHost())
    )
    await asyncio.sleep(0)
    assert "an end of invocation 99" in await breach(process, '{"t": "done", "i": 99}')
    with pytest.raises(GuestDied, match="an end of invocation 99"):
        await waiting


async def test_stderr_is_read_to_its_end_at_a_bounded_rate(tmp_path: Path, beside: list[float]) -> None:
    lines: list[str] = []
    process = await start(tmp_path, lines)
    reply = await process.invoke(invocation("flood of lines"), ScriptedHost())
    assert orjson.loads(reply.body) == "flooded"
    await process.drain(0)
    shown = [line for line in lines if line.startswith("stray line")]
    left_out = [int(line.split()[0][1:]) for line in lines if line.endswith("and left out)")]
    assert shown[0] == "stray line 0"
    assert 1_000 <= len(shown) < 20_000
    assert sum(left_out) > 0
    assert len(beside) > 0
