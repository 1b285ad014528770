"""Reading records over HTTP while Postgres says nothing: a clear 503 in time, and all is well afterwards."""

from __future__ import annotations

import asyncio
import time

import httpx

from flux.app.application import READING
from tests.acceptance.conftest import Project
from tests.acceptance.own_postgres import eventually
from tests.line import Line


async def test_reads_are_answered_503_while_postgres_is_silent(project: Project) -> None:
    project.typescript("hello", "    return 'hello';")
    project.flux("db", "push")
    direct = project.environment["DATABASE_URL"]
    async with Line(direct).laid() as line:
        project.environment["DATABASE_URL"] = line.url
        server = await asyncio.to_thread(project.start, "dev")
        async with httpx.AsyncClient(base_url=server.url, timeout=60, trust_env=False) as client:
            made = await client.post("/hello", json={})
            path = f"/_flux/api/v1/executions/{made.headers['x-request-id']}"

            async def read(path: str = path) -> httpx.Response:
                return await client.get(path)

            found = await eventually(read, lambda answer: answer.status_code == 200)
            line.silence()
            began = time.monotonic()
            paths = (path, f"{path}/why", "/_flux/api/v1/executions/last")
            answers = await asyncio.gather(*map(read, paths))
            assert time.monotonic() - began < READING + 20
            for answer in answers:
                assert answer.status_code == 503
                assert int(answer.headers["retry-after"]) > 0
                error = answer.json()["error"]
                assert error["type"] == "StoreError"
                assert error["message"].startswith("The record can't be read now: Postgres did not answer")
                assert error["hint"] == "See whether Postgres can be reached: flux doctor"
            assert (await client.post("/hello", json={})).status_code == 200
            line.mend()
            again = await eventually(read, lambda answer: answer.status_code == 200)
            assert again.json() == found.json()
        assert await asyncio.to_thread(server.stop) == 0, server.text()
    assert "Traceback" not in server.text()
