"""kill -9 under load: what a client was told is recorded, once; what was committed or sent is explained.

Every job is done too. FLUX_CRASH_ROUNDS sets how often the server is killed; `scripts/soak` does it 50
times.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import asyncpg
import pytest

from tests.acceptance.conftest import Project, Server
from tests.acceptance.load import Answer, Load
from tests.acceptance.provider import Provider

ROUNDS = int(os.environ.get("FLUX_CRASH_ROUNDS", "5"))
CLIENTS = 16
PATHS = ("/write", "/transact", "/refuse", "/charge", "/push", "/order")
WRITES = {
    "write": ["INSERT"],
    "transact": ["INSERT", "UPDATE"],
    "refuse": [],
    "charge": ["INSERT"],
    "push": ["INSERT"],
    "order": ["INSERT"],
}
"""The committed changes of each function to `notes`."""


@pytest.fixture
def provider() -> Iterator[Provider]:
    made = Provider()
    yield made
    made.close()


def _project(project: Project, provider: Provider) -> None:
    project.write("flux.toml", 'name = "app"\nenv = ["PROVIDER"]\n')
    project.environment["PROVIDER"] = provider.url
    project.write(
        "schema/001.sql",
        "CREATE TABLE notes (token text PRIMARY KEY, extra text CHECK (extra <> 'forbidden'));\n"
        "CREATE TABLE receipts (token text PRIMARY KEY, times integer NOT NULL);",
    )
    project.typescript(
        "write",
        "    const data = { token: input.token };\n"
        '    const [row] = await ctx.db.query({ table: "notes", operation: "insert", data });\n'
        '    ctx.log.info("written", { token: row.token });\n'
        "    return { token: row.token, random: Math.random() };",
    )
    project.typescript(
        "transact",
        "    return await ctx.db.transaction(async (tx) => {\n"
        '      await tx.sql("insert into notes (token) values ($1)", [input.token]);\n'
        "      await tx.sql(\"update notes set extra = 'x' where token = $1\", [input.token]);\n"
        "      return { token: input.token };\n"
        "    });",
    )
    project.typescript(
        "refuse",
        "    return await ctx.db.transaction(async (tx) => {\n"
        '      await tx.sql("insert into notes (token) values ($1)", [input.token]);\n'
        "      await tx.sql(\"update notes set extra = 'forbidden' where token = $1\", [input.token]);\n"
        "    });",
    )
    project.write(
        "functions/charge/main.py",
        "import random\n\n"
        "async def handler(input, ctx):\n"
        "    async with ctx.db.transaction() as tx:\n"
        "        await tx.execute('insert into notes (token) values ($1)', input['token'])\n"
        "    ctx.log.info('charged', {'token': input['token']})\n"
        "    return {'token': input['token'], 'random': random.random()}\n",
    )
    project.typescript(
        "push",
        "    await ctx.db.transaction(async (tx) => {\n"
        '      await tx.sql("insert into notes (token) values ($1)", [input.token]);\n'
        '      await tx.queue.push("receipt", { token: input.token }, { maxAttempts: 50 });\n'
        "    });\n"
        "    return { token: input.token };",
    )
    project.write(
        "functions/receipt/main.py",
        "async def handler(input, ctx):\n"
        "    await ctx.db.execute('insert into receipts values ($1, 1) on conflict (token) '\n"
        "                         'do update set times = receipts.times + 1', input['token'])\n"
        "    await ctx.sleep(20)\n",
    )
    project.typescript(
        "order",
        '    const paid = await (await fetch(ctx.env.PROVIDER + "/" + input.token)).text();\n'
        '    await ctx.db.query({ table: "notes", operation: "insert", data: { token: input.token } });\n'
        "    return { token: input.token, paid };",
    )
    project.flux("db", "push")


async def _round(server: Server, number: int) -> Load:
    load = Load(server.url, lambda n: PATHS[n % len(PATHS)])
    clients = load.clients(CLIENTS, f"r{number}")
    await load.answered(2 * CLIENTS + 37 * (number % 4))
    server.kill(sidecar=number % 3 == 2)
    await asyncio.gather(*clients)
    return load


@pytest.mark.timeout(1800)
def test_nothing_acknowledged_is_lost_and_nothing_stands_twice_after_kill_9(
    project: Project, provider: Provider
) -> None:
    _project(project, provider)
    loads = []
    for number in range(ROUNDS):
        server = project.start("serve")
        loads.append(asyncio.run(_round(server, number)))
    url = project.environment["DATABASE_URL"]
    with project.serving():
        asyncio.run(_jobs_end(url))
    answers = [answer for load in loads for answer in load.answers]
    sent = {token for load in loads for token in load.sent}
    asyncio.run(_check(url, answers, sent, provider.asked))
    assert list((project.root / ".flux" / "spool").iterdir()) == []


async def _jobs_end(url: str) -> None:
    """Wait until every job and every spool, but for the one in use, has come to its end."""
    connection = await asyncpg.connect(url)
    try:
        until = time.monotonic() + 120
        waiting = "SELECT count(*) FROM flux.jobs WHERE status IN ('queued', 'running')"
        undrained = "SELECT count(*) - 1 FROM flux.spool_positions WHERE NOT finished"
        while await connection.fetchval(waiting) or await connection.fetchval(undrained) > 0:
            assert time.monotonic() < until, "a job or a spool was left"
            await asyncio.sleep(0.05)
    finally:
        await connection.close()


async def _check(url: str, answers: list[Answer], sent: set[str], asked: list[str]) -> None:
    connection = await asyncpg.connect(url)
    try:
        assert await connection.fetchval("SELECT count(*) FROM flux.spool_positions WHERE NOT finished") == 0
        assert await connection.fetchval("SELECT count(*) FROM flux.nodes WHERE stopped_at IS NULL") == 0
        refused = await connection.fetch("SELECT spool_id, reason, request_id, record FROM flux.quarantine")
        executions = {
            row["request_id"]: row for row in await connection.fetch("SELECT * FROM flux.executions")
        }
        calls: dict[str, list[Any]] = {}
        for row in await connection.fetch("SELECT * FROM flux.host_calls ORDER BY request_id, seq"):
            calls.setdefault(row["request_id"], []).append(row)
        spans: dict[str, int] = dict(
            await connection.fetch("SELECT request_id, count(*) FROM flux.spans GROUP BY request_id")
        )
        mutations: dict[str, list[Any]] = {}
        for row in await connection.fetch(
            "SELECT *, coalesce(after, before) ->> 'token' AS token FROM flux.mutations "
            "WHERE table_name = 'notes' ORDER BY n"
        ):
            mutations.setdefault(row["token"], []).append(row)
        unexplained = await connection.fetchval(
            "SELECT count(*) FROM flux.mutations m WHERE origin = 'flux' AND NOT EXISTS "
            "(SELECT FROM flux.executions e WHERE e.request_id = m.request_id AND e.day = m.day)"
        )
        rows = {row["token"] for row in await connection.fetch("SELECT token FROM notes")}
        jobs = await connection.fetch("SELECT * FROM flux.jobs")
        receipts = dict(await connection.fetch("SELECT token, times FROM receipts"))
    finally:
        await connection.close()

    # SIGKILL can end a write between two pages: a spool's last record is then torn, and nobody was answered.
    assert {row["reason"] for row in refused} <= {"Damaged: an incomplete record."}, refused
    assert set(Counter(row["spool_id"] for row in refused).values()) <= {1}, refused
    assert unexplained == 0, "a committed row names no execution"
    assert len({answer.request_id for answer in answers}) == len(answers)
    for answer in answers:
        execution = executions[answer.request_id]
        function = execution["function"]
        expected = 500 if function == "refuse" else 200
        assert (execution["status"], answer.status) == (expected, expected)
        assert json.loads(execution["body"])["token"] == answer.token
        made = calls[answer.request_id]
        assert all(call["status"] == "done" for call in made)
        traced = [call for call in made if call["op"] in ("db.query", "db.sql", "fetch")]
        assert spans[answer.request_id] >= 2 + len(traced)
        own = [m for m in mutations.get(answer.token, []) if m["request_id"] == answer.request_id]
        assert own == mutations.get(answer.token, []), "a row's mutation belongs to another execution"
        if function == "refuse":
            assert execution["error"] is not None
            assert [m["rolled_back"] for m in own] == [True]
        else:
            assert execution["output"] == answer.body
            assert [(m["op"], m["rolled_back"]) for m in own] == [(op, False) for op in WRITES[function]]
        assert (answer.token in rows) == (function != "refuse")

    assert rows <= sent
    for token in rows:
        committed = [m for m in mutations[token] if not m["rolled_back"]]
        [made_by] = {m["request_id"] for m in committed}
        assert [m["op"] for m in committed] == WRITES[executions[made_by]["function"]]

    told = {answer.request_id for answer in answers}
    interrupted = {i for i, execution in executions.items() if execution["outcome"] == "interrupted"}
    assert interrupted
    assert interrupted.isdisjoint(told)
    assert {execution["outcome"] for execution in executions.values()} <= {"ok", "error", "interrupted"}
    _check_fetches(executions, calls, asked)
    _check_jobs(executions, rows, jobs, receipts)


def _check_fetches(executions: dict[str, Any], calls: dict[str, list[Any]], asked: list[str]) -> None:
    """What was sent is in the record, and what the record says was answered was sent; none twice."""
    recorded: dict[str, str] = {}
    for request_id, made in calls.items():
        for call in made:
            if call["op"] == "fetch":
                token = json.loads(call["arguments"])["url"].rpartition("/")[2]
                assert token not in recorded
                assert executions[request_id]["function"] == "order"
                recorded[token] = call["status"]
    assert set(Counter(asked).values()) == {1}
    assert set(asked) <= set(recorded), "a request left that is in no record"
    assert {token for token, status in recorded.items() if status == "done"} <= set(asked)
    assert set(recorded.values()) <= {"done", "unknown"}


def _check_jobs(
    executions: dict[str, Any], rows: set[str], jobs: list[Any], receipts: dict[str, int]
) -> None:
    """Each committed push is one job, done; each attempt ran at most once; attempts that were lost show."""
    pushed = {
        json.loads(execution["body"])["token"]: execution["request_id"]
        for execution in executions.values()
        if execution["function"] == "push"
    }
    named = {json.loads(job["payload"])["token"]: job for job in jobs}
    assert len(named) == len(jobs), "a push made two jobs"
    assert set(named) == {token for token in pushed if token in rows}
    assert set(receipts) == set(named), "a job was lost, or one ran that was never committed"
    runs: dict[str, list[Any]] = {}
    for execution in executions.values():
        if execution["trigger"] == "job":
            runs.setdefault(execution["job_id"], []).append(execution)
    for token, job in named.items():
        assert job["status"] == "done"
        assert job["pushed_by"] == pushed[token]
        ran = runs[job["id"]]
        attempts = [execution["job_attempt"] for execution in ran]
        assert len(set(attempts)) == len(attempts), "an attempt ran twice"
        assert max(attempts) == job["attempt"]
        last = executions[job["last_request_id"]]
        assert (last["outcome"], last["job_attempt"]) == ("ok", job["attempt"])
        assert {execution["outcome"] for execution in ran} <= {"ok", "interrupted"}
        assert receipts[token] <= len(ran)
