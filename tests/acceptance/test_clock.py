"""The clock of the server's machine is set back an hour while it serves.

CLOCK_REALTIME really steps, for the server and its sidecar (stepped_clock.c is preloaded); Postgres' clock
and everybody's monotonic one go on.
"""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from tests.acceptance.conftest import Project
from tests.acceptance.provider import Provider

HOUR = 3600.0
NOTE = '    await ctx.db.query({ table: "notes", operation: "insert", data: { token: input.token + N } });\n'


def _library(folder: Path) -> Path:
    if shutil.which("gcc") is None:
        pytest.skip("needs gcc, to make the clock that is set back")
    made = folder / "stepped_clock.so"
    source = Path(__file__).with_name("stepped_clock.c")
    command = ["gcc", "-shared", "-fPIC", "-O1", "-nostdlib", "-fno-builtin", "-o", str(made), str(source)]
    subprocess.run(command, check=True)
    return made


def _step(file: Path, seconds: int) -> None:
    """Written in place: the processes have it mapped."""
    with file.open("r+b") as opened:
        opened.write(seconds.to_bytes(8, sys.byteorder, signed=True))


def _project(project: Project, provider: Provider) -> None:
    project.write("flux.toml", 'name = "app"\nenv = ["PROVIDER"]\n')
    project.write("schema/001.sql", "CREATE TABLE notes (token text PRIMARY KEY);")
    project.environment["PROVIDER"] = provider.url
    project.typescript(
        "across",
        NOTE.replace("N", '"-1"')
        + '    ctx.log.info("before");\n    const began = Date.now();\n'
        + "    await (await fetch(ctx.env.PROVIDER)).text();\n"
        + '    ctx.log.info("after");\n'
        + '    const child = await ctx.invoke("child", { token: input.token });\n'
        + NOTE.replace("N", '"-2"')
        + "    return { child, elapsed: Date.now() - began };",
    )
    project.typescript("child", NOTE.replace("N", '"-child"') + "    return 1;")
    project.typescript("push", '    return await ctx.queue.push("job", { token: input.token });')
    project.write(
        "functions/job/main.py",
        "import httpx\n\n"
        "async def handler(input, ctx):\n"
        "    async with httpx.AsyncClient(timeout=None) as client:\n"
        "        await client.get(ctx.env['PROVIDER'])\n"
        "    await ctx.db.execute('insert into notes (token) values ($1)', input['token'])\n",
    )
    project.flux("db", "push")


def test_a_clock_set_back_an_hour_leaves_durations_order_leases_and_days_right(project: Project) -> None:
    library, provider = _library(project.root), Provider(holds=True)
    clock = project.root / "clock"
    clock.write_bytes(bytes(8))
    try:
        _project(project, provider)
        project.environment |= {"LD_PRELOAD": str(library), "STEPPED_CLOCK": str(clock)}
        server = project.start("serve")
        del project.environment["LD_PRELOAD"]
        with httpx.Client(base_url=server.url, timeout=60, trust_env=False) as client:
            with ThreadPoolExecutor(1) as threads:
                waiting = threads.submit(client.post, "/across", json={"token": "a"})
                assert provider.arrived.acquire(timeout=60)
                assert client.post("/push", json={"token": "pushed before"}).status_code == 200
                assert provider.arrived.acquire(timeout=60), "the job has begun"
                _step(clock, -int(HOUR))
                assert client.post("/push", json={"token": "pushed after"}).status_code == 200
                provider.answer.set()
                across = waiting.result()
            assert (across.status_code, across.json()["child"]) == (200, 1), across.text
            assert 0 <= across.json()["elapsed"] < HOUR * 1000 / 2, "the function's own clock"
            after = client.post("/across", json={"token": "b"})
            assert after.status_code == 200
        ids = across.headers["x-request-id"], after.headers["x-request-id"]
        asyncio.run(_check(project.environment["DATABASE_URL"], *ids))
        trace = project.json("trace", ids[0])
        assert project.flux("trace", ids[0]).stdout
        assert [call["op"] for call in trace["host_calls"] if call["op"] != "log"] == [
            "db.query",
            "fetch",
            "invoke",
            "db.query",
        ]
        assert [row["after"]["token"] for row in trace["mutations"]] == ["a-1", "a-2"]
        assert [line["message"] for line in trace["logs"]] == ["before", "after"]
        assert server.stop() == 0, server.text()
        assert "Traceback" not in server.text()
    finally:
        provider.close()


