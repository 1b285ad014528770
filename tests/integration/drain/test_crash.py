"""kill -9 of the writer and of the drain, at random moments: what was acknowledged is there, once, and
complete.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
from asyncio.subprocess import PIPE, Process
from pathlib import Path

import asyncpg

from flux.drain.drain import Drain

ROOT = Path(__file__).parents[3]


async def start(*arguments: str) -> Process:
    """One of the programs of crashing.py."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "exporters")])
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.integration.drain.crashing",
        *arguments,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path},
        stdout=PIPE,
    )


async def line(process: Process) -> str:
    """The next line that it prints."""
    assert process.stdout is not None
    return (await process.stdout.readline()).decode().strip()


async def kill(process: Process) -> list[str]:
    """kill -9, and the whole lines it had still printed."""
    process.kill()
    assert process.stdout is not None
    rest = (await process.stdout.read()).decode()
    await process.wait()
    return [text for text in rest.split("\n")[:-1] if text]


async def test_nothing_acknowledged_is_lost_or_doubled_by_kill_9(
    connection: asyncpg.Connection, database_url: str, drain: Drain, spools: Path
) -> None:
    chance = random.Random(7)
    acknowledged: list[str] = []
    for _ in range(2):
        writer = await start("write", str(spools))
        node = await line(writer)
        for _ in range(2):
            draining = await start("drain", database_url, str(spools), node)
            await line(draining)
            for _ in range(chance.randrange(200, 900)):
                acknowledged.append(await line(writer))
            await kill(draining)
        acknowledged += await kill(writer)
    while await drain.once():
        pass

    rows = await connection.fetch("SELECT request_id, outcome, output FROM flux.executions")
    outcomes = {row["request_id"]: row["outcome"] for row in rows}
    assert len(rows) == len(outcomes), "nothing twice"
    missing = [request_id for request_id in acknowledged if outcomes.get(request_id) != "ok"]
    assert missing == []
    others = {
        request_id: outcome for request_id, outcome in outcomes.items() if request_id not in set(acknowledged)
    }
    interrupted = [request_id for request_id, outcome in others.items() if outcome == "interrupted"]
    assert len(others) <= 2 * 4, "at most the one whose acknowledgement was under way, and those in flight"
    assert len(interrupted) >= 2 * 2
    calls = await connection.fetch(
        "SELECT request_id, count(*) AS n, count(result) AS results FROM flux.host_calls GROUP BY request_id"
    )
    complete = {row["request_id"] for row in calls if (row["n"], row["results"]) == (2, 2)}
    assert set(acknowledged) <= complete
    assert await connection.fetchval("SELECT count(*) FROM flux.quarantine") == 0
    assert list(spools.iterdir()) == []
