"""Postgres frozen, killed, stopped, crowded and slow: what doesn't need it goes on, what does fails clearly
and in time, and every record is there afterwards, once.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import httpx
import pytest

from flux.store import embedded
from tests.acceptance.conftest import Project, environment
from tests.acceptance.own_postgres import OwnPostgres, eventually

FROZEN = float(os.environ.get("FLUX_FROZEN_SECONDS", "10"))
LATE = 20.0
"""Seconds beyond a deadline that a loaded machine may take to say that it has passed."""


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[tuple[Project, OwnPostgres]]:
    """A project on an embedded Postgres of its own."""
    root = tmp_path / "app"
    project = Project(root, environment(FLUX_MASTER_KEY="5a" * 32))
    project.write("flux.toml", 'name = "app"\n')
    project.write(
        "schema/001.sql", "CREATE TABLE notes (id bigint GENERATED ALWAYS AS IDENTITY, token text);"
    )
    project.typescript("plain", "    ctx.log.info('seen', { token: input });\n    return input;")
    sql = 'await ctx.db.sql("insert into notes (token) values ($1)", [input]);'
    project.typescript("write", f"    {sql}\n    return input;", timeout_ms=2000)
    project.typescript(
        "careful",
        f"    try {{\n      {sql}\n      return 'written';\n"
        "    } catch (error) { return (error as { type: string }).type; }",
        timeout_ms=5000,
    )
    project.write(
        "functions/careful_py/main.py",
        "async def handler(input, ctx):\n    try:\n"
        '        await ctx.db.execute("insert into notes (token) values ($1)", input)\n'
        '        return "written"\n    except Exception as error:\n        return error.type\n',
    )
    project.typescript("push", "    return await ctx.queue.push('plain', input);", timeout_ms=3000)
    with embedded.acquire(root / ".flux") as lease:
        try:
            project.flux("db", "push")
            yield project, OwnPostgres(root / ".flux", lease)
        finally:
            project.end()


@contextlib.asynccontextmanager
async def talking(url: str) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=url, timeout=60, trust_env=False) as client:
        yield client


async def _chat(client: httpx.AsyncClient, path: str, stop: asyncio.Event) -> list[httpx.Response]:
    """One request after the other until told to stop."""
    answers = []
    while not stop.is_set():
        answers.append(await client.post(path, json=f"{path} {len(answers)}"))
        await asyncio.sleep(0.01)
    return answers


async def _all_there_once(postgres: OwnPostgres, answers: list[httpx.Response]) -> None:
    """Every answer's record arrives, once, with the status that was answered and the body that was sent."""
    ids = [answer.headers["x-request-id"] for answer in answers]
    assert len(set(ids)) == len(ids)
    count = "SELECT count(*) >= $2 FROM flux.executions WHERE request_id = ANY ($1::text[])"
    await postgres.until(count, ids, len(ids))
    rows = await postgres.ask(
        "SELECT request_id, status, body FROM flux.executions WHERE request_id = ANY ($1::text[])", ids
    )
    found = {row["request_id"]: row for row in rows}
    assert len(rows) == len(found) == len(ids)
    for answer in answers:
        row = found[answer.headers["x-request-id"]]
        assert (row["status"], row["body"] or b"") == (answer.status_code, answer.request.content)
    [[quarantined]] = await postgres.ask("SELECT count(*) FROM flux.quarantine")
    assert quarantined == 0


async def _jobs_done(postgres: OwnPostgres) -> None:
    """Every job comes to be done; those that don't are named."""
    sql = (
        "SELECT id, status, attempt, locked_by, lease_until - now(), run_at - now(), last_error "
        "FROM flux.jobs WHERE status <> 'done'"
    )
    await eventually(lambda: postgres.ask(sql), lambda rows: not rows)


async def _rows_are_explained(postgres: OwnPostgres) -> None:
    """Every row in `notes` was written by one recorded mutation of one recorded execution."""
    unexplained = await postgres.ask(
        "SELECT n.id FROM notes n LEFT JOIN flux.mutations m ON m.table_name = 'notes' AND NOT m.rolled_back "
        "AND (m.after ->> 'id')::bigint = n.id LEFT JOIN flux.executions e USING (request_id) "
        "GROUP BY n.id HAVING count(e.request_id) <> 1"
    )
    assert unexplained == []