async def _check(url: str, across: str, after: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await _until(connection, "SELECT count(*) = 2 FROM flux.jobs WHERE status = 'done'")
        # The node's heartbeat is the database's own time; the node knows how far it is off.
        skewed = (
            "SELECT clock_offset_ms < -3000000 AND heartbeat_at > now() - interval '10 s' FROM flux.nodes"
        )
        await _until(connection, skewed)
        await _until(connection, "SELECT count(*) = 8 FROM flux.executions")
        executions = {
            row["request_id"]: row for row in await connection.fetch("SELECT * FROM flux.executions")
        }
        wrong = await connection.fetch(
            "SELECT 'span' AS what, name, duration_ns / 1e6 AS ms FROM flux.spans "
            "UNION ALL SELECT 'call', op, duration_ms FROM flux.host_calls "
            "UNION ALL SELECT 'execution', function, duration_ms FROM flux.executions"
        )
        outside = await connection.fetch(
            "SELECT s.name, s.start_time - e.started_at AS after_start FROM flux.spans s "
            "JOIN flux.executions e USING (request_id, day) "
            "WHERE s.start_time - e.started_at NOT BETWEEN interval '-1 s' AND interval '10 min'"
        )
        late = await connection.fetch(
            "SELECT * FROM flux.host_calls c JOIN flux.executions e USING (request_id, day) "
            "WHERE c.at < e.started_at - interval '1 s' OR c.at > e.started_at + interval '10 min'"
        )
        disordered = await connection.fetch(
            "SELECT * FROM (SELECT seq, op, at, lag(at) OVER w AS before, started, "
            "lag(started) OVER w AS earlier FROM flux.host_calls "
            "WINDOW w AS (PARTITION BY request_id ORDER BY seq)) c WHERE at < before OR started < earlier"
        )
        days = await connection.fetchval(
            "SELECT count(*) FROM flux.executions WHERE day <> (started_at AT TIME ZONE 'UTC')::date"
        )
        lost = await connection.fetchval(
            "SELECT count(*) FROM flux.mutations m WHERE origin = 'flux' AND NOT EXISTS "
            "(SELECT FROM flux.executions e WHERE e.request_id = m.request_id AND e.day = m.day)"
        )
        jobs = await connection.fetch("SELECT attempt, status FROM flux.jobs")
        quarantined = await connection.fetchval("SELECT count(*) FROM flux.quarantine")
    finally:
        await connection.close()
    assert {row["outcome"] for row in executions.values()} == {"ok"}
    assert [dict(row) for row in wrong if not 0 <= row["ms"] < HOUR * 1000 / 2] == []
    assert [dict(row) for row in outside] == [], "a span that is not in its execution's time"
    assert [dict(row) for row in late] == []
    assert [dict(row) for row in disordered] == []
    assert (days, lost, quarantined) == (0, 0, 0)
    assert [tuple(job) for job in jobs] == [(1, "done")] * 2, "a lease was taken for run out"
    stepped = executions[across]["started_at"] - executions[after]["started_at"]
    assert stepped.total_seconds() > HOUR / 2, "the clock was not set back"
    child = next(
        row
        for row in executions.values()
        if row["parent_request_id"] == across and row["function"] == "child"
    )
    assert child["started_at"] > executions[across]["started_at"], "a child begins after its parent"


async def _until(connection: Any, question: str) -> None:
    async with asyncio.timeout(60):
        while not await connection.fetchval(question):
            await asyncio.sleep(0.02)
