"""A project's spool put back by copying, as after a disk was replaced: refused until somebody says that the
original is gone, then stored, and nothing of it twice.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import httpx
import pytest

from tests.acceptance.conftest import Project, Server, eventually
from tests.acceptance.test_doctor import checks, command, sql

SILENT = "UPDATE flux.nodes SET heartbeat_at = heartbeat_at - interval '11 s'"
"""As it is some time after its end."""
COUNT = "SELECT count(*) FROM flux.executions"


@pytest.fixture
def lost(project: Project) -> tuple[Project, Server, list[str]]:
    """A server with two records that Postgres has and five that it hasn't; their ids."""
    project.typescript("hello", "    return input;")
    server = project.start()

    def ask(number: int) -> str:
        answer = httpx.post(f"{server.url}/hello", json=number, trust_env=False)
        assert answer.status_code == 200
        return answer.headers["x-request-id"]

    ids = [ask(number) for number in range(2)]
    eventually(lambda: sql(project, COUNT) == 2)
    server.pause_sidecar()
    return project, server, ids + [ask(number) for number in range(2, 7)]


def copied(source: Path, target: Path) -> Path:
    """`cp -a`, as a person would."""
    subprocess.run(["cp", "-a", str(source), str(target)], check=True)
    return target


def recorded(project: Project) -> list[str]:
    found = project.json("query", "select request_id from flux.executions order by started_at")
    return [row["request_id"] for row in found]


def test_a_spool_on_a_new_disk_is_refused_until_it_is_adopted(
    lost: tuple[Project, Server, list[str]], tmp_path: Path
) -> None:
    project, server, ids = lost
    spools = project.root / ".flux" / "spool"
    (original,) = spools.iterdir()
    # Made while the original is there: its inode is nobody else's.
    backup = copied(spools, tmp_path / "backup")
    another = copied(original, tmp_path / "another")

    # A copy of what a server writes just now: by no means.
    second = copied(original, spools / "mine")
    said = project.flux("doctor", "--adopt", "mine", code=1).stderr
    assert f"error: The server that writes spool {original.name} runs: pid {server.process.pid} on " in said
    assert "hint: Stop it first." in said
    server.kill(sidecar=True)
    sql(project, SILENT, "SELECT 1")
    said = project.flux("doctor", "--adopt", str(second), code=1).stderr
    assert f"{second} is a copy of {original}, which is there." in said
    said = project.flux("doctor", "--adopt", original.name, code=1).stderr
    assert f"{original} is no copy." in said
    said = project.flux("doctor", "--adopt", "nowhere", code=2).stderr
    assert f"nowhere is no folder in {spools}." in said

    # The disk is gone, a new one has what the backup had.
    subprocess.run(["rm", "-rf", str(spools)], check=True)
    backup.rename(spools)
    assert recorded(project) == ids[:2], "a reading command leaves it alone"
    orphans = command(project)["orphans"]
    assert (orphans["level"], orphans["ok"]) == ("error", False)
    assert "copy of another spool" in orphans["detail"]
    _, _, advice = orphans["hint"].partition("If that is gone (a new disk, a restored backup): flux ")
    assert advice == f"doctor --adopt {original}"
    with project.serving():
        project.servers[-1].wait_for("is a copy of spool .* flux doctor --adopt", 30)

    assert project.flux(*advice.split()).stdout == f"Spool {original.name} is adopted: 5 records stored.\n"
    assert recorded(project) == ids
    assert list(spools.iterdir()) == []
    assert checks(project)["orphans"]["level"] == "ok"

    # Another copy of it, of which Postgres has all by now.
    another.rename(original)
    done = json.loads(project.flux("doctor", "--adopt", original.name, "--json").stdout)
    assert done == {"spool": original.name, "stored": 0}
    assert recorded(project) == ids
    assert sql(project, "SELECT count(*) FROM flux.quarantine") == 0
    assert {row["outcome"] for row in project.json("query", "select outcome from flux.executions")} == {"ok"}


def test_a_copy_is_adopted_where_a_server_runs_and_where_it_has_another_name(
    lost: tuple[Project, Server, list[str]],
) -> None:
    project, server, ids = lost
    spools = project.root / ".flux" / "spool"
    (original,) = spools.iterdir()
    copied(original, spools / "restored")
    server.kill(sidecar=True)
    subprocess.run(["rm", "-rf", str(original)], check=True)
    sql(project, SILENT, "SELECT 1")
    with project.serving() as client:
        ids.append(client.post("/hello", json=8).headers["x-request-id"])
        found = project.flux("doctor", "--adopt", ".flux/spool/restored").stdout
        assert found == f"Spool {original.name} is adopted: 5 records stored.\n"
        eventually(lambda: sql(project, COUNT) == 8)
        assert recorded(project) == ids
    assert list(spools.iterdir()) == []