async def test_frozen_for_ten_seconds(alone: tuple[Project, OwnPostgres]) -> None:
    project, postgres = alone
    server = project.start()
    async with talking(server.url) as client:
        before = [await client.post(path, json="before") for path in ("/plain", "/write", "/push")]
        assert [answer.status_code for answer in before] == [200] * 3
        stop = asyncio.Event()
        with postgres.frozen():
            began = time.monotonic()
            chats = [asyncio.create_task(_chat(client, "/plain", stop)) for _ in range(2)]
            needing = [
                asyncio.create_task(client.post(path, json="during"))
                for path in ("/write", "/careful", "/careful_py", "/push", "/write")
            ]
            refused = await asyncio.wait_for(asyncio.gather(*needing[:2], *needing[3:]), 5 + LATE)
            written, careful, *more = refused
            assert {answer.status_code for answer in (written, *more)} == {504}
            # It catches what its statement comes to, perhaps just before its own time is over.
            assert careful.status_code == 504 or careful.json() != "written", careful.text
            assert time.monotonic() - began < 5 + LATE
            ready = await client.get("/_flux/ready")
            assert ready.json()["postgres"] is False
            await asyncio.sleep(max(0.0, FROZEN - (time.monotonic() - began)))
            stop.set()
            during = [answer for chat in chats for answer in await chat]
        assert {answer.status_code for answer in during} == {200}
        assert len(during) > FROZEN
        slow = await asyncio.wait_for(needing[2], 60)

        async def write() -> httpx.Response:
            return await client.post("/write", json="after")

        after = await eventually(write, lambda answer: answer.status_code == 200, 30)
        answers = [*before, *refused, *during, slow, after]
        await _all_there_once(postgres, answers)
        await _jobs_done(postgres)
        await postgres.until(
            "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE query LIKE 'insert into notes%' "
            "AND state <> 'idle')"
        )
        await _rows_are_explained(postgres)
    assert server.stop() == 0
    assert "Traceback" not in server.text()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
async def test_ended_under_load_and_started_again_by_its_keeper(
    alone: tuple[Project, OwnPostgres], number: signal.Signals
) -> None:
    project, postgres = alone
    server = project.start()
    async with talking(server.url) as client:
        stop = asyncio.Event()
        paths = ("/plain", "/plain", "/careful", "/careful_py", "/push")
        chats = [asyncio.create_task(_chat(client, path, stop)) for path in paths]
        await postgres.until("SELECT count(*) > 20 FROM flux.executions")
        await asyncio.to_thread(postgres.end, number)
        await postgres.until("SELECT true", seconds=30)

        async def written() -> str:
            return str((await client.post("/careful", json="again")).json())

        await eventually(written, lambda said: said == "written", 30)
        stop.set()
        plain, more, careful, careful_py, pushes = [await chat for chat in chats]
        assert {answer.status_code for answer in (*plain, *more, *careful, *careful_py)} == {200}
        said = Counter(answer.json() for answer in (*careful, *careful_py))
        assert said["written"] > 0
        assert set(said) <= {
            "written",
            "connection_failure",
            "admin_shutdown",
            "crash_shutdown",
            "cannot_connect_now",
            "sqlclient_unable_to_establish_sqlconnection",
        }, said
        assert {answer.status_code for answer in pushes} <= {200, 500, 503}
        assert all("retry-after" in answer.headers for answer in pushes if answer.status_code == 503)
        await _all_there_once(postgres, [*plain, *more, *careful, *careful_py, *pushes])
        written_rows = await postgres.ask("SELECT token, count(*) FROM notes GROUP BY token")
        told = Counter(
            answer.request.content.decode()[1:-1]
            for answer in (*careful, *careful_py)
            if answer.json() == "written"
        )
        there = dict(map(tuple, written_rows))
        assert all(there[token] >= count for token, count in told.items())
        await _jobs_done(postgres)
        jobs = {answer.json()["id"] for answer in pushes if answer.status_code == 200}
        done = await postgres.ask("SELECT id FROM flux.jobs WHERE status = 'done'")
        assert jobs <= {row["id"] for row in done}
        await _rows_are_explained(postgres)
    assert server.stop() == 0
    assert "Traceback" not in server.text()


