"""The examples run."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import asyncpg
import httpx

from tests.acceptance.conftest import environment

EXAMPLES = Path(__file__).parents[2] / "examples"


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def _get(url: str) -> Any:
    deadline = time.monotonic() + 30
    while True:
        try:
            return httpx.get(url, trust_env=False).raise_for_status().json()
        except httpx.ConnectError:
            assert time.monotonic() < deadline
            time.sleep(0.05)


async def _spans(url: str) -> list[tuple[Any, ...]]:
    connection = await asyncpg.connect(url)
    try:
        rows = await connection.fetch(
            "SELECT s.trace_id, s.name, r.attributes ->> 'service.name' FROM flux.spans s "
            "JOIN flux.resources r ON r.id = s.resource_id ORDER BY s.start_ns"
        )
    finally:
        await connection.close()
    return [tuple(row) for row in rows]


def test_spans_from_quart_end_in_the_database_when_the_program_stops(database_url: str) -> None:
    port = _free_port()
    process = subprocess.Popen(
        [sys.executable, str(EXAMPLES / "spans_from_quart" / "app.py")],
        env=environment(PORT=str(port), FLUX_POSTGRES_EXPORTER_DSN=database_url),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        answer = _get(f"http://127.0.0.1:{port}/price/tea")
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)
    assert answer["cents"] == 300
    trace_id = answer["trace_id"]
    assert asyncio.run(_spans(database_url)) == [
        (trace_id, "GET /price/<item>", "shop"),
        (trace_id, "look up", "shop"),
    ]
