"""What one INSERT costs through a Session, beside bare asyncpg: wall and client CPU, microseconds each.

    python benchmarks/session.py postgresql://postgres@/postgres?host=/path/to/socket

Makes a database of its own on that server (a superuser's URL) and drops it. Rounds alternate between the
ways, so that load from elsewhere meets all of them alike; the least of each is printed.
"""

from __future__ import annotations

import secrets
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import uvloop
from opentelemetry.sdk.trace import TracerProvider

from flux.data import install, transaction
from flux.data.database import UserDatabase
from flux.data.instrument import instrument_asyncpg, uninstrument_asyncpg
from flux.record.call import HostCall
from flux.record.identity import day_of
from flux.store import migrate

ROUNDS, CALLS = 7, 300
ARGUMENTS = b'{"table":"users","operation":"insert","data":{"email":"ann@example.org"}}'
BARE = 'INSERT INTO "bare" ("email") VALUES ($1) RETURNING *'
CAPTURED = 'INSERT INTO "users" ("email") VALUES ($1) RETURNING *'


@dataclass
class Source:
    """Where the database is, for UserDatabase."""

    app_connect_args: dict[str, Any]

    async def session_token(self) -> bytes:
        connection = await asyncpg.connect(**{**self.app_connect_args, "server_settings": {}})
        try:
            return bytes(await connection.fetchval("SELECT token FROM flux.gate"))
        finally:
            await connection.close()

    async def heal_app_role(self) -> None:
        """The owner runs the functions here."""


async def main(url: str) -> None:
    """Measure and print."""
    name = f"flux_bench_{secrets.token_hex(4)}"
    server = await asyncpg.connect(url)
    await server.execute(f"CREATE DATABASE {name} TEMPLATE template0")
    try:
        await measure(urlunsplit(urlsplit(url)._replace(path=f"/{name}")))
    finally:
        await server.execute(f"DROP DATABASE {name} WITH (FORCE)")
        await server.close()


async def measure(url: str) -> None:
    """All ways, alternating."""
    owner = await asyncpg.connect(url)
    await migrate.apply(owner)
    await owner.execute(
        "SET synchronous_commit = off;"
        "CREATE TABLE users (id bigserial PRIMARY KEY, email text, at timestamptz DEFAULT now());"
    )
    await install.install(owner)
    await owner.execute("CREATE TABLE bare (LIKE users INCLUDING ALL)")
    await owner.execute(
        "DO $$ DECLARE t record; BEGIN FOR t IN SELECT tgname FROM pg_trigger WHERE "
        "tgrelid = 'bare'::regclass AND NOT tgisinternal LOOP "
        "EXECUTE format('DROP TRIGGER %I ON bare', t.tgname); END LOOP; END $$"
    )
    settings = {"synchronous_commit": "off"}
    database = await UserDatabase.open(Source({"dsn": url, "server_settings": settings}), size=4)
    session = database.session(secrets.token_hex(16), day_of(time.time_ns()))
    pool = await asyncpg.create_pool(url, min_size=1, max_size=4, server_settings=settings)

    def bare(text: str) -> Callable[[], Awaitable[Any]]:
        async def insert() -> None:
            async with pool.acquire() as connection:
                await connection.fetchrow(text, "ann@example.org")

        return insert

    async def flux() -> None:
        outcome = await session.perform(HostCall("db.query", ARGUMENTS, 1, seq=1))
        assert outcome.error is None, outcome.error

    async def flux_transaction() -> None:
        number = next(numbers)
        for call in (
            HostCall("db.begin", b"{}", number),
            HostCall("db.query", ARGUMENTS, 0, number),
            HostCall("db.commit", b"{}", 0, number),
        ):
            outcome = await session.perform(call)
            assert outcome.error is None, outcome.error

    async def bare_transaction() -> None:
        async with pool.acquire() as connection, connection.transaction():
            await connection.fetchrow(BARE, "ann@example.org")

    numbers = iter(range(10, 10**9))
    ways: dict[str, tuple[Callable[[], Awaitable[Any]], bool]] = {
        "asyncpg, no capture": (bare(BARE), False),
        "asyncpg, captured": (bare(CAPTURED), False),
        "session": (flux, False),
        "session, spans": (flux, True),
        "asyncpg, spans, no capture": (bare(BARE), True),
        "asyncpg transaction, no capture": (bare_transaction, False),
        "session transaction": (flux_transaction, False),
        "session transaction, spans": (flux_transaction, True),
    }
    provider = TracerProvider()
    quiet = transaction._tracer
    best = {way: (float("inf"), float("inf")) for way in ways}
    for _ in range(ROUNDS):
        for way, (call, spans) in ways.items():
            if spans:
                instrument_asyncpg(provider)
                transaction._tracer = provider.get_tracer("flux.data")
            wall, cpu = await timed(call)
            best[way] = min(best[way][0], wall), min(best[way][1], cpu)
            if spans:
                uninstrument_asyncpg()
                transaction._tracer = quiet
    print(f"{'one INSERT':34} {'wall':>8} {'CPU':>8}  (us)")
    for way, (wall, cpu) in best.items():
        print(f"{way:34} {wall:8.0f} {cpu:8.0f}")
    await session.close()
    await database.close()
    await pool.close()
    await owner.close()


async def timed(call: Callable[[], Awaitable[Any]]) -> tuple[float, float]:
    """Microseconds of wall and of this process's CPU for one call."""
    await call()
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(CALLS):
        await call()
    return (time.perf_counter() - wall) / CALLS * 1e6, (time.process_time() - cpu) / CALLS * 1e6


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1]))
