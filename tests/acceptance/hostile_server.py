"""A server with hostile functions and two well-behaved ones beside them, which are asked the whole time."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import httpx

from tests.acceptance.conftest import Project, Server
from tests.acceptance.processes import children

HOSTILE = Path(__file__).with_name("hostile")


MEMORY_MB = 96


PATIENCE = 20.0
"""Seconds in which what a fault used must have been given back."""


GOOD_TS = """
    const [row] = await ctx.db.query({ table: "kept", operation: "insert", data: { token: input.token } });
    ctx.log.info("kept", { token: row.token });
    return { token: row.token };
"""


BOMB = """
    await Promise.all([ctx.invoke("ts_bomb"), ctx.invoke("ts_bomb")]);
"""


GOOD_PY = """
async def handler(input, ctx):
    row = await ctx.db.fetchrow("insert into kept (token) values ($1) returning *", input["token"])
    ctx.log.info("kept", {"token": row["token"]})
    return {"token": row["token"]}
"""


HURRIED_MS = 1000


@dataclass
class Neighbours:
    """Asks the well-behaved functions, one request after the other, until it is stopped."""

    url: str
    asked: dict[str, str] = field(default_factory=dict)
    wrong: list[Any] = field(default_factory=list)
    slowest: float = 0.0

    def __post_init__(self) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        count = 0
        with httpx.Client(base_url=self.url, timeout=60, trust_env=False) as client:
            while not self._stop.wait(0.01):
                count += 1
                token = f"t{count}"
                began = time.monotonic()
                try:
                    answer = client.post(("/good_ts", "/good_py")[count % 2], json={"token": token})
                except httpx.HTTPError as error:
                    self.wrong.append((token, repr(error)))
                    continue
                self.slowest = max(self.slowest, time.monotonic() - began)
                if answer.status_code != 200 or answer.json() != {"token": token}:
                    self.wrong.append((token, answer.status_code, answer.text))
                self.asked[answer.headers["x-request-id"]] = token

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()


@dataclass
class Hostile:
    """The server with its hostile functions."""

    project: Project
    server: Server
    neighbours: Neighbours
    client: httpx.Client
    descriptors: int = 0
    children: int = 0

    def ask(self, function: str, kind: str, **given: Any) -> httpx.Response:
        return self.client.post(f"/{function}", json={"kind": kind, **given})

    def record(self, answer: httpx.Response) -> Any:
        """The execution's row, its calls and logs, once they are in Postgres."""
        return asyncio.run(self._record(answer.headers["x-request-id"]))

    async def _record(self, request_id: str) -> Any:
        connection = await asyncpg.connect(self.project.environment["DATABASE_URL"])
        try:
            deadline = time.monotonic() + PATIENCE
            while True:
                row = await connection.fetchrow(
                    "SELECT * FROM flux.executions WHERE request_id = $1 AND outcome IS NOT NULL", request_id
                )
                if row is not None:
                    break
                assert time.monotonic() < deadline, f"{request_id} was not recorded"
                await asyncio.sleep(0.05)
            where = "WHERE request_id = $1 ORDER BY seq"
            calls = await connection.fetch(f"SELECT * FROM flux.host_calls {where}", request_id)
            logs = await connection.fetch(f"SELECT * FROM flux.logs {where}", request_id)
            spans = await connection.fetchval(
                "SELECT count(*) FROM flux.spans WHERE request_id = $1", request_id
            )
        finally:
            await connection.close()
        error = json.loads(row["error"]) if row["error"] else None
        return {**row, "error": error, "calls": calls, "logs": logs, "spans": spans}

    def used(self) -> tuple[int, int, int]:
        """Open descriptors of the server, the living processes below it, and those that nobody has reaped."""
        pid = self.server.process.pid
        own = children(pid)
        found = [*own, *(guest for spawner in own for guest in children(spawner))]
        states = []
        for child in found:
            with contextlib.suppress(FileNotFoundError):
                states.append(Path(f"/proc/{child}/stat").read_text().rpartition(") ")[2][0])
        zombies = states.count("Z")
        return len(list(Path(f"/proc/{pid}/fd").iterdir())), len(states) - zombies, zombies

    def memory(self, what: str = "VmRSS") -> float:
        """MiB that the server holds (VmHWM: held at most)."""
        status = Path(f"/proc/{self.server.process.pid}/status").read_text()
        return int(status.partition(f"{what}:")[2].split()[0]) / 1024

    def settled(self) -> None:
        """Wait until descriptors and processes are back to what they were, at most."""
        deadline = time.monotonic() + PATIENCE
        while True:
            descriptors, children, zombies = self.used()
            if descriptors <= self.descriptors and children <= self.children and not zombies:
                return
            assert time.monotonic() < deadline, (
                f"{descriptors} descriptors ({self.descriptors} before), {children} children "
                f"({self.children} before), {zombies} zombies"
            )
            time.sleep(0.02)

    def recovered(self, before: int, function: str) -> None:
        """After a fault: all is given back, the function works, its neighbours got right answers."""
        self.settled()
        assert self.ask(function, "works").json() == {"works": True}
        deadline = time.monotonic() + PATIENCE
        while len(self.neighbours.asked) < before + 2:
            assert time.monotonic() < deadline, "the neighbours get no answers"
            time.sleep(0.01)
        assert self.neighbours.wrong == []


def write(project: Project) -> None:
    project.write("flux.toml", f'name = "hostile"\nmemory_mb = {MEMORY_MB}\n')
    project.write("schema/001.sql", "CREATE TABLE kept (token text PRIMARY KEY);")
    project.typescript("good_ts", GOOD_TS)
    project.write("functions/good_py/main.py", GOOD_PY)
    project.write("functions/_hostile/kinds.ts", (HOSTILE / "kinds.ts").read_text())
    project.write("functions/_hostile/kinds.py", (HOSTILE / "kinds.py").read_text())
    for suffix in ("", "_hurried", "_patched"):
        project.write(
            f"functions/ts{suffix}/index.ts",
            'import { kinds } from "../_hostile/kinds.ts";\n'
            "export default (given: any) => kinds[given.input.kind](given);\n",
        )
        project.write(
            f"functions/py{suffix}/main.py",
            "from _hostile.kinds import kinds\n\n\n"
            'def handler(input, ctx):\n    return kinds[input["kind"]](input, ctx)\n',
        )
    project.typescript("ts_bomb", BOMB)
    for name in ("ts_bomb", "ts_hurried", "py_hurried", "ts_patched", "py_patched"):
        project.write(f"functions/{name}/flux.json", json.dumps({"timeout_ms": HURRIED_MS}))


def warm(hostile: Hostile) -> None:
    """Have every pool and process there that a server under this load comes to have, then count."""
    for function in ("ts", "ts_hurried", "ts_patched", "py", "py_hurried", "py_patched"):
        assert hostile.ask(function, "works").json() == {"works": True}
    for function in ("ts", "py"):
        assert hostile.ask(function, "calls_at_once").status_code == 200
    deadline = time.monotonic() + PATIENCE
    while len(hostile.neighbours.asked) < 20:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    descriptors, children, _ = hostile.used()
    # One request of a test's and one of the neighbours' may be going on; a replaced process may be ending.
    hostile.descriptors, hostile.children = descriptors + 2, children