async def test_without_a_connection_left(alone: tuple[Project, OwnPostgres]) -> None:
    project, postgres = alone
    project.write("flux.toml", 'name = "app"\npool_size = 2\n')
    server = project.start()
    async with talking(server.url) as client:
        assert (await client.post("/careful", json="before")).json() == "written"
        crowd: list[asyncpg.Connection] = []
        mine = await asyncpg.connect(**postgres.lease.connect_args)
        await mine.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE pid <> pg_backend_pid() AND application_name LIKE 'flux%'"
        )
        with contextlib.suppress(asyncpg.TooManyConnectionsError):
            while True:
                crowd.append(await asyncpg.connect(**postgres.lease.connect_args))
        answers = [await client.post(path, json="crowded") for path in ("/plain", "/careful", "/careful_py")]
        assert [answer.status_code for answer in answers] == [200] * 3
        assert answers[0].json() == "crowded"
        assert {answer.json() for answer in answers[1:]} == {"too_many_connections"}
        failed = await client.post("/write", json="crowded")
        assert (failed.status_code, failed.json()["error"]["type"]) == (503, "too_many_connections")
        assert int(failed.headers["retry-after"]) > 0
        for connection in (mine, *crowd):
            await connection.close()
        after = await client.post("/careful", json="after")
        assert after.json() == "written"
        pushed = await eventually(
            lambda: client.post("/push", json="after"), lambda answer: answer.status_code == 200
        )
        await _all_there_once(postgres, [*answers, failed, after, pushed])
        await _jobs_done(postgres)
    assert server.stop() == 0
    assert "Traceback" not in server.text()


async def test_locked_tables_of_the_record_hold_up_the_drain_alone(
    alone: tuple[Project, OwnPostgres],
) -> None:
    project, postgres = alone
    server = project.start()
    async with talking(server.url) as client:
        assert (await client.post("/careful", json="before")).json() == "written"
        holder = await asyncpg.connect(**postgres.lease.connect_args)
        async with holder.transaction():
            await holder.execute("LOCK TABLE flux.executions IN ACCESS EXCLUSIVE MODE")
            answers = [
                await client.post(path, json=f"{n}") for n in range(60) for path in ("/plain", "/careful")
            ]
            assert {answer.status_code for answer in answers} == {200}
            # The drain waits for the lock, and the spool has it all.
            blocked = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE application_name = 'flux sidecar' "
            await eventually(lambda: holder.fetchval(blocked + "AND wait_event_type = 'Lock')"), bool)
            [spool] = (project.root / ".flux/spool").iterdir()
            held = b"".join(path.read_bytes() for path in sorted(spool.glob("*.seg")))
            for answer in answers:
                assert answer.headers["x-request-id"].encode() in held
        await holder.close()
        await _all_there_once(postgres, answers)
        await _rows_are_explained(postgres)
    assert server.stop() == 0


async def test_the_drains_backend_killed_in_the_middle_of_a_copy(
    alone: tuple[Project, OwnPostgres],
) -> None:
    project, postgres = alone
    server = project.start()
    async with talking(server.url) as client:
        answers = [await client.post("/plain", json="before")]
        await _all_there_once(postgres, answers)
        holder = await asyncpg.connect(**postgres.lease.connect_args)
        await holder.execute("BEGIN; LOCK TABLE flux.executions IN SHARE MODE")
        # More than the sockets on the way hold: the drain waits until it may write.
        answers += [await client.post("/plain", json=f"{n}" + "x" * 200_000) for n in range(40)]
        assert {answer.status_code for answer in answers} == {200}
        waiting = (
            "SELECT pid FROM pg_stat_activity WHERE application_name = 'flux sidecar' "
            "AND wait_event_type = 'Lock' AND query LIKE 'COPY%'"
        )
        backend = await eventually(lambda: holder.fetchval(waiting), lambda pid: pid is not None)
        os.kill(backend, signal.SIGKILL)
        await eventually(lambda: asyncio.sleep(0, holder.is_closed()), bool)
        await _all_there_once(postgres, answers)
    assert server.stop() == 0
    assert "Traceback" not in server.text()


