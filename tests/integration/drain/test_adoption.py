"""Spools without a writer: adopted by a drain that runs already, refused where they are copies, and read as
far as they are whole.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path

import asyncpg
import pytest

from flux.drain.drain import Drain
from flux.drain.status import recorder_status
from flux.spool.frames import HEAD
from tests.integration.drain.recorded import called, complete, counts, opened, recorder
from tests.integration.drain.test_crash import kill, line, start


async def test_a_drain_that_runs_adopts_the_spool_of_a_writer_killed_beside_it(
    connection: asyncpg.Connection, database_url: str, spools: Path
) -> None:
    own = recorder(spools)
    writer = await start("write", str(spools))
    node = await line(writer)
    await connection.execute(
        "INSERT INTO flux.nodes (id, host, pid, version, started_at, heartbeat_at) "
        "VALUES ($1, 'h', $2, '0', now(), now())",
        node,
        writer.pid,
    )
    stop = asyncio.Event()
    drain = Drain({"dsn": database_url}, spools, own=own.node)
    task = asyncio.create_task(drain.run(stop))
    try:
        acknowledged = [await line(writer) for _ in range(50)]
        assert (await counts(connection))["executions"] == 0, "a living writer's spool was drained"
        acknowledged += await kill(writer)
        finished = "SELECT finished FROM flux.spool_positions WHERE spool_id = $1"
        await until(lambda: connection.fetchval(finished, node))
        await until(lambda: _gone(spools / node))
    finally:
        stop.set()
        await task
        await drain.close()
        own.close()
    rows = await connection.fetch("SELECT request_id, outcome FROM flux.executions WHERE node = $1", node)
    ok = [row["request_id"] for row in rows if row["outcome"] == "ok"]
    assert set(acknowledged) <= set(ok)
    assert len(ok) == len(set(ok)) <= len(acknowledged) + 1
    ended = "SELECT stopped_at IS NOT NULL FROM flux.nodes WHERE id = $1"
    assert await connection.fetchval(ended, node), "who adopted its spool knows that the node has ended"


async def test_the_last_drain_waits_for_a_writer_that_is_just_letting_go(
    connection: asyncpg.Connection, database_url: str, spools: Path
) -> None:
    own = recorder(spools)
    complete(own)
    drain = Drain({"dsn": database_url}, spools, own=own.node)
    task = asyncio.create_task(drain.finish())
    try:
        stored = "SELECT count(*) = 1 FROM flux.executions"
        await until(lambda: connection.fetchval(stored))
        assert not task.done(), "the writer holds its spool still"
        own.close()
        await asyncio.wait_for(task, 30)
    finally:
        task.cancel()
        await drain.close()
    assert await connection.fetchval(
        "SELECT finished FROM flux.spool_positions WHERE spool_id = $1", own.node
    )
    assert not (spools / own.node).exists()


async def test_a_copy_is_refused_under_any_name_and_the_original_is_drained_once(
    connection: asyncpg.Connection, drain: Drain, spools: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = recorder(spools)
    complete(made)
    made.close()
    original, hidden = spools / made.node, spools.with_name("hidden")
    shutil.copytree(original, spools / ("f" * 32))
    original.rename(hidden)
    shutil.copytree(hidden, original)  # the same name, the same id, another inode

    assert await drain.once() == 0
    assert await drain.once() == 0
    for folder in (original, spools / ("f" * 32)):
        assert f"{folder} is a copy of spool {made.node}" in caplog.text
    assert caplog.text.count("is a copy of spool") == 2, "each is named once, not at every look"
    status = await recorder_status(spools, connection)
    assert [spool.problem is not None and "copy" in spool.problem for spool in status.spools] == [True, True]

    shutil.rmtree(original)
    hidden.rename(original)
    assert await drain.once() == 1
    assert not original.exists()
    shutil.copytree(spools / ("f" * 32), original)
    assert await drain.once() == 0, "a copy that comes after the original was drained"
    found = await counts(connection)
    assert (found["executions"], found["host_calls"], found["quarantine"]) == (1, 2, 0)


async def test_a_spool_cut_anywhere_in_its_last_record_loses_that_record_alone_and_says_so(
    connection: asyncpg.Connection, drain: Drain, spools: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole: dict[str, str] = {}
    cut: dict[str, str] = {}
    bytes_left: dict[str, bytes] = {}
    size = _last_record_size(spools.with_name("measured"))
    payload = range(HEAD.size, size - 16, 29)
    kinds = [*range(1, HEAD.size), *payload, -1, *("zeros", "zeros and nothing", "flipped", "beyond")]
    for kind in kinds:
        made = recorder(spools)
        before = complete(made)
        torn = opened(made)
        called(torn, "fetch", b'{"url":"http://a/"}', n=1, intend=True, result=b'{"status":200}')
        _, begins = made.journal.spool.place
        torn.end(status=200, outcome="ok", output=b'{"x":1}')
        _, ends = made.journal.spool.place
        made.close()
        whole[made.node], cut[made.node] = before.request_id, torn.request_id
        bytes_left[made.node] = _damage(spools / made.node / "00000001.seg", begins, ends, kind)
    await drain.once()

    rows = await connection.fetch("SELECT node, request_id, outcome FROM flux.executions")
    assert {(row["node"], row["request_id"]) for row in rows if row["outcome"] == "ok"} == set(whole.items())
    assert {(row["node"], row["request_id"]) for row in rows if row["outcome"] == "interrupted"} == set(
        cut.items()
    )
    assert len(rows) == 2 * len(kinds)
    calls = await connection.fetch(
        "SELECT status, count(*) FROM flux.host_calls WHERE request_id = ANY($1) GROUP BY 1",
        list(cut.values()),
    )
    assert [tuple(row) for row in calls] == [("unknown", len(kinds))], "what was appended before is there"
    refused = await connection.fetch("SELECT spool_id, reason, record FROM flux.quarantine")
    assert {row["spool_id"]: bytes(row["record"]) for row in refused} == bytes_left
    assert {row["reason"] for row in refused} <= {
        "Damaged: an incomplete record.",
        "Damaged: no record begins here.",
        "Damaged: a record whose checksum is wrong.",
    }
    for node in cut:
        assert f"a record of spool {node} goes to flux.quarantine: Damaged" in caplog.text
    assert list(spools.iterdir()) == []


def _last_record_size(folder: Path) -> int:
    made = recorder(folder)
    torn = opened(made)
    called(torn, "fetch", b'{"url":"http://a/"}', n=1, intend=True, result=b'{"status":200}')
    _, begins = made.journal.spool.place
    torn.end(status=200, outcome="ok", output=b'{"x":1}')
    _, ends = made.journal.spool.place
    made.close()
    return ends - begins


def _damage(segment: Path, begins: int, ends: int, kind: int | str) -> bytes:
    """Damage the record that stands from `begins` to `ends`; the bytes that are there instead of it."""
    data = segment.read_bytes()
    assert len(data) == ends
    match kind:
        case int():
            left = data[begins : (begins if kind > 0 else ends) + kind]
        case "zeros":  # a file system that had given the room but not written it yet
            left = data[begins : begins + HEAD.size] + bytes(ends - begins - HEAD.size)
        case "zeros and nothing":
            left = bytes(4096)
        case "flipped":
            left = data[begins : ends - 1] + bytes([data[-1] ^ 1])
        case _:  # a length that says more than there is
            left = data[begins : begins + 4] + (1 << 20).to_bytes(4, "big") + data[begins + 8 : ends]
    segment.write_bytes(data[:begins] + left)
    return left


async def _gone(folder: Path) -> bool:
    return not os.path.exists(folder)


async def until(ask: Callable[[], Awaitable[bool | None]]) -> None:
    """Wait until the answer is yes."""
    async with asyncio.timeout(30):
        while not await ask():
            await asyncio.sleep(0.01)
