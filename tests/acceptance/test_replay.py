"""flux replay, as its users see it: a corpus recorded under load is run again with nothing else running."""

from __future__ import annotations

import json
import random
import shutil
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from flux.runtime import bundle
from tests.acceptance.conftest import Project, eventually

CORPUS = Path(__file__).parents[1] / "corpus" / "replay"
INPUT = {"password": "hunter2", "z": 1, "a": [1, {"b": 2.50}]}
TIMES = 2
IN_FLIGHT = 8
COUNTED = """
import { defineFunction } from "@flux/functions";

const started = Math.random();
let calls = 0;

export default defineFunction({
  name: "counted",
  handler: async ({ input, ctx }) => {
    const n = ++calls;
    console.log("call", n);
    const [row] = await ctx.db.sql("select $1::int + 1 as next", [input.n]);
    return { n, started, next: row.next };
  },
});
"""
HANGS = """
import { defineFunction } from "@flux/functions";

export default defineFunction({
  name: "hangs",
  handler: async ({ ctx }) => {
    console.log("before");
    await ctx.db.sql("insert into marks values ($1)", [1]);
    await ctx.db.sql("insert into marks values ($1)", [2]);
    await ctx.sleep(60_000);
  },
});
"""


CUT = (
    "exists (select from flux.host_calls h "
    "where h.request_id = executions.request_id and h.result_size is not null)"
)


def listening(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="module")
def recorded(module_project: Project) -> Project:
    """The corpus, each function called `TIMES` times, 8 in flight. Then the server is killed in the middle of
    an execution, and what the functions called is gone.
    """
    corpus = sorted(path.name for path in (CORPUS / "functions").iterdir() if not path.name.startswith("_"))
    for name in ("functions", "schema"):
        shutil.copytree(CORPUS / name, module_project.root / name)
    module_project.write("flux.toml", (CORPUS / "flux.toml").read_text())
    module_project.write(".env", "API_KEY=super-secret-key-123456\nSTAGE=blue\nREGION=eu\n")
    module_project.write("functions/counted/index.ts", COUNTED)
    module_project.write("functions/hangs/index.ts", HANGS)
    module_project.write("schema/900_marks.sql", "create table marks (n integer);\n")
    module_project.flux("db", "push")
    provider = subprocess.Popen([sys.executable, str(CORPUS / "provider.py")], env=module_project.environment)
    try:
        eventually(lambda: listening(4390))
        server = module_project.start()
        with (
            httpx.Client(base_url=server.url, timeout=60, trust_env=False) as client,
            ThreadPoolExecutor(IN_FLIGHT) as threads,
        ):

            def call(name: str, n: int) -> int:
                try:
                    return client.post(f"/{name}", json={"n": n, **INPUT}).status_code
                except httpx.HTTPError:
                    return 0

            work = [(name, n) for n in range(TIMES) for name in [*corpus, "counted"]]
            random.Random(1).shuffle(work)
            statuses = list(threads.map(lambda each: call(*each), work))
            assert statuses.count(200) > len(work) // 2
            eventually(lambda: jobs(module_project) == 0)
            hanging = threads.submit(call, "hangs", 0)
            eventually(lambda: module_project.json("query", "select n from marks where n = 2"))
            server.kill(sidecar=True)
            assert hanging.result() == 0
    finally:
        provider.kill()
        provider.wait()
    return module_project


def jobs(project: Project) -> int:
    """Jobs that are still to run."""
    (row,) = project.json("query", "select count(*) n from flux.jobs where status in ('queued', 'running')")
    return int(row["n"])


def user_rows(project: Project) -> list[Any]:
    """What is in the project's own tables, and in the queue."""
    counts = "select (select count(*) from users) users, (select count(*) from flux.jobs) jobs,"
    return project.json("query", f"{counts} (select max(n) from flux.mutations) last")


def test_everything_that_was_recorded_under_load_is_identical(recorded: Project) -> None:
    before = user_rows(recorded)
    done = recorded.flux("replay", "--since", "1h", "--json", code=None, timeout=400)
    found = json.loads(done.stdout)
    diverged = {each["function"]: each["divergence"] for each in found["results"] if each["divergence"]}
    assert diverged == {}
    assert done.returncode == 0
    assert found["replayed"] == found["identical"] > TIMES * 60
    refused = {each["refused"]["type"] for each in found["results"] if each["refused"]}
    assert refused <= {"CutResult", "CutInput", "NotRecorded"}
    assert len(found["results"]) == found["replayed"] + found["refused"]
    assert user_rows(recorded) == before


def newest(project: Project, function: str, where: str = "true") -> str:
    sql = (
        f"select request_id from flux.executions where function = '{function}' and trigger <> 'replay' "
        f"and {where} order by started_at desc limit 1"
    )
    (row,) = project.json("query", sql)
    return str(row["request_id"])


