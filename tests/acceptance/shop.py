"""examples/orders after its 200 requests: the drive, and all that the record says of it, read once."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import httpx

from tests.acceptance.conftest import Project, environment

EXAMPLE = Path(__file__).parents[2] / "examples" / "orders"


PATIENCE = "4"


Row = dict[str, Any]


@dataclass
class Shop:
    """The example after its drive: what the driver saw, what the provider took, what the database holds."""

    project: Project
    sent: list[Row]
    summary: str
    ledger: dict[str, dict[str, Any]]
    tables: dict[str, list[Row]]
    executions: dict[str, Row]
    calls: dict[str, list[Row]]
    spans: dict[str, list[Row]]
    mutations: list[Row]
    jobs: list[Row]
    everything: str
    """All rows of the record as text, bytes decoded."""

    def of(self, *kinds: str) -> list[Row]:
        """The driver's requests of these kinds."""
        return [sent for sent in self.sent if sent["kind"] in kinds]

    def placed(self) -> list[Row]:
        """Requests that were answered 200."""
        return [sent for sent in self.sent if sent["status"] == 200]

    def changed(self, request_id: str) -> list[Row]:
        """The mutations of an execution, in their order."""
        return [mutation for mutation in self.mutations if mutation["request_id"] == request_id]

    def children(self, request_id: str, trigger: str) -> list[Row]:
        """What an execution invoked, or pushed as jobs."""
        return [
            row
            for row in self.executions.values()
            if row["parent_request_id"] == request_id and row["trigger"] == trigger
        ]

    def root(self, execution: Row) -> Row:
        """An execution's root span."""
        return next(
            span for span in self.spans[execution["request_id"]] if span["span_id"] == execution["span_id"]
        )


@contextmanager
def provider() -> Iterator[str]:
    """The example's provider on a port of the system's choice."""
    process = subprocess.Popen(
        [sys.executable, str(EXAMPLE / "provider.py"), "0"],
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        found = re.search(r"http://\S+", process.stdout.readline())
        assert found is not None
        yield found[0]
    finally:
        process.terminate()
        process.wait(30)
        if process.stdout is not None:
            process.stdout.close()


async def drive(project: Project, url: str, address: str) -> Shop:
    project.flux("db", "push")
    with project.serving("serve") as client:
        done = subprocess.run(
            [sys.executable, "drive.py", "--url", str(client.base_url), "--json", "sent.json"],
            cwd=project.root,
            env=project.environment,
            capture_output=True,
            text=True,
            timeout=110,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        connection = await asyncpg.connect(url)
        deadline = time.monotonic() + 60
        while await connection.fetchval("SELECT count(*) FROM flux.jobs WHERE status <> 'done'"):
            assert time.monotonic() < deadline, await connection.fetch("SELECT * FROM flux.jobs")
            await asyncio.sleep(0.05)
    try:
        return await _read(project, connection, address, done.stdout)
    finally:
        await connection.close()


async def _read(project: Project, connection: Any, address: str, summary: str) -> Shop:
    await connection.set_type_codec("jsonb", encoder=str, decoder=json.loads, schema="pg_catalog")

    async def rows(query: str) -> list[Row]:
        return [dict(row) for row in await connection.fetch(query)]

    async with httpx.AsyncClient(trust_env=False) as client:
        ledger = (await client.get(address)).json()
    tables = {
        name: [row["image"] for row in await rows(f"SELECT to_jsonb(t.*) AS image FROM {name} t")]
        for name in ("products", "stock", "orders", "order_items", "receipts")
    }
    record = {
        name: await rows(f"SELECT * FROM flux.{name}")
        for name in ("executions", "host_calls", "spans", "logs", "jobs")
    }
    assert await rows("SELECT reason FROM flux.quarantine") == []
    assert await rows("SELECT spool_id FROM flux.spool_positions WHERE NOT finished") == []
    calls: dict[str, list[Row]] = {}
    for call in sorted(record["host_calls"], key=lambda row: row["seq"]):
        calls.setdefault(call["request_id"], []).append(call)
    spans: dict[str, list[Row]] = {}
    for span in record["spans"]:
        spans.setdefault(span["request_id"], []).append(span)
    assert len({row["request_id"] for row in record["executions"]}) == len(record["executions"])
    return Shop(
        project,
        json.loads((project.root / "sent.json").read_text()),
        summary,
        ledger,
        tables,
        {row["request_id"]: row for row in record["executions"]},
        calls,
        spans,
        await rows("SELECT * FROM flux.mutations ORDER BY n"),
        record["jobs"],
        "\n".join(
            value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
            for part in record.values()
            for row in part
            for value in row.values()
        ),
    )
