"""Whether memory and file descriptors stay flat under a long mixed load.

    python benchmarks/soak.py [--requests 100000] [--every 10000]

Starts an embedded Postgres (or uses `--database URL`) and a Flux server, and sends it a mix: hello in
TypeScript and in Python, an INSERT, thrown errors, rejections (404, 405, 400), on connections that are kept
and on connections that are dropped in the middle of a request. After each `--every` requests it waits until
all is drained, prints resident memory and open file descriptors of the server, its drain and its guests, and
goes on. Ends with 1 where at the end a process has more descriptors than after the first third, or more
memory than a fifth and 24 MiB above what it had then, or where records are missing.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import asyncpg
from cluster import Cluster
from project import SCHEMA
from server import serve

from flux.store import migrate

CONNECTIONS = 16
WARM = 1 / 3
"""The part of the requests after which memory and descriptors are taken as what they should stay at."""
GUEST_FDS = 3
"""What a guest costs the server: its socket and its stderr, and the end of its life."""
STAND_INS = 8
"""Guests that may be started meanwhile: up to four stand in for one that a loaded machine holds up."""
MORE_BYTES, MORE_PART = 24 * 2**20, 0.2

TYPESCRIPT = {
    "hello": ("GET", "({ input }) => ({ message: `Hello, ${input.name}!` })"),
    "insert": (
        "POST",
        "({ input, ctx }) => "
        'ctx.db.query({ table: "notes", operation: "insert", data: { text: input.text } })',
    ),
    "fails": ("POST", '() => { throw new TypeError("as it always does"); }'),
}
PYTHON = "async def handler(input, ctx):\n    print('hello')\n    return {'message': f'Hello, {input}!'}\n"


def _request(method: str, path: str, body: bytes = b"", kind: str = "application/json") -> bytes:
    head = f"{method} {path} HTTP/1.1\r\nhost: localhost\r\n"
    if body:
        head += f"content-type: {kind}\r\ncontent-length: {len(body)}\r\n"
    return f"{head}\r\n".encode() + body


MIX = [
    (_request("GET", "/hello?name=Ada"), 200),
    (_request("POST", "/python", b'{"name": "Ada"}'), 200),
    (_request("POST", "/insert", b'{"text": "a note"}'), 200),
    (_request("GET", "/hello?name=Eve"), 200),
    (_request("POST", "/fails", b"{}"), 500),
    (_request("GET", "/nowhere"), 404),
    (_request("GET", "/insert"), 405),
    (_request("POST", "/python", b"{"), 400),
]
DROPPED = _request("POST", "/insert", b'{"text": "never wh')[:-5]
DROP_EVERY = 31
"""Requests of one connection after which it is dropped in the middle of one."""


def _project(folder: Path) -> Path:
    root = folder / "soak"
    for name, (method, handler) in TYPESCRIPT.items():
        (root / "functions" / name).mkdir(parents=True)
        source = (
            'import { defineFunction } from "@flux/functions";\n'
            f'export default defineFunction({{ name: "{name}", handler: async {handler} }});\n'
        )
        (root / "functions" / name / "index.ts").write_text(source)
        (root / "functions" / name / "flux.json").write_text(json.dumps({"method": method}))
    (root / "functions" / "python").mkdir()
    (root / "functions" / "python" / "main.py").write_text(PYTHON)
    (root / "flux.toml").write_text('name = "soak"\npool_size = 4\n')
    return root


async def _exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> int:
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length:")[1].split(b"\r\n", 1)[0])
    await reader.readexactly(length)
    return int(head.split(b" ", 2)[1])


async def _client(port: int, numbers: itertools.count[int], until: int, answers: Counter[int]) -> None:
    """One client: takes numbers and sends what the mix has for each, dropping a connection now and then."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    mine = 0
    while (number := next(numbers)) < until:
        request, expected = MIX[number % len(MIX)]
        status = await _exchange(reader, writer, request)
        if status != expected:
            raise SystemExit(f"{request[:40]!r} was answered {status}, not {expected}")
        answers[status] += 1
        mine += 1
        if mine % DROP_EVERY == 0:
            writer.write(DROPPED)
            await writer.drain()
            writer.close()
            answers[499] += 1
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.close()
    await writer.wait_closed()


