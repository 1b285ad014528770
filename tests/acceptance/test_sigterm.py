"""SIGTERM under load: every request that was accepted is answered and recorded, nothing is cut or lost."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import asyncpg
import httpx

from tests.acceptance.conftest import Project, Server
from tests.acceptance.load import Load
from tests.acceptance.notes import write_in_transaction, write_notes
from tests.line import Line

CLIENTS = 16
PATHS = ("/write", "/slow", "/push")


def _project(project: Project) -> None:
    insert = 'await ctx.db.query({ table: "receipts", operation: "insert", data: { token: input.token } });'
    write_notes(project, receipt=insert, receipt_ms=50)
    write_in_transaction(project, "slow", hold_ms=400)
    project.flux("db", "push")


async def _stop_under_load(server: Server) -> Load:
    load = Load(server.url, lambda n: PATHS[n % len(PATHS)])
    clients = load.clients(CLIENTS, "c")
    await load.answered(6 * CLIENTS)
    server.process.terminate()
    async with asyncio.timeout(60):
        await asyncio.gather(*clients)
    return load


def test_a_server_told_to_stop_answers_and_records_all_that_it_accepted(project: Project) -> None:
    _project(project)
    server = project.start("serve")
    load = asyncio.run(_stop_under_load(server))
    assert server.process.wait(60) == 0, server.text()
    assert "Traceback" not in server.text()
    assert set(load.ends) <= {"closed", "reset"}, "an answer was cut in the middle"
    assert [answer for answer in load.answers if answer.status != 200] == []
    last = [answer for answer in load.answers if answer.headers.get("connection") == "close"]
    assert {answer.path for answer in last} >= {"/slow"}, "who was answered last is told that it was the last"
    assert list((project.root / ".flux" / "spool").iterdir()) == []

    jobs = asyncio.run(_check(project.environment["DATABASE_URL"], load))
    assert {job["status"] for job in jobs} <= {"done", "queued"}
    assert {job["attempt"] for job in jobs if job["status"] == "queued"} <= {0}, (
        "what never ran was given back"
    )
    with project.serving():
        asyncio.run(_all_done(project.environment["DATABASE_URL"], load))


async def _check(url: str, load: Load) -> list[Any]:
    """The record and the clients tell the same story."""
    connection = await asyncpg.connect(url)
    try:
        executions = {
            row["request_id"]: row
            for row in await connection.fetch("SELECT * FROM flux.executions WHERE trigger = 'http'")
        }
        notes = {row["token"] for row in await connection.fetch("SELECT token FROM notes")}
        jobs: list[Any] = await connection.fetch("SELECT * FROM flux.jobs")
        unfinished = await connection.fetchval("SELECT count(*) FROM flux.spool_positions WHERE NOT finished")
        ended_well = await connection.fetchval("SELECT count(*) FROM flux.executions WHERE outcome <> 'ok'")
        assert await connection.fetchval("SELECT bool_and(stopped_at IS NOT NULL) FROM flux.nodes")
    finally:
        await connection.close()
    assert (unfinished, ended_well) == (0, 0)
    assert executions.keys() == {answer.request_id for answer in load.answers}
    for answer in load.answers:
        execution = executions[answer.request_id]
        assert (execution["status"], execution["output"]) == (200, answer.body)
        assert json.loads(execution["body"]) == {"token": answer.token}
    assert notes == {answer.token for answer in load.answers}
    assert notes.isdisjoint(load.unanswered)
    pushed = {json.loads(job["payload"])["token"] for job in jobs}
    assert pushed == {answer.token for answer in load.answers if answer.path == "/push"}
    return jobs


async def _all_done(url: str, load: Load) -> None:
    connection = await asyncpg.connect(url)
    try:
        until = time.monotonic() + 60
        while await connection.fetchval("SELECT count(*) FROM flux.jobs WHERE status <> 'done'"):
            assert time.monotonic() < until, "a job was left"
            await asyncio.sleep(0.05)
        assert await connection.fetchval("SELECT max(attempt) FROM flux.jobs") == 1
        receipts = {row["token"] for row in await connection.fetch("SELECT token FROM receipts")}
    finally:
        await connection.close()
    assert receipts == {answer.token for answer in load.answers if answer.path == "/push"}


async def test_a_server_whose_postgres_never_answers_again_ends_all_the_same(project: Project) -> None:
    project.typescript("plain", "    return input;")
    project.typescript("push", '    await ctx.queue.push("plain", {}); return 1;')
    project.write("flux.toml", 'name = "app"\nstop_timeout_ms = 3000\n')
    direct = project.environment["DATABASE_URL"]
    async with Line(direct).laid() as line:
        project.environment["DATABASE_URL"] = line.url
        server = await asyncio.to_thread(project.start, "serve")
        async with httpx.AsyncClient(base_url=server.url, timeout=60, trust_env=False) as client:
            assert (await client.post("/push", json={})).status_code == 200
            line.silence()
            held = asyncio.create_task(client.post("/push", json={}))
            told = [await client.post("/plain", json={"n": n}) for n in range(5)]
            server.process.terminate()
            assert await asyncio.to_thread(server.process.wait, 60) in (0, 1)
            held.cancel()
            await asyncio.gather(held, return_exceptions=True)
        assert "Traceback" not in server.text()
    project.environment["DATABASE_URL"] = direct
    for answer in told:
        shown = await asyncio.to_thread(project.json, "trace", answer.headers["x-request-id"])
        assert (shown["outcome"], shown["output"]) == ("ok", json.loads(answer.content))
