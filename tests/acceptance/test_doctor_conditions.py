"""What doctor warns of before it costs a record: each condition is made for real, and ended by doing what
doctor advises.
"""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import asyncpg
import httpx
import pytest

from flux.store import embedded
from tests.acceptance.conftest import Project, environment, eventually
from tests.acceptance.test_disk_full import small_disk
from tests.acceptance.test_doctor import checks, command, sql


def test_a_spool_in_memory_and_a_disk_that_fills(project: Project) -> None:
    assert checks(project)["durability"]["level"] == "ok"
    with small_disk(project.root / ".flux", "3g") as disk:
        found = checks(project)
        assert found["disk"]["level"] == "ok"
        durability = found["durability"]
        assert (durability["level"], durability["ok"]) == ("warning", True)
        assert durability["detail"] == '"spool", but the spool is on tmpfs, which is memory'
        assert durability["hint"] == 'Put the project on a disk, or set durability = "postgres" in flux.toml.'
        project.environment["FLUX_DURABILITY"] = "fsync"
        durability = checks(project)["durability"]
        assert (durability["level"], durability["ok"]) == ("error", False)
        assert durability["detail"] == '"fsync", but the spool is on tmpfs, which is memory'
        project.environment["FLUX_DURABILITY"] = "postgres"
        assert checks(project)["durability"]["level"] == "ok"

        for size, level, free in (("1g", "warning", "1.0 GiB"), ("200m", "error", "0.2 GiB")):
            subprocess.run(["mount", "-o", f"remount,size={size}", str(disk)], check=True)
            low = command(project)["disk"]
            assert (low["level"], low["ok"]) == (level, level == "warning")
            assert low["detail"] == f"{free} free for the spool"
            assert low["hint"] == "Make room: at the last byte requests are answered 503."
        subprocess.run(["mount", "-o", "remount,size=3g", str(disk)], check=True)
        assert checks(project)["disk"]["level"] == "ok"


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[tuple[Project, str]]:
    """A project that is an ordinary owner of its database, and a superuser's URL of that."""

    async def make(arguments: dict[str, object]) -> None:
        connection = await asyncpg.connect(**arguments)
        try:
            await connection.execute("CREATE ROLE plain LOGIN")
            await connection.execute("CREATE DATABASE shop OWNER plain")
        finally:
            await connection.close()

    with embedded.acquire(tmp_path / ".flux") as lease:
        asyncio.run(make(lease.connect_args))
        address = f"/shop?{urlencode({'host': lease.connect_args['host']})}"
        url, superuser = (f"postgresql://{user}@{address}" for user in ("plain", lease.connect_args["user"]))
        project = Project(tmp_path / "app", environment(DATABASE_URL=url, FLUX_MASTER_KEY="5a" * 32))
        project.write("flux.toml", 'name = "app"\n')
        project.write("schema/001.sql", "CREATE TABLE notes (id int PRIMARY KEY)")
        yield project, superuser
        project.end()


def test_functions_that_run_as_the_owner_and_commits_that_do_not_wait(shared: tuple[Project, str]) -> None:
    project, superuser = shared
    project.flux("db", "push")
    found = command(project)
    role = found["role"]
    assert (role["level"], role["ok"]) == ("error", False)
    assert role["detail"] == "functions run as the database's owner: the record is unprotected against them"
    assert role["hint"] == "Connect as a role with CREATEROLE once, so that Flux can make flux_app."
    assert found["settings"]["level"] == "ok"

    as_owner, project.environment["DATABASE_URL"] = project.environment["DATABASE_URL"], superuser
    project.flux("db", "push")
    for off, on, said in (
        (
            "ALTER SYSTEM SET synchronous_commit = off",
            "ALTER SYSTEM RESET synchronous_commit",
            "off: a crash ",
        ),
        ("ALTER ROLE flux_app SET synchronous_commit = off", "ALTER ROLE flux_app RESET ALL", "for flux_app"),
        ("ALTER ROLE plain SET synchronous_commit = local", "ALTER ROLE plain RESET ALL", "for plain"),
        ("ALTER DATABASE shop SET synchronous_commit = off", "ALTER DATABASE shop RESET ALL", "every role"),
    ):
        project.environment["DATABASE_URL"] = superuser
        sql(project, off, "SELECT pg_reload_conf()")
        project.environment["DATABASE_URL"] = as_owner
        eventually(lambda: checks(project)["settings"]["level"] == "error")
        settings = checks(project)["settings"]
        assert "synchronous_commit" in settings["detail"]
        assert said in settings["detail"]
        assert settings["hint"].startswith("Switch it on: ALTER SYSTEM RESET")
        project.environment["DATABASE_URL"] = superuser
        sql(project, on, "SELECT pg_reload_conf()")
        project.environment["DATABASE_URL"] = as_owner
        eventually(lambda: checks(project)["settings"]["level"] == "ok")
    assert {name for name, check in command(project).items() if not check["ok"]} == set()


def test_jobs_whose_worker_is_gone(project: Project) -> None:
    project.write(
        "functions/long/main.py",
        "async def handler(input, ctx):\n"
        '    await ctx.db.fetchval("select pg_advisory_lock_shared(7)")\n'
        '    await ctx.db.fetchval("select pg_advisory_unlock_shared(7)")\n',
    )
    project.typescript("push", '    return await ctx.queue.push("long", {});')
    server = project.start()

    async def hold() -> asyncpg.Connection:
        connection = await asyncpg.connect(project.environment["DATABASE_URL"])
        await connection.execute("SELECT pg_advisory_lock(7)")
        return connection

    with asyncio.Runner() as runner:
        gate = runner.run(hold())
        assert httpx.post(f"{server.url}/push", json={}, trust_env=False).status_code == 200
        running = "SELECT count(*) FROM flux.jobs WHERE status = 'running'"
        eventually(lambda: sql(project, running) == 1)
        assert checks(project)["jobs"]["level"] == "ok"
        server.kill(sidecar=True)
        runner.run(gate.close())
    # As it is 46 s later, where nobody took it over.
    sql(
        project,
        "UPDATE flux.jobs SET lease_until = lease_until - interval '46 s'",
        "UPDATE flux.nodes SET heartbeat_at = heartbeat_at - interval '46 s'",
        "SELECT 1",
    )
    jobs = command(project)["jobs"]
    assert (jobs["level"], jobs["ok"]) == ("error", False)
    assert jobs["detail"] == "1 running; 1 is held by a worker that is gone"
    assert jobs["hint"] == "Start a server: it takes them over."

    with project.serving():
        eventually(lambda: sql(project, "SELECT status FROM flux.jobs") == "done")
        eventually(lambda: checks(project)["jobs"]["level"] == "ok")