def _processes(server: int) -> dict[str, int]:
    """The server's own processes by what they are."""
    found = {"server": server}
    for child in Path(f"/proc/{server}/task/{server}/children").read_text().split():
        try:
            command = Path(f"/proc/{child}/cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        name = "drain" if "sidecar" in command else "deno" if "deno" in command else "python"
        found[f"{name} {child}"] = int(child)
    return found


def _sample(pids: dict[str, int]) -> dict[str, tuple[int, int]]:
    """Resident bytes and open descriptors by process."""
    page = os.sysconf("SC_PAGE_SIZE")
    return {
        name: (
            int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * page,
            len(os.listdir(f"/proc/{pid}/fd")),
        )
        for name, pid in pids.items()
    }


async def _drained(database: str, wanted: int) -> int:
    """Executions in Postgres, once they are `wanted` or after 60 s without any more."""
    connection = await asyncpg.connect(database)
    try:
        count, since = -1, time.monotonic()
        while count < wanted and time.monotonic() - since < 60:
            now = await connection.fetchval("SELECT coalesce(sum(count), 0)::bigint FROM flux.executions")
            if now != count:
                count, since = now, time.monotonic()
            await asyncio.sleep(0.1)
        return count
    finally:
        await connection.close()


async def _run(server: subprocess.Popen[str], port: int, database: str, requests: int, every: int) -> bool:
    numbers, answers = itertools.count(), Counter[int]()
    samples: list[tuple[int, dict[str, tuple[int, int]]]] = []
    began = time.monotonic()
    print(f"{'requests':>9}{'req/s':>7}  resident MiB / descriptors")
    sent, recorded = 0, 0
    while sent < requests:
        start = time.monotonic()
        until = min(sent + every, requests)
        numbers = itertools.count(sent)
        await asyncio.gather(*(_client(port, numbers, until, answers) for _ in range(CONNECTIONS)))
        rate = (until - sent) / (time.monotonic() - start)
        sent = until
        recorded = await _drained(database, answers.total())
        pids = _processes(server.pid)
        sample = await _settled(pids)
        samples.append((sent, sample))
        shown = "  ".join(f"{name} {rss / 2**20:.1f}/{fds}" for name, (rss, fds) in sample.items())
        print(f"{sent:9}{rate:7.0f}  {shown}", flush=True)
    print(f"{dict(sorted(answers.items()))} in {time.monotonic() - began:.0f} s, {recorded} recorded")
    return _judge(samples, requests) and recorded == answers.total()


async def _settled(pids: dict[str, int]) -> dict[str, tuple[int, int]]:
    """A sample whose descriptors have stopped falling: closed connections are let go of a moment later."""
    sample = _sample(pids)
    while True:
        await asyncio.sleep(0.3)
        later = _sample(pids)
        if all(later[name][1] >= fds for name, (_, fds) in sample.items()):
            return later
        sample = later


def _judge(samples: list[tuple[int, dict[str, tuple[int, int]]]], requests: int) -> bool:
    first = next(sample for sent, sample in samples if sent >= requests * WARM)
    last = samples[-1][1]
    complaints = []
    new = [name for name in last if name not in first]
    if new:
        print(f"stand-ins: {', '.join(new)}")
    if len(new) > STAND_INS:
        complaints.append(f"{len(new)} guests were started")
    for name in first.keys() & last.keys():
        (rss_before, fds_before), (rss, fds) = first[name], last[name]
        if fds > fds_before + (GUEST_FDS * len(new) if name == "server" else 0):
            complaints.append(f"{name} has {fds} descriptors, {fds_before} before")
        if rss > rss_before * (1 + MORE_PART) + MORE_BYTES:
            complaints.append(f"{name} has {rss / 2**20:.1f} MiB, {rss_before / 2**20:.1f} before")
    for complaint in complaints:
        print(f"GREW: {complaint}")
    return not complaints


async def _prepare(database: str) -> None:
    connection = await asyncpg.connect(database)
    try:
        await migrate.apply(connection)
        await connection.execute(SCHEMA)
    finally:
        await connection.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--every", type=int, default=10_000)
    parser.add_argument("--database", help="an empty database's URL; by default an embedded one")
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="flux-soak-"))
    cluster = ExitStack()
    server: subprocess.Popen[str] | None = None
    try:
        if given.database is None:
            database = cluster.enter_context(Cluster(folder)).database("soak")
        else:
            database = given.database
            asyncio.run(_prepare(database))
        server, port = serve(_project(folder), database)
        good = asyncio.run(_run(server, port, database, given.requests, given.every))
        server.send_signal(signal.SIGTERM)
        good = server.wait(60) == 0 and good
    finally:
        if server is not None and server.poll() is None:
            server.kill()
            server.wait()
        cluster.close()
        shutil.rmtree(folder, ignore_errors=True)
    print("flat" if good else "NOT FLAT")
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
