"""kill -9 under load: what a client was told is recorded, what was committed is explained, nothing stands
twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
from dataclasses import dataclass
from typing import Any

import asyncpg
import pytest

from tests.acceptance.conftest import Project, Server

ROUNDS = int(os.environ.get("FLUX_CRASH_ROUNDS", "10"))
CLIENTS = 16


@dataclass(frozen=True)
class Answer:
    token: str
    request_id: str
    status: int
    body: bytes


async def _client(host: str, port: int, prefix: str, answers: list[Answer], sent: set[str]) -> None:
    """Send requests one after the other until the server is gone."""
    count = 0
    reader, writer = await asyncio.open_connection(host, port)
    try:
        while True:
            count += 1
            token = f"{prefix}-{count}"
            path = ("/write", "/transact", "/refuse")[count % 3]
            body = json.dumps({"token": token}).encode()
            head = f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
            head += f"content-length: {len(body)}\r\n\r\n"
            sent.add(token)
            writer.write(head.encode() + body)
            raw = await reader.readuntil(b"\r\n\r\n")
            lines = raw.decode().split("\r\n")
            headers = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
            output = await reader.readexactly(int(headers["content-length"]))
            answers.append(Answer(token, headers["x-request-id"], int(lines[0].split()[1]), output))
    except (OSError, asyncio.IncompleteReadError):
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def _load(server: Server, prefix: str, seconds: float, answers: list[Answer], sent: set[str]) -> None:
    host, port = server.url.removeprefix("http://").split(":")
    clients = [
        asyncio.create_task(_client(host, int(port), f"{prefix}-{n}", answers, sent)) for n in range(CLIENTS)
    ]
    await asyncio.sleep(seconds)
    server.kill()
    await asyncio.gather(*clients)


def _project(project: Project) -> None:
    project.write(
        "schema/001.sql",
        "CREATE TABLE notes (token text PRIMARY KEY, extra text CHECK (extra <> 'forbidden'));",
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
    project.flux("db", "push")


@pytest.mark.timeout(600)
def test_nothing_acknowledged_is_lost_and_nothing_stands_twice_after_kill_9(project: Project) -> None:
    _project(project)
    answers: list[Answer] = []
    sent: set[str] = set()
    for number in range(ROUNDS):
        server = project.start("serve")
        before = len(answers)
        asyncio.run(_load(server, f"r{number}", 0.4 + 0.13 * (number % 4), answers, sent))
        assert len(answers) > before, f"no request was answered in round {number}:\n{server.text()}"
    with project.serving():
        pass
    asyncio.run(_check(project.environment["DATABASE_URL"], answers, sent))


async def _settled(connection: Any) -> None:
    """Wait until every spool has been drained to its end."""
    deadline = time.monotonic() + 30
    while await connection.fetchval("SELECT count(*) FROM flux.spool_positions WHERE NOT finished"):
        assert time.monotonic() < deadline, "a spool was left undrained"
        await asyncio.sleep(0.05)


async def _check(url: str, answers: list[Answer], sent: set[str]) -> None:
    connection = await asyncpg.connect(url)
    try:
        await _settled(connection)
        executions = {
            row["request_id"]: row
            for row in await connection.fetch(
                "SELECT request_id, status, outcome, output, body, error, function FROM flux.executions"
            )
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
        rows = {row["token"] for row in await connection.fetch("SELECT token FROM notes")}
        quarantined = await connection.fetchval("SELECT count(*) FROM flux.quarantine")
    finally:
        await connection.close()

    assert quarantined == 0
    assert len({answer.request_id for answer in answers}) == len(answers)
    for answer in answers:
        execution = executions[answer.request_id]
        expected = 500 if execution["function"] == "refuse" else 200
        assert (execution["status"], answer.status) == (expected, expected)
        assert json.loads(execution["body"])["token"] == answer.token
        made = calls[answer.request_id]
        assert all(call["status"] == "done" for call in made)
        assert spans[answer.request_id] >= 2 + len([c for c in made if c["op"] in ("db.query", "db.sql")])
        own = [m for m in mutations.get(answer.token, []) if m["request_id"] == answer.request_id]
        assert own == mutations.get(answer.token, []), "a row's mutation belongs to another execution"
        if execution["function"] == "refuse":
            assert execution["error"] is not None
            assert answer.token not in rows
            assert [m["rolled_back"] for m in own] == [True]
        else:
            assert execution["output"] == answer.body
            assert answer.token in rows
            expected_ops = ["INSERT"] if execution["function"] == "write" else ["INSERT", "UPDATE"]
            assert [(m["op"], m["rolled_back"]) for m in own] == [(op, False) for op in expected_ops]

    assert rows <= sent
    for token in rows:
        made_by = [m for m in mutations[token] if not m["rolled_back"]]
        assert [m["op"] for m in made_by] in (["INSERT"], ["INSERT", "UPDATE"])
        assert {m["request_id"] for m in made_by} <= set(executions), "a committed row names no execution"

    told = {answer.request_id for answer in answers}
    for request_id, execution in executions.items():
        if execution["outcome"] == "interrupted":
            assert request_id not in told
        assert execution["outcome"] in ("ok", "error", "interrupted")
    assert any(execution["outcome"] == "interrupted" for execution in executions.values())