def test_a_replay_is_an_execution_that_other_commands_read(recorded: Project) -> None:
    original = newest(recorded, "counted")
    found = recorded.json("replay", original)
    assert (found["replay_of"], found["identical"], found["divergence"], found["refused"]) == (
        original,
        True,
        None,
        None,
    )
    again = recorded.json("replay", found["request_id"])
    assert (again["replay_of"], again["identical"]) == (original, True)
    trace = recorded.json("trace", found["request_id"])
    assert (trace["trigger"], trace["replay_of"]) == ("replay", original)
    root = next(span for span in trace["spans"] if span["parent_span_id"] is None)
    was = recorded.json("trace", original)
    assert [link["trace_id"] for link in root["links"]] == [was["trace_id"]]
    assert trace["output"] == was["output"]
    assert "identical" in recorded.flux("replay", original[:10]).stdout
    assert recorded.json("trace", "diff", original, found["request_id"])["output"]["fields"] == []


def test_module_state_is_restored_by_what_the_process_ran_before(recorded: Project) -> None:
    last = newest(recorded, "counted", "invocation > 1")
    assert recorded.json("trace", last)["output"]["n"] > 1
    assert recorded.json("replay", last)["identical"]


def test_what_a_deadline_ended_is_compared_as_far_as_it_goes(recorded: Project) -> None:
    found = recorded.json("replay", newest(recorded, "p_deadline", "status = 504"))
    assert found["identical"]
    assert "deadline" in found["prefix"]


def test_what_a_crash_interrupted_is_compared_as_far_as_it_goes(recorded: Project) -> None:
    found = recorded.json("replay", newest(recorded, "hangs"))
    assert (found["identical"], found["prefix"]) == (True, "its process ended")
    calls = recorded.json("trace", found["request_id"])["host_calls"]
    assert [call["op"] for call in calls] == ["db.sql", "db.sql"]
    assert "as far as its record goes" in recorded.flux("replay", found["replay_of"]).stdout


def test_an_answer_that_was_cut_is_refused_by_name(recorded: Project) -> None:
    done = recorded.flux("replay", newest(recorded, "t_big", CUT), "--json", code=None)
    found = json.loads(done.stdout)
    assert found["refused"]["type"] == "CutResult"
    assert "fetch" in found["refused"]["message"]
    assert done.returncode == 0


async def change(project: Project, sql: str, *values: object) -> None:
    connection = await asyncpg.connect(project.environment["DATABASE_URL"])
    try:
        await connection.execute(sql, *values)
    finally:
        await connection.close()


async def test_changed_code_is_caught_with_its_call_and_line(recorded: Project) -> None:
    original = newest(recorded, "counted")
    connection = await asyncpg.connect(recorded.environment["DATABASE_URL"])
    try:
        packed = await connection.fetchval("select bundle from flux.deployments where function = 'counted'")
        files = bundle.unpack(packed)
        files["counted/index.ts"] = files["counted/index.ts"].replace(b"+ 1 as", b"+ 2 as")
        for content in (repacked(files), packed):
            await connection.execute(
                "update flux.deployments set bundle = $1 where function = 'counted'", content
            )
            done = recorded.flux("replay", original, "--json", code=None)
            shown = recorded.flux("replay", original, code=None)
            if content is packed:
                assert done.returncode == 0
                continue
            divergence = json.loads(done.stdout)["divergence"]
            assert (done.returncode, shown.returncode) == (1, 1)
            assert (divergence["op"], divergence["field"]) == ("db.sql", "text")
            assert (divergence["recorded"], divergence["actual"]) == (
                "select $1::int + 1 as next",
                "select $1::int + 2 as next",
            )
            assert (divergence["file"], divergence["line"]) == ("functions/counted/index.ts", 12)
            for text in ("diverged", "+ 1 as next", "+ 2 as next", "functions/counted/index.ts:12"):
                assert text in shown.stdout
    finally:
        await connection.close()


def repacked(files: dict[str, bytes]) -> bytes:
    class Changed:
        pass

    made: Any = Changed()
    made.files = files
    return bundle.pack(made)


async def test_another_output_is_caught(recorded: Project) -> None:
    original = newest(recorded, "counted")
    was = recorded.json("trace", original)["output"]
    planted = json.dumps({**was, "next": 99}, separators=(",", ":")).encode()
    sql = "update flux.executions set output = $1, output_size = length($1::bytea) where request_id = $2"
    await change(recorded, sql, planted, original)
    done = recorded.flux("replay", original, "--json", code=1)
    divergence = json.loads(done.stdout)["divergence"]
    assert (divergence["op"], divergence["field"], divergence["recorded"]) == ("output", "next", 99)
    window = recorded.flux("replay", "--since", "1h", "--function", "counted", "--json", code=1)
    assert json.loads(window.stdout)["diverged"] == 1


def test_it_says_what_to_write_where_nothing_is_named(recorded: Project) -> None:
    assert "flux replay last" in recorded.flux("replay", code=2).stderr
    assert "--since" in recorded.flux("replay", "last", "--failed", code=2).stderr
