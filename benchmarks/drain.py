"""How fast records leave the spool: spans and executions a second into Postgres, beside a bare COPY of the
same span rows.

    python benchmarks/drain.py [--executions 4000] [--spans 12] [--rounds 3]

Starts an embedded Postgres, fills a spool, drains it in this process (one core for the drain, one for the
server), then copies the same rows from memory into a table made like flux.spans. Beside the rates it says
what a span costs in CPU time, of this process and of all of Postgres: the steady measure where the machine is
shared.
"""

from __future__ import annotations

import asyncio
import gc
import os
import shutil
import tempfile
import time
from pathlib import Path

import asyncpg
import uvloop
from opentelemetry.context import Context
from standing import Findings, Standing, arguments, spread, verdict

from flux.drain.drain import Drain
from flux.record.events import Arrival
from flux.record.identity import day_of, new_id
from flux.recorder.context import with_execution
from flux.recorder.recorder import Recorder
from flux.recorder.redaction import Redaction
from flux.recorder.seal import Sealer
from flux.recorder.telemetry import setup
from flux.spool.writer import Spool
from flux.store import embedded, migrate

WANTED = 50_000
"""Spans a second."""
ATTRIBUTES = {
    "http.request.method": "GET",
    "url.path": "/hello",
    "url.scheme": "http",
    "http.route": "/hello",
    "server.address": "127.0.0.1",
    "server.port": 4000,
    "http.response.status_code": 200,
    "flux.deployment": "14c0364cbda1c726c750b86c68e18b2873a513a227113f2c512db066c93c6b42",
}


def _fill(folder: Path, executions: int, spans: int) -> None:
    spool = Spool.create(folder, new_id(), limit=2**33)
    recorder = Recorder(spool, Sealer(os.urandom(32)), Redaction((), ()))
    provider = setup(recorder, {"service.name": "bench"}, everywhere=False)
    tracer = provider.get_tracer("bench")
    for _ in range(executions):
        now = time.time_ns()
        arrival = Arrival(
            request_id=new_id(),
            day=day_of(now),
            trace_id=new_id(),
            span_id=new_id()[:16],
            parent_span_id=None,
            parent_request_id=None,
            trigger="http",
            function="hello",
            deployment="ab" * 32,
            started_ns=now,
            record="all",
            method="GET",
            url="http://127.0.0.1:4000/hello",
            path="/hello",
            route="/hello",
        )
        execution = recorder.open(arrival, seed=bytes(32), now_ns=now)
        context = with_execution(Context(), execution)
        for _ in range(spans):
            tracer.start_span("GET /hello", context, attributes=dict(ATTRIBUTES)).end()
        execution.end(status=200, outcome="ok", output=b'{"message":"Hello, Ada!"}')
    provider.shutdown()
    recorder.close()


async def _postgres_cpu(connection: asyncpg.Connection) -> dict[int, float]:
    """CPU seconds of each of the server's processes."""
    found = {}
    for row in await connection.fetch("SELECT pid FROM pg_stat_activity"):
        try:
            stat = Path(f"/proc/{row['pid']}/stat").read_text()
        except OSError:
            continue
        user, system = stat.rpartition(")")[2].split()[11:13]
        found[row["pid"]] = (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")
    return found


def _spent(before: dict[int, float], after: dict[int, float]) -> float:
    return sum(seconds - before.get(pid, 0.0) for pid, seconds in after.items())


async def _measure(folder: Path, executions: int, spans: int) -> tuple[float, float]:
    """Spans a second of the drain, and of a bare COPY."""
    lease = embedded.acquire(folder)
    try:
        connection = await asyncpg.connect(**lease.connect_args)
        await migrate.apply(connection)
        await asyncio.to_thread(_fill, folder / "spool", executions, spans)
        drain = Drain(lease.connect_args, folder / "spool", own=None)
        server = await _postgres_cpu(connection)
        began, cpu = time.perf_counter(), time.process_time()
        while await drain.once():
            pass
        took, cpu = time.perf_counter() - began, time.process_time() - cpu
        served = _spent(server, await _postgres_cpu(connection))
        await drain.close()
        stored = await connection.fetchval("SELECT count(*) FROM flux.spans")
        assert stored == executions * spans, stored
        drained = stored / took
        print(f"drained    {executions / took:9.0f} executions/s  {stored / took:9.0f} spans/s", end="")
        print(f"   CPU a span: drain {cpu / stored * 1e6:.1f} µs, Postgres {served / stored * 1e6:.1f} µs")
        rows = [tuple(row) for row in await connection.fetch("SELECT * FROM flux.spans")]
        await connection.execute("CREATE TABLE public.bare (LIKE flux.spans INCLUDING ALL)")
        server = await _postgres_cpu(connection)
        began, cpu = time.perf_counter(), time.process_time()
        for at in range(0, len(rows), 2000):
            await connection.copy_records_to_table("bare", records=rows[at : at + 2000], schema_name="public")
        took, cpu = time.perf_counter() - began, time.process_time() - cpu
        served = _spent(server, await _postgres_cpu(connection))
        print(f"bare COPY                            {stored / took:9.0f} spans/s", end="")
        print(f"   CPU a span: client {cpu / stored * 1e6:.1f} µs, Postgres {served / stored * 1e6:.1f} µs")
        await connection.close()
        return drained, stored / took
    finally:
        lease.close()


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--executions", type=int, default=4000)
    parser.add_argument("--spans", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    if given.quick:
        given.executions, given.rounds = 1000, 1
    gc.set_threshold(100_000, 20, 50)  # as the sidecar does
    found = []
    for _ in range(given.rounds):
        folder = Path(tempfile.mkdtemp(prefix="flux-bench-"))
        try:
            found.append(uvloop.run(_measure(folder, given.executions, given.spans)))
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    drained, copied = [one[0] for one in found], [one[1] for one in found]
    base = f"bare COPY of the same rows: {spread(copied, 0, '/s')}"
    measured = f"{spread(drained, 0, '/s')}"
    what = "spans from the spool into Postgres"
    one = Standing(what, base, f"≥ {WANTED:,}/s", measured, verdict(drained, least=WANTED))
    Findings([one]).hand_over(given.json)


if __name__ == "__main__":
    main()
