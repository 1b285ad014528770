"""A schema file that doesn't come to its end: Ctrl-C ends it, and `flux dev` says what it waits for."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys

import asyncpg
import pytest

from tests.acceptance.conftest import Project, eventually


def _sleeping(url: str) -> bool:
    async def ask() -> bool:
        connection = await asyncpg.connect(url)
        try:
            found: int = await connection.fetchval(
                "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%'"
                " AND state = 'active' AND datname = current_database()"
            )
            return found > 0
        finally:
            await connection.close()

    return asyncio.run(ask())


@pytest.mark.parametrize("command", [("db", "push"), ("dev", "--port", "0")])
def test_ctrl_c_ends_a_schema_file_under_way(project: Project, command: tuple[str, ...]) -> None:
    url = project.environment["DATABASE_URL"]
    project.write("schema/1.sql", "CREATE TABLE before (id int);\nSELECT pg_sleep(600);\n")
    with subprocess.Popen(
        [sys.executable, "-m", "flux", *command],
        cwd=project.root,
        env=project.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        try:
            eventually(lambda: _sleeping(url))
            assert process.stdout is not None
            if command[0] == "dev":
                said = b""
                while b"schema/1.sql:2" not in said:
                    line = process.stdout.readline()
                    assert line, said.decode()
                    said += line
            process.send_signal(signal.SIGINT)
            assert process.wait(20) != 0
        finally:
            process.kill()
    assert not _sleeping(url)
    project.write("schema/1.sql", "CREATE TABLE after (id int);\n")
    assert "schema/1.sql applied" in project.flux("db", "push").stdout
