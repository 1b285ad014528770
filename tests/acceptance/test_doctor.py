"""Each thing that doctor and metrics watch is broken for real: both must say so, and be content after it."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import asyncpg
import httpx
import pytest

from flux.app.doctor import examine
from flux.config import load
from flux.drain import state as drain_state
from flux.store import embedded
from tests.acceptance.conftest import Project, environment, eventually
from tests.acceptance.test_metrics import scrape, value
from tests.integration.drain.recorded import complete, recorder

HELLO = "    return { hello: input.name };"


def command(project: Project) -> dict[str, dict[str, Any]]:
    """What `flux doctor --json` says, by check; its exit code must be what its document says."""
    done = project.flux("doctor", "--json", code=None)
    report = json.loads(done.stdout)
    assert done.returncode == (0 if report["ok"] else 1)
    return by_name(report)


def checks(project: Project) -> dict[str, dict[str, Any]]:
    """The same without a process of its own, which costs more than all that doctor does."""
    return by_name(asyncio.run(examine(load(project.root, project.environment))))


def by_name(report: dict[str, Any]) -> dict[str, dict[str, Any]]:
    assert report["ok"] == all(check["ok"] for check in report["checks"])
    for check in report["checks"]:
        assert check["level"] == "ok" or check["hint"] or check["name"] == "jobs", f"no hint: {check}"
    return {check["name"]: check for check in report["checks"]}


def wrongs(project: Project) -> set[str]:
    return {name for name, check in checks(project).items() if check["level"] != "ok"}


def sql(project: Project, *statements: str) -> Any:
    """Run statements as the owner; gives the first value of the last."""

    async def main() -> Any:
        connection = await asyncpg.connect(project.environment["DATABASE_URL"])
        try:
            for statement in statements[:-1]:
                await connection.execute(statement)
            return await connection.fetchval(statements[-1])
        finally:
            await connection.close()

    return asyncio.run(main())


def drain_pid(project: Project) -> int:
    """The process that drains the live spool."""

    def said() -> list[drain_state.DrainState]:
        found = [drain_state.read(folder) for folder in (project.root / ".flux/spool").iterdir()]
        return [state for state in found if state is not None and state.silent() is None]

    eventually(said)
    return said()[0].pid


class Postgres:
    """A server of the test's own, which can be stopped and started."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lease = embedded.acquire(folder)
        arguments = self._lease.connect_args
        query = urlencode({"host": arguments["host"]})
        self.url = f"postgresql://{arguments['user']}@/{arguments['database']}?{query}"

    def stop(self) -> None:
        self._lease.close()
        address = embedded_socket(self.url)
        eventually(lambda: not address.exists())

    def start(self) -> None:
        self._lease = embedded.acquire(self._folder)


def embedded_socket(url: str) -> Path:
    return Path(httpx.URL(url.replace("postgresql", "http")).params["host"]) / ".s.PGSQL.5432"


@pytest.fixture
def postgres(tmp_path: Path) -> Iterator[Postgres]:
    made = Postgres(tmp_path / ".flux")
    yield made
    made.stop()


@pytest.fixture
def app(project: Project) -> Project:
    project.write("schema/001.sql", "CREATE TABLE notes (id int PRIMARY KEY)")
    project.typescript("hello", HELLO)
    project.flux("db", "push")
    return project


