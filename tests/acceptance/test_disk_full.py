"""A disk without room: requests are refused with 503 and Retry-After, what was answered is recorded, nothing
is lost, and all goes on by itself once there is room.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import httpx
import pytest

from flux.store import embedded
from tests.acceptance.conftest import Project, environment
from tests.acceptance.own_postgres import OwnPostgres, eventually


@contextlib.contextmanager
def small_disk(path: Path, size: str) -> Iterator[Path]:
    """A disk of that size, mounted on `path`."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount the small disk that this needs")
    path.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=755", "tmpfs", str(path)], check=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


@pytest.fixture
def cramped(project: Project) -> Iterator[Project]:
    """A project whose spool has 8 MiB, 2 of them for what is under way."""
    project.write("flux.toml", 'name = "app"\nspool_limit = "16MiB"\n')
    project.write("schema/001.sql", "CREATE TABLE notes (token text);")
    project.typescript("plain", "    return input.length;")
    project.typescript(
        "held", "    await ctx.db.sql('select pg_advisory_xact_lock_shared(7)');\n    return input;"
    )
    project.typescript(
        "large",
        "    await ctx.db.sql('insert into notes (token) values ($1)', [input]);\n"
        "    await ctx.db.sql('select pg_advisory_xact_lock_shared(7)');\n"
        "    return input + 'x'.repeat(900_000);",
    )
    project.flux("db", "push")
    with small_disk(project.root / ".flux" / "spool", "8m"):
        try:
            yield project
        finally:
            project.end()


