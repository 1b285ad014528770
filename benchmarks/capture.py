"""What mutation capture costs: the same statements on the same table with and without it, in one run.

    python benchmarks/capture.py [--rounds 36]

Starts an embedded Postgres of its own in a temporary folder (its settings are what counts: fsync on). A
one-row transaction is BEGIN with the context, one prepared statement and COMMIT through asyncpg; `bulk` is
one UPDATE of 10,000 rows in a transaction. Captured and plain tables take turns, twenty transactions at
a time, so that both meet the same noise; `ratio` is of the medians, `cpu` of the processor time that
the server's process spent. Tables have nine columns; `by row` is one with a trigger of the user's, which
has to be captured row by row.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from statistics import median

import asyncpg
from standing import Findings, Standing, arguments

from flux.data.install import install
from flux.store import embedded, migrate

COLUMNS = (
    "id int PRIMARY KEY, a text, b int, c numeric, d timestamptz DEFAULT now(), e boolean, f text, g bigint,"
    " h float8"
)
USER_TRIGGER = """
CREATE FUNCTION idle() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE TRIGGER idle AFTER INSERT ON by_row FOR EACH ROW WHEN (false) EXECUTE FUNCTION idle();
"""
TABLES = {"plain": "without capture", "captured": "per statement", "by_row": "per row"}
STATEMENTS = {
    "insert": "INSERT INTO {} VALUES ($1, 'hello', 1, 2, now(), true, 'text', 7, 1.5)",
    "update": "UPDATE {} SET b = b + 1, a = 'bye' WHERE id = $1",
    "delete": "DELETE FROM {} WHERE id = $1",
}
FILL = """
INSERT INTO {} SELECT g, 'hello ' || g, g, g, now(), true, 'text', g, g FROM generate_series(1, 10000) g
"""
TARGETS = {"insert": 1.2, "update": 1.2, "delete": 1.2, "bulk": 6.0}
ROWS = 20
"""One-row transactions of a kind per table and round."""


class Samples:
    """Wall-clock and server time of the transactions of one kind on one table, in microseconds."""

    def __init__(self) -> None:
        self.wall: list[float] = []
        self.cpu: list[float] = []

    def ratio(self, base: Samples) -> tuple[float, float]:
        return median(self.wall) / median(base.wall), sum(self.cpu) / sum(base.cpu)


class Bench:
    """One connection and its server process."""

    def __init__(self, connection: asyncpg.Connection, backend: int, context: str) -> None:
        self.connection = connection
        self.context = context
        self.samples: dict[tuple[str, str], Samples] = {}
        self._prepared: dict[str, asyncpg.prepared_stmt.PreparedStatement] = {}
        self._clock = Path(f"/proc/{backend}/schedstat")

    def spent(self) -> float:
        """Processor time of the server process so far, in microseconds."""
        return int(self._clock.read_text().split()[0]) / 1000

    async def transaction(self, kind: str, table: str, *arguments: int) -> None:
        statement = await self._statement(kind, table)
        into = self.samples.setdefault((kind, table), Samples())
        before = self.spent()
        started = time.perf_counter()
        await self.connection.execute(f"BEGIN; SET LOCAL flux.ctx = '{self.context}'")
        await statement.fetch(*arguments)
        await self.connection.execute("COMMIT")
        into.wall.append((time.perf_counter() - started) * 1e6)
        into.cpu.append(self.spent() - before)

    async def one_row(self, first: int) -> None:
        for kind in STATEMENTS:
            for table in TABLES:
                for key in range(first, first + ROWS):
                    await self.transaction(kind, table, key)

    async def bulk(self) -> None:
        for table in TABLES:
            await self.connection.execute(FILL.format(table))
        for _ in range(3):
            for table in TABLES:
                await self.transaction("bulk", table)
        await self.connection.execute(f"TRUNCATE {', '.join(TABLES)}")
        await self.connection.execute("TRUNCATE flux.mutations")

    async def _statement(self, kind: str, table: str) -> asyncpg.prepared_stmt.PreparedStatement:
        name = f"{kind}_{table}"
        if name not in self._prepared:
            text = STATEMENTS.get(kind, "UPDATE {} SET b = b + 1")
            self._prepared[name] = await self.connection.prepare(text.format(table))
        return self._prepared[name]


async def main(rounds: int) -> Findings:
    with tempfile.TemporaryDirectory() as folder, embedded.acquire(Path(folder)) as lease:
        connection = await asyncpg.connect(**lease.connect_args)
        try:
            return await measure(connection, rounds)
        finally:
            await connection.close()


async def measure(connection: asyncpg.Connection, rounds: int) -> Findings:
    await migrate.apply(connection)
    for table in TABLES:
        await connection.execute(f"CREATE TABLE {table} ({COLUMNS})")
    await connection.execute(USER_TRIGGER)
    await install(connection)
    await _release(connection)
    context = await connection.fetchval(
        "SELECT repeat('c0ffee00', 4) || '|' || (now() AT TIME ZONE 'UTC')::date"
    )
    connection.add_log_listener(lambda _connection, _message: None)
    bench = Bench(connection, await connection.fetchval("SELECT pg_backend_pid()"), context)
    await bench.one_row(100_000)
    bench.samples.clear()
    for number in range(rounds):
        await bench.one_row(number * ROWS)
    for _ in range(max(1, rounds // 12)):
        await bench.bulk()
    _print(bench.samples)
    return _findings(bench.samples)


def _print(samples: dict[tuple[str, str], Samples]) -> None:
    head = ("capture", "case", "plain us", "with us", "ratio", "target", "server cpu us, ratio")
    print("{:15s} {:7s} {:>9s} {:>9s} {:>7s} {:>7s}   {}".format(*head))
    for table in ("captured", "by_row"):
        for kind, target in TARGETS.items():
            base, cost = samples[kind, "plain"], samples[kind, table]
            wall, cpu = cost.ratio(base)
            times = f"{median(base.wall):9.0f} {median(cost.wall):9.0f} {wall:6.2f}x {target:6.1f}x"
            spent = f"{sum(base.cpu) / len(base.cpu):.0f} -> {sum(cost.cpu) / len(cost.cpu):.0f}, {cpu:.2f}x"
            print(f"{TABLES[table]:15s} {kind:7s} {times}   {spent}")


def _findings(samples: dict[tuple[str, str], Samples]) -> Findings:
    def ratios(kinds: Iterable[str], table: str) -> list[float]:
        return [samples[kind, table].ratio(samples[kind, "plain"])[0] for kind in kinds]

    def standing(what: str, found: list[float], most: float) -> Standing:
        measured = " / ".join(f"{ratio:.2f}x" for ratio in found)
        judged = "reached" if max(found) <= most else "**not reached**"
        return Standing(what, "the table without capture", f"≤ {most}x", measured, judged)

    bulk, each = TARGETS["bulk"], TARGETS["insert"]
    return Findings(
        [
            standing("capture, one-row INSERT / UPDATE / DELETE", ratios(STATEMENTS, "captured"), each),
            standing("capture, 10,000-row UPDATE of 9 columns", ratios(["bulk"], "captured"), bulk),
            standing("the same on a table with a trigger of the user's", ratios(["bulk"], "by_row"), bulk),
        ]
    )


async def _release(connection: asyncpg.Connection) -> None:
    """Take capture off the table `plain`."""
    await connection.execute("DROP EVENT TRIGGER flux_ddl; DROP EVENT TRIGGER flux_drop")
    rows = await connection.fetch("SELECT tgname FROM pg_trigger WHERE tgrelid = 'plain'::regclass")
    for row in rows:
        await connection.execute(f'DROP TRIGGER "{row["tgname"]}" ON plain')


if __name__ == "__main__":
    options = arguments(__doc__)
    options.add_argument("--rounds", type=int, default=36)
    given = options.parse_args()
    asyncio.run(main(3 if given.quick else given.rounds)).hand_over(given.json)