def test_postgres_away_and_its_settings(tmp_path: Path, postgres: Postgres) -> None:
    root = tmp_path / "app"
    (root / "functions").mkdir(parents=True)
    (root / "flux.toml").write_text('name = "app"\n')
    app = Project(root, environment(DATABASE_URL=postgres.url, FLUX_MASTER_KEY="5a" * 32))
    app.typescript("hello", HELLO)
    with app.serving("dev") as client:
        eventually(lambda: value(scrape(client), "flux_nodes", state="live") == 1)
        assert client.post("/hello", json={}).status_code == 200
        assert wrongs(app) == set()
        page = app.flux("doctor").stdout
        assert page.endswith("The record is whole.\n")
        assert len(page.splitlines()) == 7, f"short when all is well:\n{page}"
        assert len(app.flux("doctor", "--all").stdout.splitlines()) > 20

        sql(app, "ALTER SYSTEM SET fsync = off", "SELECT pg_reload_conf()")
        eventually(lambda: sql(app, "SHOW fsync") == "off")
        settings = checks(app)["settings"]
        assert not settings["ok"]
        assert settings["detail"].startswith("fsync = off")
        sql(app, "ALTER SYSTEM RESET fsync", "SELECT pg_reload_conf()")
        eventually(lambda: sql(app, "SHOW fsync") == "on")

        postgres.stop()
        assert client.post("/hello", json={}).status_code == 200, "records wait on disk"
        eventually(lambda: client.get("/_flux/ready").status_code == 503)
        assert client.get("/_flux/ready").json() == {
            "ok": False,
            "postgres": False,
            "drain": True,
            "spool": True,
            "dropped": 0,
            "refused": 0,
            "restored": 0,
            "missing": 0,
        }
        assert client.get("/_flux/health").json()["ok"] is True
        page_away = scrape(client)
        assert value(page_away, "flux_postgres_up") == 0
        assert value(page_away, "flux_sidecar_up") == 1
        assert value(page_away, "flux_spool_undrained_bytes") > 0
        eventually(lambda: value(scrape(client), "flux_drain_lag_seconds") > 0.5)
        for unknown in ("flux_quarantined_records", "flux_jobs", "flux_nodes", "flux_drained_records"):
            assert unknown not in page_away, "what can't be known is left out"
        found = command(app)
        assert not found["postgres"]["ok"]
        assert not found["drain"]["ok"]
        assert "Postgres can't be used" in found["drain"]["detail"]
        assert "wait" in found["drain"]["detail"]
        assert not found["server"]["ok"]
        assert "settings" not in found
        text = app.flux("doctor", code=1).stdout
        assert "✗ postgres" in text
        assert "are wrong" in text

        postgres.start()
        eventually(lambda: client.get("/_flux/ready").status_code == 200)
        eventually(lambda: value(scrape(client), "flux_spool_undrained_bytes") == 0)
        eventually(lambda: wrongs(app) == set(), 60)


def test_tables_that_are_not_captured(app: Project) -> None:
    with app.serving("dev") as client:
        # Flux's event trigger puts it back at once; so that one has to be out of the way.
        alter = 'ALTER TABLE notes DISABLE TRIGGER "!flux_insert"'
        sql(app, alter, "SELECT 1")
        assert checks(app)["capture"]["ok"]
        off, on = "ALTER EVENT TRIGGER flux_ddl DISABLE", "ALTER EVENT TRIGGER flux_ddl ENABLE ALWAYS"
        sql(app, off, alter, on, "SELECT 1")
        capture = checks(app)["capture"]
        assert not capture["ok"]
        assert "public.notes" in capture["detail"]
        assert "!flux_insert" in capture["detail"]
        eventually(lambda: value(scrape(client), "flux_uncaptured_tables") == 1)
        app.flux("db", "push")
        eventually(lambda: value(scrape(client), "flux_uncaptured_tables") == 0)

        # A partition's copy of its root's trigger, which nothing puts back.
        leaf = "CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (9)"
        sql(app, "CREATE TABLE parts (id int PRIMARY KEY) PARTITION BY RANGE (id)", leaf, "SELECT 1")
        assert checks(app)["capture"]["ok"]
        sql(app, 'ALTER TABLE parts_1 DISABLE TRIGGER "!flux_capture"', "SELECT 1")
        capture = checks(app)["capture"]
        assert "public.parts_1" in capture["detail"]
        assert "ENABLE ALWAYS TRIGGER" in capture["hint"]
        sql(app, 'ALTER TABLE parts_1 ENABLE ALWAYS TRIGGER "!flux_capture"', "SELECT 1")
        sql(app, "CREATE UNLOGGED TABLE quick (id int PRIMARY KEY)", "SELECT 1")
        capture = checks(app)["capture"]
        assert (capture["level"], "public.quick" in capture["detail"]) == ("warning", True)
        sql(app, "ALTER TABLE quick SET LOGGED", "SELECT 1")