async def test_a_statement_past_its_functions_deadline_is_cancelled_in_postgres(
    alone: tuple[Project, OwnPostgres],
) -> None:
    project, postgres = alone
    project.write(
        "schema/002.sql",
        "CREATE TABLE slow (id int);\n"
        "CREATE FUNCTION nap() RETURNS trigger LANGUAGE plpgsql AS "
        "$$BEGIN PERFORM pg_sleep(300); RETURN new; END$$;\n"
        "CREATE TRIGGER nap BEFORE INSERT ON slow FOR EACH ROW EXECUTE FUNCTION nap();",
    )
    project.typescript(
        "trigger", "    await ctx.db.sql('insert into slow /*late*/ values (1)');", timeout_ms=700
    )
    project.typescript(
        "inside",
        "    await ctx.db.transaction(async (tx) => {\n"
        "      await tx.sql('insert into notes (token) values ($1)', ['lost']);\n"
        "      await tx.sql('select pg_sleep(300) /*late*/');\n    });",
        timeout_ms=700,
    )
    project.write(
        "functions/sleepy/main.py",
        "async def handler(input, ctx):\n    await ctx.db.fetch('select pg_sleep(300) /*late*/')\n",
    )
    project.write("functions/sleepy/flux.json", '{"timeout_ms": 700}')
    project.flux("db", "push")
    server = project.start()
    async with talking(server.url) as client:
        paths = ("/trigger", "/inside", "/sleepy")
        answers = await asyncio.gather(*(client.post(path) for path in paths for _ in range(3)))
        assert {answer.status_code for answer in answers} == {504}
        await postgres.until(
            "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE query LIKE '%/*late*/%' "
            "AND state <> 'idle' AND pid <> pg_backend_pid())",
            seconds=20,
        )
        assert (await client.post("/careful", json="after")).json() == "written"
        await _all_there_once(postgres, answers)
        rows = await postgres.ask("SELECT token FROM notes")
        assert [row["token"] for row in rows] == ["after"]
        calls = await postgres.ask(
            "SELECT c.status FROM flux.host_calls c JOIN flux.executions e USING (request_id) "
            "WHERE e.status = 504 AND convert_from(arguments, 'UTF8') LIKE '%late%'"
        )
        assert [row["status"] for row in calls] == ["abandoned"] * 9
    assert server.stop() == 0
    assert "Traceback" not in server.text()


async def test_with_durability_postgres_an_answer_that_cannot_be_confirmed_is_503(
    alone: tuple[Project, OwnPostgres],
) -> None:
    project, postgres = alone
    project.write("flux.toml", 'name = "app"\ndurability = "postgres"\nconfirm_timeout_ms = 400\n')
    server = project.start()
    async with talking(server.url) as client:
        fine = await eventually(
            lambda: client.post("/plain", json="fine"), lambda answer: answer.status_code == 200
        )
        [row] = await postgres.ask(
            "SELECT status FROM flux.executions WHERE request_id = $1", fine.headers["x-request-id"]
        )
        assert row["status"] == 200
        with postgres.frozen():
            answers = await asyncio.gather(*(client.post("/plain", json=f"{n}") for n in range(5)))
        for answer in answers:
            assert (answer.status_code, answer.json()["error"]["type"]) == (503, "Unconfirmed")
            assert answer.json()["error"]["request_id"] == answer.headers["x-request-id"]
            assert int(answer.headers["retry-after"]) > 0
        ids = [answer.headers["x-request-id"] for answer in answers]
        await postgres.until(
            "SELECT count(*) = 5 FROM flux.spans WHERE request_id = ANY ($1::text[]) "
            "AND name = 'answered unconfirmed'",
            ids,
        )
        rows = await postgres.ask(
            "SELECT status, outcome, output FROM flux.executions WHERE request_id = ANY ($1::text[])", ids
        )
        assert sorted(map(tuple, rows)) == [(200, "ok", b'"%d"' % n) for n in range(5)]
        assert "answered unconfirmed" in project.flux("trace", ids[0]).stdout
        again = await eventually(
            lambda: client.post("/plain", json="again"), lambda answer: answer.status_code == 200, 30
        )
        assert again.json() == "again"
    assert server.stop() == 0
