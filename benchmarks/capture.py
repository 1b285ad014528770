"""What mutation capture costs: the same statements on the same table with and without it, in one run.

    python benchmarks/capture.py postgresql://postgres@/postgres?host=/path/of/socket

The URL is a superuser's; a database is made and dropped. Transactions are BEGIN, one prepared statement,
COMMIT through asyncpg with the context set; `bulk` is one UPDATE of 10,000 rows of nine columns,
`bulk per row` the same on a table with a trigger of the user's. Ratios are of the lower quartiles.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from flux.data.install import install
from flux.store import migrate

COLUMNS = (
    "id int PRIMARY KEY, a text, b int, c numeric, d timestamptz DEFAULT now(), e boolean, f text, g bigint,"
    " h float8"
)
ROUNDS = 4
TIMES = 100
LIMITS = {"insert": 1.2, "update": 1.2, "delete": 1.2, "bulk": 6.0, "bulk per row": 6.0}
USER_TRIGGER = """
CREATE FUNCTION idle() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE TRIGGER idle AFTER INSERT ON by_row FOR EACH ROW WHEN (false) EXECUTE FUNCTION idle();
"""


async def main(url: str) -> None:
    admin = await asyncpg.connect(url)
    await admin.execute("DROP DATABASE IF EXISTS flux_benchmark WITH (FORCE)")
    await admin.execute("CREATE DATABASE flux_benchmark")
    connection = await asyncpg.connect(urlunsplit(urlsplit(url)._replace(path="/flux_benchmark")))
    try:
        await measure(connection)
    finally:
        await connection.close()
        await admin.execute("DROP DATABASE flux_benchmark WITH (FORCE)")
        await admin.close()


async def measure(connection: asyncpg.Connection) -> None:
    await migrate.apply(connection)
    for table in ("plain", "captured", "by_row"):
        await connection.execute(f"CREATE TABLE {table} ({COLUMNS})")
    await connection.execute(USER_TRIGGER)
    await install(connection)
    await _release(connection)
    context = await connection.fetchval(
        "SELECT repeat('c0ffee00', 4) || '|' || (now() AT TIME ZONE 'UTC')::date"
    )
    connection.add_log_listener(lambda _connection, _message: None)
    samples: dict[tuple[str, str], list[float]] = {}
    for _ in range(ROUNDS):
        for table in ("plain", "captured", "by_row"):
            await one_row(connection, table, context, samples)
            await bulk(connection, table, context, samples)
    for what, table in (
        ("insert", "captured"), ("update", "captured"), ("delete", "captured"),
        ("bulk", "captured"), ("bulk per row", "by_row"),
    ):  # fmt: skip
        kind = what.split()[0]
        base, cost = quartile(samples[kind, "plain"]), quartile(samples[kind, table])
        print(
            f"{what:13s} {base * 1e6:9.0f} us -> {cost * 1e6:9.0f} us "
            f" {cost / base:5.2f}x  (wanted {LIMITS[what]}x)"
        )


async def _release(connection: asyncpg.Connection) -> None:
    await connection.execute("DROP EVENT TRIGGER flux_ddl; DROP EVENT TRIGGER flux_drop")
    rows = await connection.fetch("SELECT tgname FROM pg_trigger WHERE tgrelid = 'plain'::regclass")
    for row in rows:
        await connection.execute(f'DROP TRIGGER "{row["tgname"]}" ON plain')


async def one_row(
    connection: asyncpg.Connection, table: str, context: str, samples: dict[tuple[str, str], list[float]]
) -> None:
    insert = await connection.prepare(
        f"INSERT INTO {table} VALUES ($1, 'hello', 1, 2, now(), true, 'text', 7, 1.5)"
    )
    update = await connection.prepare(f"UPDATE {table} SET b = b + 1, a = 'bye' WHERE id = $1")
    delete = await connection.prepare(f"DELETE FROM {table} WHERE id = $1")
    for kind, statement in (("insert", insert), ("update", update), ("delete", delete)):
        for i in range(TIMES):

            async def transaction(
                statement: asyncpg.prepared_stmt.PreparedStatement = statement, i: int = i
            ) -> None:
                await connection.execute(f"BEGIN; SET LOCAL flux.ctx = '{context}'")
                await statement.fetch(i)
                await connection.execute("COMMIT")

            samples.setdefault((kind, table), []).append(await timed(transaction))


async def bulk(
    connection: asyncpg.Connection, table: str, context: str, samples: dict[tuple[str, str], list[float]]
) -> None:
    await connection.execute(
        f"INSERT INTO {table} SELECT g, 'hello ' || g, g, g, now(), true, 'text', g, g"
        " FROM generate_series(1, 10000) g"
    )

    async def update() -> None:
        await connection.execute(f"BEGIN; SET LOCAL flux.ctx = '{context}'")
        await connection.execute(f"UPDATE {table} SET b = b + 1")
        await connection.execute("COMMIT")

    for _ in range(2):
        samples.setdefault(("bulk", table), []).append(await timed(update))
    await connection.execute(f"TRUNCATE {table}; TRUNCATE flux.mutations")


async def timed(work: Callable[[], Awaitable[None]]) -> float:
    started = time.perf_counter()
    await work()
    return time.perf_counter() - started


def quartile(samples: list[float]) -> float:
    return sorted(samples)[len(samples) // 4]


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