def test_nodes_clocks_jobs_and_the_quarantine(app: Project) -> None:
    app.typescript("boom", '    throw new Error("never works");')
    app.typescript("push", '    return await ctx.queue.push("boom", {}, { maxAttempts: 1 });')
    with app.serving("dev") as client:
        eventually(lambda: value(scrape(client), "flux_nodes", state="live") == 1)
        assert wrongs(app) == set()

        dead = "d" * 32
        sql(
            app,
            "INSERT INTO flux.nodes VALUES "
            f"('{dead}', 'web-2', 77, '0.1.0', now() - interval '1 h', now() - interval '10 min')",
            "SELECT 1",
        )
        nodes = checks(app)["nodes"]
        assert not nodes["ok"]
        assert "dddddddd (pid 77 on web-2) for 10 min" in nodes["detail"]
        eventually(lambda: value(scrape(client), "flux_nodes", state="silent") == 1)
        _, _, said = nodes["hint"].partition("then say so: ")
        sql(app, said, "SELECT 1")
        eventually(lambda: value(scrape(client), "flux_nodes", state="silent") == 0)

        fast = "f" * 32
        sql(
            app,
            "INSERT INTO flux.nodes VALUES "
            f"('{fast}', 'web-3', 78, '0.1.0', now(), now() + interval '1 h', NULL, 3600000)",
            "SELECT 1",
        )
        clock = checks(app)["clock"]
        assert not clock["ok"]
        assert clock["detail"] == "node ffffffff on web-3 is 60 min ahead of Postgres"
        sql(app, f"DELETE FROM flux.nodes WHERE id = '{fast}'", "SELECT 1")

        poisoned = recorder(app.root / ".flux/spool")
        complete(poisoned)
        poisoned.spool.append(b"\xc1 is no msgpack")
        poisoned.close()
        eventually(lambda: value(scrape(client), "flux_quarantined_records") == 1)
        quarantine = checks(app)["quarantine"]
        assert not quarantine["ok"]
        assert quarantine["detail"].startswith("1 record refused by Postgres, the newest ")
        assert "Not an event" in quarantine["detail"]
        assert "flux.quarantine" in quarantine["hint"]
        assert sql(app, "SELECT count(*) FROM flux.executions") == 1, "the drain went on"
        sql(app, "DELETE FROM flux.quarantine", "SELECT 1")

        assert client.post("/push", json={}).status_code == 200
        eventually(lambda: value(scrape(client), "flux_jobs", state="failed") == 1)
        jobs = checks(app)["jobs"]
        assert (jobs["ok"], jobs["level"]) == (True, "warning")
        assert "boom: never works" in jobs["detail"]
        assert jobs["hint"].startswith("flux why ")
        assert {name for name, check in command(app).items() if check["level"] != "ok"} == {"jobs"}
        assert "The record is whole, 1 to look at." in app.flux("doctor").stdout


def test_spools_that_are_copied_or_orphaned(app: Project) -> None:
    spools = app.root / ".flux/spool"
    made = recorder(spools)
    complete(made)
    made.close()
    found = command(app)
    assert (found["orphans"]["level"], found["orphans"]["ok"]) == ("warning", True)
    assert found["orphans"]["detail"].startswith("1 spool lost its writer; 3 records")
    assert "flux tail" in found["orphans"]["hint"]
    app.flux("query", "select 1")
    assert wrongs(app) == set()
    assert sql(app, "SELECT count(*) FROM flux.executions") == 1

    with app.serving("dev") as client:
        (own,) = spools.iterdir()
        copy = spools / ("c" * 32)
        shutil.copytree(own, copy)
        orphans = checks(app)["orphans"]
        assert not orphans["ok"]
        assert "copy of another spool" in orphans["detail"]
        assert str(copy) in orphans["hint"]
        assert value(scrape(client), "flux_orphan_spools") == 1
        shutil.rmtree(copy)
        assert value(scrape(client), "flux_orphan_spools") == 0


def test_a_drain_that_stands_still_until_the_spool_is_full(app: Project) -> None:
    app.environment["FLUX_SPOOL_LIMIT"] = "256KiB"
    with app.serving("dev") as client:
        eventually(lambda: value(scrape(client), "flux_nodes", state="live") == 1)
        drain = drain_pid(app)
        os.kill(drain, signal.SIGSTOP)
        answered = 0
        while (status := client.post("/hello", json={"name": "x" * 10_000}).status_code) == 200:
            answered += 1
        assert status == 503
        assert answered > 5
        page = scrape(client)
        assert value(page, "flux_recorder_refusals_total", reason="limit") >= 1
        assert value(page, "flux_spool_bytes") > 0.9 * value(page, "flux_spool_limit_bytes")
        assert value(page, "flux_spool_undrained_bytes") > 0.9 * value(page, "flux_spool_limit_bytes")
        assert value(page, "flux_sidecar_restarts_total") == 0

        # It lives, but its last words grow old: they must not be believed.
        eventually(lambda: value(scrape(client), "flux_sidecar_up") == 0)
        assert client.get("/_flux/ready").json()["drain"] is False
        found = checks(app)
        assert not found["drain"]["ok"]
        assert "has not been heard of for" in found["drain"]["detail"]
        assert not found["spool"]["ok"]
        assert "of the limit (256.0 KiB)" in found["spool"]["detail"]
        assert found["drops"]["level"] == "warning"

        assert found["drain"]["hint"].endswith(f"kill -9 {drain}")
        os.kill(drain, signal.SIGKILL)
        eventually(lambda: value(scrape(client), "flux_sidecar_restarts_total") == 1)
        eventually(lambda: value(scrape(client), "flux_sidecar_up") == 1)
        eventually(lambda: value(scrape(client), "flux_spool_undrained_bytes") == 0)
        assert client.post("/hello", json={}).status_code == 200
        eventually(lambda: wrongs(app) == {"drops"}, 60)
        stored = "SELECT count(*) FROM flux.executions WHERE status = 200"
        eventually(lambda: sql(app, stored) == answered + 1)
