"""The sidecar's end."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import asyncpg
import pytest

from flux.drain.drain import Drain
from tests.integration.drain.recorded import complete, counts, recorder
from tests.line import Line

RUN = """
import sys
from flux.app import sidecar
sidecar.LAST_DRAIN, sidecar.LAST = 0.3, 0.3
sidecar.main()
"""


@pytest.mark.parametrize("silent", ["from the start", "while it drains"])
async def test_it_ends_soon_after_its_server_though_postgres_never_answers(
    database_url: str, tmp_path: Path, silent: str
) -> None:
    (tmp_path / "flux.toml").write_text('name = "app"\n')
    spools = tmp_path / ".flux" / "spool"
    made = recorder(spools)
    connection = await asyncpg.connect(database_url)
    async with Line(database_url).laid() as line:
        if silent == "from the start":
            line.silence()
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            RUN,
            str(tmp_path),
            made.node,
            stdin=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "DATABASE_URL": line.url, "FLUX_MASTER_KEY": "5a" * 32},
        )
        try:
            ids = {complete(made).request_id}
            async with asyncio.timeout(60):
                while silent == "while it drains" and (await counts(connection))["executions"] < 1:
                    await asyncio.sleep(0.01)
            line.silence()
            ids |= {complete(made).request_id for _ in range(3)}
            assert process.stdin is not None
            process.stdin.close()
            async with asyncio.timeout(30):
                said = (await process.communicate())[1].decode()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
    assert process.returncode == 1
    assert said.splitlines()[-1] == (
        "flux sidecar: Postgres does not answer; the next start goes on with the spool"
    )
    made.close()
    drain = Drain({"dsn": database_url}, spools, own=None)
    await drain.once()
    await drain.close()
    found = [row[0] for row in await connection.fetch("SELECT request_id FROM flux.executions")]
    await connection.close()
    assert sorted(found) == sorted(ids)
