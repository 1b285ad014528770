"""kill -9 of one guest with 20 invocations in flight: each is answered and explained, the next one works."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import asyncpg
import httpx
import pytest

from tests.acceptance.conftest import Project, Server
from tests.acceptance.processes import guests
from tests.acceptance.provider import Provider

IN_FLIGHT = 20
DEADLINE = 120.0
"""Seconds that the functions may take: nobody is to wait for it."""

TYPESCRIPT = """\
    await ctx.db.query({ table: "notes", operation: "insert", data: { token: input.token } });
    ctx.log.info("written", { token: input.token });
    const answer = await fetch(ctx.env.PROVIDER + "/" + input.token);
    return { said: await answer.text() };"""
PYTHON = """\
import httpx

async def handler(input, ctx):
    await ctx.db.execute("insert into notes (token) values ($1)", input["token"])
    ctx.log.info("written", {"token": input["token"]})
    async with httpx.AsyncClient(timeout=None) as client:
        answer = await client.get(ctx.env["PROVIDER"] + "/" + input["token"])
    return {"said": answer.text}
"""


@pytest.fixture
def provider() -> Iterator[Provider]:
    made = Provider(holds=True)
    yield made
    made.close()


def _guest_of(server: Server, function: str) -> int:
    """The pid of the process in which the function's code lies."""
    [pid] = [pid for pid in guests(server) if Path(f"/proc/{pid}/cwd/bundle/{function}").exists()]
    return pid


@pytest.mark.parametrize("language", ["typescript", "python"])
def test_every_invocation_of_a_killed_guest_is_answered_at_once_and_explained(
    project: Project, provider: Provider, language: str
) -> None:
    project.write("schema/001.sql", "CREATE TABLE notes (token text PRIMARY KEY);")
    project.write("flux.toml", 'name = "app"\nenv = ["PROVIDER"]\n')
    project.environment["PROVIDER"] = provider.url
    if language == "typescript":
        project.typescript("pay", TYPESCRIPT, timeout_ms=int(DEADLINE * 1000))
    else:
        project.write("functions/pay/main.py", PYTHON)
        project.write("functions/pay/flux.json", json.dumps({"timeout_ms": int(DEADLINE * 1000)}))
    project.flux("db", "push")
    with project.serving() as client, ThreadPoolExecutor(IN_FLIGHT) as threads:
        server = project.servers[-1]

        def pay(token: str) -> tuple[httpx.Response, float]:
            answer = client.post("/pay", json={"token": token}, timeout=DEADLINE)
            return answer, time.monotonic()

        tokens = [f"t{n}" for n in range(IN_FLIGHT)]
        waiting = [threads.submit(pay, token) for token in tokens]
        for _ in tokens:
            assert provider.arrived.acquire(timeout=60), "not every invocation came as far as its fetch"
        pid = _guest_of(server, "pay")
        killed = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        answers = [future.result() for future in waiting]
        assert max(at for _, at in answers) - killed < DEADLINE / 4

        provider.answer.set()
        fine = client.post("/pay", json={"token": "after"})
        assert (fine.status_code, fine.json()) == (200, {"said": "paid"})
        record = project.json("trace", fine.headers["x-request-id"])
        assert _guest_of(server, "pay") != pid

        seen = project.json("trace", answers[0][0].headers["x-request-id"])
        assert (seen["status"], seen["outcome"], seen["error"]["type"]) == (502, "error", "GuestDied")
    ids = {}
    for token, (answer, _) in zip(tokens, answers, strict=True):
        assert (answer.status_code, answer.json()["error"]["type"]) == (502, "GuestDied")
        assert "SIGKILL" in answer.json()["error"]["message"]
        ids[token] = answer.headers["x-request-id"]
    asyncio.run(_check(project.environment["DATABASE_URL"], ids, provider.url, record["guest"]))


async def _check(database: str, ids: dict[str, str], provider: str, next_guest: str) -> None:
    """Each record says how it ended, with the calls and the committed row that there were."""
    connection = await asyncpg.connect(database)
    try:
        executions = {
            row["request_id"]: row for row in await connection.fetch("SELECT * FROM flux.executions")
        }
        calls, mutations, logs = [
            await connection.fetch(f"SELECT * FROM flux.{table} ORDER BY {order}")
            for table, order in (("host_calls", "seq"), ("mutations", "n"), ("logs", "seq"))
        ]
    finally:
        await connection.close()
    guests = {executions[request_id]["guest"] for request_id in ids.values()}
    assert len(guests) == 1
    assert next_guest not in guests
    for token, request_id in ids.items():
        execution = executions[request_id]
        assert (execution["status"], execution["outcome"]) == (502, "error")
        assert json.loads(execution["error"])["type"] == "GuestDied"
        assert json.loads(execution["body"]) == {"token": token}
        own = [call for call in calls if call["request_id"] == request_id]
        assert [call["status"] for call in own] == ["done", "abandoned"]
        assert own[1]["op"] == "fetch"
        assert json.loads(own[1]["arguments"])["url"] == f"{provider}/{token}"
        [row] = [row for row in mutations if row["request_id"] == request_id]
        assert (row["op"], json.loads(row["after"]), row["rolled_back"]) == (
            "INSERT",
            {"token": token},
            False,
        )
        assert [line["message"] for line in logs if line["request_id"] == request_id] == ["written"]
