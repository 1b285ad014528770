"""Two servers on one Postgres, one killed with -9 under load: the other goes on, both records are whole."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tests.acceptance.conftest import Project
from tests.acceptance.load import Load
from tests.acceptance.notes import write_in_transaction, write_notes

CLIENTS = 6
PATHS = ("/write", "/push", "/charge")


def _functions(project: Project) -> None:
    insert = '"insert into receipts (token) values ($1) on conflict do nothing"'
    write_notes(project, receipt=f"await ctx.db.sql({insert}, [input.token]);", receipt_ms=150)
    write_in_transaction(project, "charge")


@pytest.mark.parametrize("folders", ["one folder", "two folders"])
def test_one_of_two_servers_is_killed_and_the_other_takes_over_what_it_left(
    project: Project, tmp_path: Path, folders: str
) -> None:
    _functions(project)
    project.flux("db", "push")
    other = project
    if folders == "two folders":
        root = tmp_path / "other"
        (root / "functions").mkdir(parents=True)
        (root / "flux.toml").write_text('name = "app"\n')
        other = Project(root, project.environment, servers=project.servers)
        _functions(other)
    doomed, survivor = project.start("serve"), other.start("serve")

    def kill() -> None:
        # In one folder the survivor has to adopt the spool; in two the dead server's own sidecar drains it.
        doomed.kill(sidecar=other is project)

    asyncio.run(_scene(doomed.url, survivor.url, kill, project.environment["DATABASE_URL"]))
    assert survivor.stop() == 0, survivor.text()
    asyncio.run(_whole(project.environment["DATABASE_URL"]))
    assert list((project.root / ".flux" / "spool").iterdir()) == []


async def _scene(doomed_url: str, survivor_url: str, kill: Any, database: str) -> None:
    doomed, survivor = (Load(url, lambda n: PATHS[n % len(PATHS)]) for url in (doomed_url, survivor_url))
    dying, going_on = doomed.clients(CLIENTS, "d"), survivor.clients(CLIENTS, "s")
    connection = await asyncpg.connect(database)
    try:
        await asyncio.gather(doomed.answered(40), survivor.answered(40))
        await _until(
            connection, "SELECT count(DISTINCT locked_by) = 2 FROM flux.jobs WHERE status = 'running'"
        )
        kill()
        await asyncio.gather(*dying)
        before = len(survivor.answers)
        await survivor.answered(before + 60)
        for client in going_on:
            client.cancel()
        await asyncio.gather(*going_on, return_exceptions=True)
        assert survivor.ends == [], "the survivor closed a connection"
        await _until(connection, "SELECT count(*) = 0 FROM flux.jobs WHERE status IN ('queued', 'running')")
        await _until(connection, "SELECT count(*) = 1 FROM flux.spool_positions WHERE finished")
        await _check(connection, doomed, survivor)
    finally:
        await connection.close()


async def _until(connection: Any, question: str) -> None:
    until = time.monotonic() + 90
    while not await connection.fetchval(question):
        assert time.monotonic() < until, question
        await asyncio.sleep(0.02)


async def _check(connection: Any, doomed: Load, survivor: Load) -> None:
    answers = doomed.answers + survivor.answers
    assert Counter(answer.status for answer in answers) == {200: len(answers)}
    ids = [answer.request_id for answer in answers]
    await _until(
        connection, f"SELECT count(*) = {len(ids)} FROM flux.executions WHERE request_id IN {_list(ids)}"
    )
    await _until(
        connection,
        "SELECT count(*) = 0 FROM flux.jobs j "
        "LEFT JOIN flux.executions e ON e.request_id = j.last_request_id WHERE e.outcome IS NULL",
    )
    rows = await connection.fetch("SELECT * FROM flux.executions")
    executions = {row["request_id"]: row for row in rows}
    [dead] = {executions[answer.request_id]["node"] for answer in doomed.answers}
    assert {executions[answer.request_id]["node"] for answer in survivor.answers}.isdisjoint({dead})
    for answer in answers:
        execution = executions[answer.request_id]
        assert (execution["outcome"], execution["output"]) == ("ok", answer.body)
        assert json.loads(execution["body"]) == {"token": answer.token}

    jobs = await connection.fetch("SELECT * FROM flux.jobs")
    assert {job["status"] for job in jobs} == {"done"}
    pushed = [answer.token for answer in answers if answer.path == "/push"]
    named = Counter(json.loads(job["payload"])["token"] for job in jobs)
    assert set(pushed) <= set(named), "a job was lost"
    assert set(named.values()) == {1}
    assert {row["token"] for row in await connection.fetch("SELECT token FROM receipts")} == set(named)
    attempts = Counter((row["job_id"], row["job_attempt"]) for row in rows if row["trigger"] == "job")
    assert set(attempts.values()) == {1}, "an attempt ran twice"
    for job in jobs:
        runs = [row for row in rows if row["job_id"] == job["id"]]
        completed = [row for row in runs if row["outcome"] == "ok"]
        assert job["last_request_id"] in {row["request_id"] for row in completed}
        assert [row["node"] for row in completed if row["request_id"] != job["last_request_id"]] in (
            [],
            [dead],
        )
        assert {row["outcome"] for row in runs} <= {"ok", "interrupted"}
    lost = [row for row in rows if row["trigger"] == "job" and row["outcome"] == "interrupted"]
    assert lost, "no job was running in the killed server"
    assert {row["node"] for row in lost} == {dead}


def _list(ids: list[str]) -> str:
    return "(" + ", ".join(f"'{each}'" for each in ids) + ")"


async def _whole(database: str) -> None:
    """Both have ended: every committed row is explained, nothing waits anywhere, nothing was refused."""
    connection = await asyncpg.connect(database)
    try:
        assert await connection.fetchval("SELECT count(*) FROM flux.quarantine") == 0
        assert await connection.fetchval("SELECT count(*) FROM flux.spool_positions WHERE NOT finished") == 0
        assert await connection.fetchval("SELECT count(*) FROM flux.nodes WHERE stopped_at IS NULL") == 0
        unexplained = await connection.fetchval(
            "SELECT count(*) FROM flux.mutations m WHERE origin = 'flux' AND NOT EXISTS "
            "(SELECT FROM flux.executions e WHERE e.request_id = m.request_id AND e.day = m.day)"
        )
        assert unexplained == 0
        notes = await connection.fetchval("SELECT count(*) FROM notes")
        inserted = await connection.fetchval(
            "SELECT count(*) FROM flux.mutations WHERE table_name = 'notes' AND NOT rolled_back"
        )
        assert notes == inserted
    finally:
        await connection.close()
