"""A node that is gone with its spool: what it did shows as interrupted until the spool is back."""

from __future__ import annotations

import asyncio
import shutil
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import asyncpg

from tests.acceptance.conftest import Project, Server
from tests.acceptance.load import Load

ONE = "    await ctx.db.query({ table: 'notes', operation: 'insert', data: { token: input.token } });\n"


def _project(project: Project) -> None:
    project.write("schema/001.sql", "CREATE TABLE notes (token text PRIMARY KEY);")
    project.typescript("note", ONE + "    return { token: input.token };")
    project.typescript("hang", ONE + "    await ctx.sleep(120000);", timeout_ms=180_000)
    project.typescript("push", '    return await ctx.queue.push("nobody", { token: input.token });')
    project.flux("db", "push")


def test_executions_of_a_killed_node_without_its_spool_are_interrupted_until_it_is_drained(
    project: Project,
) -> None:
    _project(project)
    url = project.environment["DATABASE_URL"]
    server = project.start("serve")
    hidden = project.root / "moved-away"
    spools = project.root / ".flux" / "spool"
    answered, pushed, hanging = asyncio.run(_scene(server, url, spools, hidden))

    for request_id, tokens in ((answered, ["quick"]), (hanging, ["stuck"]), (pushed, [])):
        shown = project.json("trace", request_id[:12])
        assert (shown["request_id"], shown["outcome"], shown["status"]) == (request_id, "interrupted", None)
        assert [row["after"]["token"] for row in shown["mutations"]] == tokens
        assert shown["error"]["type"] == "NodeSilent"
        assert shown["node"] in shown["error"]["message"]
        assert "its spool is not drained" in shown["error"]["message"]
        assert shown["host_calls"] == shown["spans"] == []
    page = " ".join(project.flux("trace", answered).stdout.split())
    assert "interrupted" in page
    assert "its spool is not drained" in page
    assert "+ notes quick" in page
    why = project.json("why", answered)
    assert "may have ended well" in why["suggestions"][0]["reason"]
    assert project.flux("why", answered).returncode == 0
    latest = {row["request_id"]: row["outcome"] for row in project.json("query", LISTED)}
    assert latest == {}, "nothing is stored in the record's place"

    # A copy is not the spool: it is refused by name, and what is known stays what it was.
    (node,) = [folder for folder in hidden.iterdir() if not folder.name.startswith(".")]
    shutil.copytree(node, spools / node.name)
    assert project.json("trace", answered)["outcome"] == "interrupted"
    checks = project.flux("doctor", code=None).stdout
    assert "copy" in checks
    shutil.rmtree(spools / node.name)

    node.rename(spools / node.name)
    recorded = project.json("trace", answered)
    assert (recorded["outcome"], recorded["status"], recorded["function"]) == ("ok", 200, "note")
    assert recorded["error"] is None
    assert [row["after"]["token"] for row in recorded["mutations"]] == ["quick"]
    cut_off = project.json("trace", hanging)
    assert (cut_off["outcome"], cut_off["function"], cut_off["error"]) == ("interrupted", "hang", None)
    assert [call["status"] for call in cut_off["host_calls"]][:1] in (["done"], ["unknown"])
    assert project.json("trace", pushed)["outcome"] == "ok"


LISTED = "select request_id, outcome from flux.executions"


async def _scene(server: Server, url: str, spools: Any, hidden: Any) -> tuple[str, str, str]:
    """Take the spool away under a stopped drain, so that nothing of it comes to Postgres; then kill all."""
    connection = await asyncpg.connect(url)
    load = Load(server.url, lambda n: "/note")
    try:
        await _until(connection, "SELECT count(*) = 3 FROM flux.functions")
        with ThreadPoolExecutor(1) as thread:
            server.pause_sidecar()
            quick = await load.request("/note", "quick")
            pushed = await load.request("/push", "job")
            stuck = asyncio.create_task(load.request("/hang", "stuck"))
            await _until(connection, "SELECT count(*) = 2 FROM notes")
            await asyncio.get_running_loop().run_in_executor(thread, spools.rename, hidden)
        server.kill(sidecar=True)
        spools.mkdir()
        await asyncio.gather(stuck, return_exceptions=True)
        hanging = await connection.fetchval(
            "SELECT request_id FROM flux.mutations WHERE after ->> 'token' = 'stuck'"
        )
        # The machine is gone, so nobody says that the node has ended: its heartbeats say it.
        silent = (
            "SELECT heartbeat_at < clock_timestamp() - interval '10 s' AND stopped_at IS NULL FROM flux.nodes"
        )
        await _until(connection, silent)
    finally:
        await connection.close()
    return quick.request_id, pushed.request_id, hanging


async def _until(connection: Any, question: str) -> None:
    async with asyncio.timeout(60):
        while not await connection.fetchval(question):
            await asyncio.sleep(0.02)