@contextlib.asynccontextmanager
async def connected(url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        connection.terminate()


@contextlib.asynccontextmanager
async def drain_held(url: str) -> AsyncIterator[asyncpg.Connection]:
    """The record's tables are locked; functions that wait for advisory lock 7 wait as well."""
    holder = await asyncpg.connect(url)
    try:
        async with holder.transaction():
            await holder.execute("LOCK TABLE flux.executions IN ACCESS EXCLUSIVE MODE")
            yield holder
    finally:
        await holder.close()


async def _fill(client: httpx.AsyncClient, *, most: int = 400) -> list[httpx.Response]:
    """Send requests until a few were refused."""
    answers: list[httpx.Response] = []
    for number in range(most):
        answers.append(await client.post("/plain", json=f"{number} " + "y" * 60_000))
        if [answer.status_code for answer in answers[-5:]] == [503] * 5:
            return answers
    raise AssertionError("the disk never was full")


def _is_refusal(answer: httpx.Response) -> None:
    assert answer.json()["error"]["type"] == "SpoolFull"
    assert int(answer.headers["retry-after"]) > 0
    assert answer.json()["error"]["request_id"] == answer.headers["x-request-id"]


async def _recorded(url: str, answers: list[httpx.Response]) -> dict[str, asyncpg.Record]:
    """The records of answers, once all are there; each stands once and says what was answered."""
    ids = [answer.headers["x-request-id"] for answer in answers]
    connection = await asyncpg.connect(url)
    try:
        rows = await eventually(
            lambda: connection.fetch(
                "SELECT * FROM flux.executions WHERE request_id = ANY ($1::text[])", ids
            ),
            lambda found: len(found) >= len(ids),
        )
        assert await connection.fetchval("SELECT count(*) FROM flux.quarantine") == 0
    finally:
        await connection.close()
    found = {row["request_id"]: row for row in rows}
    assert len(rows) == len(found) == len(set(ids))
    for answer in answers:
        row = found[answer.headers["x-request-id"]]
        assert (row["status"], row["body"]) == (answer.status_code, answer.request.content)
    return found


async def test_a_full_spool_disk_refuses_what_is_new_ends_what_is_under_way_and_goes_on_by_itself(
    cramped: Project,
) -> None:
    url = cramped.environment["DATABASE_URL"]
    server = cramped.start()
    async with (
        httpx.AsyncClient(base_url=server.url, timeout=60, trust_env=False) as client,
        connected(url) as gate,
    ):
        await gate.execute("SELECT pg_advisory_lock(7)")
        under_way = [asyncio.create_task(client.post("/held", json=f"held {n}")) for n in range(8)]
        waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        await eventually(lambda: gate.fetchval(waiting), lambda found: found == 8)
        async with drain_held(url):
            answers = await _fill(client)
            await gate.execute("SELECT pg_advisory_unlock(7)")
            ended = await asyncio.gather(*under_way)
            assert [answer.status_code for answer in ended] == [200] * 8
            refused = await client.post("/plain", json="full " + "y" * 60_000)
            assert refused.status_code == 503

        async def again_and_again() -> httpx.Response:
            answers.append(await client.post("/plain", json="after"))
            return answers[-1]

        await eventually(again_and_again, lambda answer: answer.status_code == 200, 30)
        kept = [answer for answer in answers if answer.status_code == 200]
        assert len(kept) > 10
        for answer in (*answers, refused):
            if answer.status_code != 200:
                _is_refusal(answer)
        await _recorded(url, [*kept, *ended])
        # Those that could not be recorded then are counted now.
        refusals = sum(answer.status_code == 503 for answer in (*answers, refused))
        counted = "SELECT sum(count) FROM flux.executions WHERE status = 503 AND outcome = 'rejected'"
        await eventually(lambda: gate.fetchval(counted), lambda found: found == refusals, 30)
        # And all over again: the room was really given back.
        async with drain_held(url):
            again = await _fill(client)
        assert sum(answer.status_code == 200 for answer in again) > 10
        last = await eventually(
            lambda: client.post("/plain", json="last"), lambda answer: answer.status_code == 200, 30
        )
        await _recorded(url, [*(answer for answer in again if answer.status_code == 200), last])
    assert server.stop() == 0
    assert "Traceback" not in server.text()


async def test_an_answer_that_no_longer_fits_is_503_and_recorded_as_that(cramped: Project) -> None:
    url = cramped.environment["DATABASE_URL"]
    server = cramped.start()
    async with (
        httpx.AsyncClient(base_url=server.url, timeout=60, trust_env=False) as client,
        connected(url) as gate,
    ):
        await gate.execute("SELECT pg_advisory_lock(7)")
        under_way = [asyncio.create_task(client.post("/large", json=f"large {n}")) for n in range(6)]
        waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        await eventually(lambda: gate.fetchval(waiting), lambda found: found == 6)
        async with drain_held(url):
            answers = await _fill(client)
            await gate.execute("SELECT pg_advisory_unlock(7)")
            ended = await asyncio.gather(*under_way)
            for answer in ended:
                assert (answer.status_code, answer.json()["error"]["type"]) == (503, "Unrecorded")
                assert answer.json()["error"]["request_id"] == answer.headers["x-request-id"]
                assert int(answer.headers["retry-after"]) > 0
        rows = await _recorded(url, [*ended, *(answer for answer in answers if answer.status_code == 200)])
        for answer in ended:
            row = rows[answer.headers["x-request-id"]]
            assert (row["outcome"], row["output"]) == ("error", None)
            assert "It ended ok with 200" in row["warnings"]
        assert await gate.fetchval("SELECT count(*) FROM notes") == 6
        mutations = await gate.fetch("SELECT request_id FROM flux.mutations WHERE table_name = 'notes'")
        assert {row["request_id"] for row in mutations} == {a.headers["x-request-id"] for a in ended}
        shown = cramped.flux("why", ended[0].headers["x-request-id"]).stdout
        assert "Unrecorded" in shown
    assert server.stop() == 0
    assert "Traceback" not in server.text()


async def test_postgres_without_room_makes_records_wait_and_loses_none(tmp_path: Path) -> None:
    project = Project(tmp_path / "app", environment(FLUX_MASTER_KEY="5a" * 32))
    project.write("flux.toml", 'name = "app"\n')
    project.typescript("plain", "    return input.length;")
    flux_dir = project.root / ".flux"
    with small_disk(flux_dir / "postgres", "160m") as disk, embedded.acquire(flux_dir) as lease:
        postgres = OwnPostgres(flux_dir, lease)
        server = project.start()
        try:
            async with httpx.AsyncClient(base_url=server.url, timeout=60, trust_env=False) as client:
                first = await client.post("/plain", json="first")
                await _recorded_here(postgres, [first])
                ballast = disk / "ballast"
                free = os.statvfs(disk)
                with ballast.open("wb") as file:
                    os.posix_fallocate(file.fileno(), 0, free.f_bavail * free.f_frsize - 256 * 1024)
                answers = [await client.post("/plain", json=os.urandom(60_000).hex()) for _ in range(40)]
                assert {answer.status_code for answer in answers} == {200}
                server.wait_for(r"records wait in the spool: \w+", 30)
                ballast.unlink()
                await _recorded_here(postgres, [first, *answers])
                after = await client.post("/plain", json="after")
                await _recorded_here(postgres, [after])
            assert server.stop() == 0
        finally:
            if server.process.poll() is None:
                server.process.kill()
                server.process.wait()


async def _recorded_here(postgres: OwnPostgres, answers: list[httpx.Response]) -> None:
    ids = [answer.headers["x-request-id"] for answer in answers]
    rows = await eventually(
        lambda: postgres.ask("SELECT * FROM flux.executions WHERE request_id = ANY ($1::text[])", ids),
        lambda found: len(found) >= len(ids),
    )
    assert sorted(row["request_id"] for row in rows) == sorted(ids)
    bodies = {row["request_id"]: row["body"] for row in rows}
    for answer in answers:
        assert bodies[answer.headers["x-request-id"]] == answer.request.content
    assert (await postgres.ask("SELECT count(*) AS n FROM flux.quarantine"))[0]["n"] == 0
