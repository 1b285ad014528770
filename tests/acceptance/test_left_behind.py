"""What a function leaves behind is told with its line. What it hands to ctx.waitUntil is seen through after
the answer, recorded whole, and survives what happens to the server.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import httpx
import pytest

from tests.acceptance.conftest import Project, Server, eventually

WORK = '    const work = async () => { await ctx.db.sql("update gate set n = n + 1"); ctx.log("worked"); };\n'
LEFT = "functions/left/index.ts:6: ctx.db.query was still open when the handler returned"


@pytest.fixture(name="waiting")
def _waiting(project: Project) -> Project:
    """Functions whose work waits for the rows of `gate`."""
    project.write("schema/001.sql", "CREATE TABLE gate (n integer);\nINSERT INTO gate VALUES (0);")
    project.typescript("late", f"{WORK}    ctx.waitUntil(work());\n    return {{ n: 1 }};")
    project.typescript("caller", '    return await ctx.invoke("late");')
    project.typescript("push", '    return await ctx.queue.push("late");')
    insert = 'ctx.db.query({ table: "gate", operation: "insert", data: { n: 5 } })'
    project.typescript("left", f"    {insert};\n    return 1;")
    project.write(
        "functions/late_py/main.py",
        "async def work(ctx):\n"
        "    await ctx.db.execute('update gate set n = n + 1')\n"
        "    raise ValueError('bad')\n\n"
        "async def handler(input, ctx):\n"
        "    ctx.wait_until(work(ctx))\n"
        "    return {'n': 2}\n",
    )
    project.flux("db", "push")
    return project


@asynccontextmanager
async def gate(project: Project) -> AsyncIterator[asyncpg.Connection[Any]]:
    """Nobody changes a row of `gate` inside."""
    connection = await asyncpg.connect(project.environment["DATABASE_URL"])
    transaction = connection.transaction()
    await transaction.start()
    await connection.execute("SELECT * FROM gate FOR UPDATE")
    try:
        yield connection
    finally:
        await transaction.rollback()
        await connection.close()


async def blocked(connection: asyncpg.Connection[Any], count: int) -> None:
    """Wait until that many statements wait for the gate."""
    waiting = "datname = current_database() AND cardinality(pg_blocking_pids(pid)) > 0"
    async with asyncio.timeout(20):
        while True:
            await connection.execute("SELECT pg_stat_clear_snapshot()")
            found = await connection.fetchval(f"SELECT count(*) FROM pg_stat_activity WHERE {waiting}")
            if found >= count:
                return
            await asyncio.sleep(0.02)


async def answered(project: Project, server: Server, *paths: str) -> dict[str, httpx.Response]:
    """The answers, all of them given while nothing can pass the gate."""
    async with (
        gate(project) as held,
        httpx.AsyncClient(base_url=server.url, timeout=20, trust_env=False) as client,
    ):
        found = {path: await client.post(path, json={}) for path in paths}
        await blocked(held, len(paths))
    return found


def test_work_goes_on_after_the_answer_and_the_execution_ends_with_it(waiting: Project) -> None:
    server = waiting.start("dev")
    answers = asyncio.run(answered(waiting, server, "/late", "/caller", "/late_py"))
    assert [answer.json() for answer in answers.values()] == [{"n": 1}, {"n": 1}, {"n": 2}]

    late = waiting.json("trace", answers["/late"].headers["x-request-id"])
    assert (late["status"], late["outcome"], late["output"]) == (200, "ok", {"n": 1})
    assert [call["op"] for call in late["host_calls"]] == ["db.sql"]
    assert [line["message"] for line in late["logs"]] == ["worked"]
    assert 0 < late["answered_ms"] < late["host_calls"][0]["duration_ms"] < late["duration_ms"]
    assert [change["op"] for change in late["mutations"]] == ["UPDATE"]

    (child,) = waiting.json("trace", answers["/caller"].headers["x-request-id"])["children"]
    assert (child["outcome"], [line["message"] for line in child["logs"]]) == ("ok", ["worked"])

    failed = "functions/late_py/main.py:3: Work handed to ctx.wait_until failed: ValueError: bad"
    python = waiting.json("trace", answers["/late_py"].headers["x-request-id"])
    assert (python["status"], python["outcome"], python["warnings"]) == (200, "ok", [failed])
    server.wait_for(r"! functions/late_py/main\.py:3: Work handed to ctx\.wait_until failed")

    with httpx.Client(base_url=server.url, timeout=20, trust_env=False) as client:
        left = client.post("/left", json={}).headers["x-request-id"]
    server.wait_for(r"! functions/left/index\.ts:6: ctx\.db\.query was still open")
    assert waiting.json("trace", left)["warnings"][0].startswith(LEFT)
    assert waiting.json("why", left)["warnings"][0].startswith(LEFT)
    assert LEFT in waiting.flux("tail", "--no-follow").stdout.replace("\n", " ")
    assert server.stop() == 0


def test_a_job_is_done_when_its_work_is(waiting: Project) -> None:
    server = waiting.start("serve")

    async def push() -> None:
        async with gate(waiting) as held:
            async with httpx.AsyncClient(base_url=server.url, timeout=20, trust_env=False) as client:
                await client.post("/push", json={})
            await blocked(held, 1)
            assert await held.fetchval("SELECT status FROM flux.jobs") == "running"
            assert await held.fetchval("SELECT count(*) FROM flux.executions WHERE trigger = 'job'") == 0

    asyncio.run(push())
    eventually(lambda: waiting.json("query", "SELECT status FROM flux.jobs") == [{"status": "done"}])
    (job,) = waiting.json("query", "SELECT outcome, answered_ms FROM flux.executions WHERE trigger = 'job'")
    assert job == {"outcome": "ok", "answered_ms": None}
    assert server.stop() == 0


def test_killed_after_the_answer_it_is_interrupted_and_its_answer_is_known(waiting: Project) -> None:
    server = waiting.start("serve")

    async def kill() -> str:
        async with gate(waiting) as held:
            async with httpx.AsyncClient(base_url=server.url, timeout=20, trust_env=False) as client:
                answer = await client.post("/late", json={})
            await blocked(held, 1)
            server.kill()
        assert answer.json() == {"n": 1}
        return answer.headers["x-request-id"]

    request_id = asyncio.run(kill())
    with waiting.serving():
        eventually(lambda: waiting.json("trace", request_id)["host_calls"])
    found = waiting.json("trace", request_id)
    assert (found["outcome"], found["status"], found["output"]) == ("interrupted", 200, {"n": 1})
    assert found["duration_ms"] is None
    assert found["answered_ms"] > 0
    assert [(call["op"], call["status"]) for call in found["host_calls"]] == [("db.sql", "unknown")]
    assert waiting.flux("trace", request_id).stdout.count("interrupted") >= 1
    waiting.flux("why", request_id)


def test_a_server_told_to_stop_waits_for_work(waiting: Project) -> None:
    server = waiting.start("serve")

    async def stop() -> str:
        async with gate(waiting) as held:
            async with httpx.AsyncClient(base_url=server.url, timeout=20, trust_env=False) as client:
                answer = await client.post("/late", json={})
            await blocked(held, 1)
            server.process.terminate()
            await asyncio.to_thread(server.wait_for, "stopping")
            assert server.process.poll() is None
        return answer.headers["x-request-id"]

    request_id = asyncio.run(stop())
    assert server.process.wait(30) == 0, server.text()
    found = waiting.json("trace", request_id)
    assert (found["outcome"], [line["message"] for line in found["logs"]]) == ("ok", ["worked"])
