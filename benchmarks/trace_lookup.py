"""How long one trace takes to read out of millions of spans.

The standing number: p99 below 5 ms of 2 million.

    python benchmarks/trace_lookup.py [--spans 2000000] [--reads 1000] [--server postgresql://...]

Makes a database of its own (on an embedded Postgres, or on the server that is named) and fills
seven days with executions of five spans, four host calls and two mutations each. Reads random ones
through Reader by an eight-digit prefix. Drops the database afterwards.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
from cluster import Cluster
from standing import Findings, Standing, arguments, verdict

from flux.query import Reader
from flux.store import migrate

WANTED = 5.0
"""Milliseconds."""
DATABASE = "flux_bench_trace_lookup"
SPANS = 5
DAYS = 7

# The same series in each statement: md5 of the number is the execution's id, its remainder the day.
_SERIES = """
    SELECT md5(i::text) AS id, (current_date - (i % {days})::int) AS day,
           (current_date - (i % {days})::int)::timestamp AT TIME ZONE 'UTC' + (i % 86000) * interval '1
           second' AS at
    FROM generate_series(1, $1::bigint) AS i
"""
FILL = [
    """
    INSERT INTO flux.executions (request_id, day, trace_id, span_id, trigger, function, node, method, path,
                                 status, outcome, started_at, duration_ms, record, body, output, output_kind)
    SELECT id, day, md5(id), left(id, 16), 'http', 'f' || (ascii(id) % 20), 'n', 'POST', '/f', 200, 'ok', at,
           12.5, 'all', convert_to('{"item": "' || id || '"}', 'UTF8'), '\\x7b7d', 'json'
    FROM series
    """,
    """
    INSERT INTO flux.spans (request_id, day, span_id, trace_id, parent_span_id, name, kind, start_time,
                            start_ns, duration_ns, status, attributes)
    SELECT id, day, left(md5(id || s), 16), md5(id), CASE WHEN s > 0 THEN left(md5(id || 0), 16) END,
           'SELECT', 'CLIENT', at, extract(epoch FROM at)::bigint * 1000000000 + s, 1000000, 'UNSET',
           jsonb_build_object('db.query.text', repeat('select * from users where id = $1 ', 4),
                              'db.system.name', 'postgresql', 'server.address', '127.0.0.1', 'flux.call', s)
    FROM series, generate_series(0, 4) AS s
    """,
    """
    INSERT INTO flux.host_calls (request_id, day, seq, op, arguments, result, status, started, delivered, at,
    span_id) SELECT id, day, s, 'db.sql', convert_to('{"text": "select 1", "params": []}', 'UTF8'),
           convert_to('{"rows": [{"id": 1}], "count": 1}', 'UTF8'), 'done', s, s, at, left(md5(id || s), 16)
    FROM series, generate_series(1, 4) AS s
    """,
    """
    INSERT INTO flux.mutations (request_id, day, n, xid, system_id, schema_name, table_name, op, key, before,
                                after, at, origin)
    SELECT id, day, nextval('flux.mutation_order'), '1', 1, 'public', 'users', 'UPDATE', '{"id": 1}', '{"id":
           1, "q": 1}', '{"id": 1, "q": 2}', at, 'flux'
    FROM series, generate_series(1, 2)
    """,
]


class OneConnection:
    """A store with a single connection."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    @asynccontextmanager
    async def internal(self, *, patience: float | None = None) -> AsyncIterator[Any]:
        yield self._connection

    async def close(self) -> None:
        await self._connection.close()


async def main(spans: int, reads: int, url: str) -> Findings:
    """Fill, read, print."""
    server = await asyncpg.connect(url)
    await server.execute(f"DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)")
    await server.execute(f"CREATE DATABASE {DATABASE} TEMPLATE template0")
    try:
        mine = urlunsplit(urlsplit(url)._replace(path=f"/{DATABASE}"))
        connection = await asyncpg.connect(mine)
        executions = max(1, spans // SPANS)
        await _fill(connection, executions, mine)
        reader = Reader(OneConnection(connection))
        ids = [await _id(connection, random.randint(1, executions)) for _ in range(reads)]
        for request_id in ids[:20]:
            await reader.trace(request_id)
        times = []
        for request_id in ids:
            began = time.perf_counter()
            document = await reader.trace(request_id[:12])
            times.append((time.perf_counter() - began) * 1000)
            assert len(document.spans) == SPANS
        times.sort()
        print(
            f"{executions * SPANS:,} spans, {reads} reads: p50 {statistics.median(times):.2f} ms,"
            f" p99 {times[int(len(times) * 0.99)]:.2f} ms, max {times[-1]:.2f} ms"
        )
        await reader.close()
        p99 = times[int(len(times) * 0.99)]
        measured = f"p50 {statistics.median(times):.1f}, p99 {p99:.1f} ms"
        what = f"one trace out of {executions * SPANS:,} spans"
        return Findings(
            [Standing(what, "–", f"p99 < {WANTED:.0f} ms", measured, verdict([p99], most=WANTED))]
        )
    finally:
        await server.execute(f"DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)")
        await server.close()


async def _fill(connection: Any, executions: int, url: str) -> None:
    began = time.perf_counter()
    await migrate.apply(connection)
    await connection.execute(f"SELECT flux.ensure_partitions(current_date - {DAYS}, current_date)")
    async with asyncpg.create_pool(url, min_size=0, max_size=2) as pool:

        async def fill(statement: str) -> None:
            head, _, rest = statement.partition("SELECT")
            series = _SERIES.format(days=DAYS)
            await pool.execute(f"{head} WITH series AS ({series}) SELECT {rest}", executions, timeout=1800)

        await asyncio.gather(*(fill(statement) for statement in FILL))
    await connection.execute("ANALYZE", timeout=600)
    print(f"filled in {time.perf_counter() - began:.0f} s")


async def _id(connection: Any, number: int) -> str:
    found: str = await connection.fetchval("SELECT md5($1::bigint::text)", number)
    return found


if __name__ == "__main__":
    options = arguments(__doc__)
    options.add_argument("--spans", type=int, default=2_000_000)
    options.add_argument("--reads", type=int, default=1000)
    options.add_argument("--server", help="a superuser's URL")
    given = options.parse_args()
    if given.quick:
        given.spans, given.reads = 100_000, 200
    if given.server:
        found = asyncio.run(main(given.spans, given.reads, given.server))
    else:
        with TemporaryDirectory(prefix="flux-bench-") as folder, Cluster(Path(folder)) as cluster:
            found = asyncio.run(main(given.spans, given.reads, cluster.url("postgres")))
    found.hand_over(given.json)
