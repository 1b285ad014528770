"""Migrations against a real server: once, in order, from many processes, and what is refused."""

from __future__ import annotations

import asyncio
import hashlib
import sys
from collections.abc import AsyncIterator

import asyncpg
import pytest

from flux.errors import MigrationError
from flux.store import migrate
from flux.store.migrate import Migration

_WORKER = """
import asyncio, sys, asyncpg
from flux.store import migrate
async def main():
    connection = await asyncpg.connect(sys.argv[1])
    print("ready", flush=True)
    sys.stdin.readline()
    print(len(await migrate.apply(connection)))
    await connection.close()
asyncio.run(main())
"""


@pytest.fixture
async def connection(empty_database_url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(empty_database_url)
    yield connection
    await connection.close()


def migration(name: str, text: str) -> Migration:
    return Migration(name, text, hashlib.sha256(text.encode()).hexdigest())


FIRST = migration("0001_first", "CREATE TABLE flux.first (id int);")
SECOND = migration("0002_second", "CREATE TABLE flux.second (id int);")


async def test_own_migrations_apply_once_and_are_remembered(connection: asyncpg.Connection) -> None:
    names = [known.name for known in migrate.read()]
    assert names == sorted(names)
    assert names[0] == "0001_record"
    assert await migrate.apply(connection) == names
    assert await migrate.apply(connection) == []
    rows = await connection.fetch("SELECT name, sha256 FROM flux.migrations ORDER BY name")
    assert [(row["name"], row["sha256"]) for row in rows] == [(m.name, m.sha256) for m in migrate.read()]


async def test_only_what_is_missing_is_applied(connection: asyncpg.Connection) -> None:
    assert await migrate.apply(connection, [FIRST]) == ["0001_first"]
    assert await migrate.apply(connection, [FIRST, SECOND]) == ["0002_second"]


async def test_where_nothing_is_missing_one_query_says_so(
    connection: asyncpg.Connection, empty_database_url: str
) -> None:
    await migrate.apply(connection)
    asked: asyncio.Queue[str] = asyncio.Queue()
    migrating = await asyncpg.connect(empty_database_url)
    try:
        await migrating.execute("BEGIN; LOCK TABLE flux.migrations IN SHARE ROW EXCLUSIVE MODE")
        with connection.query_logger(lambda record: asked.put_nowait(record.query)):
            async with asyncio.timeout(5):
                assert await migrate.apply(connection) == []
            await connection.execute("SELECT 'end'")
            assert [await asked.get(), await asked.get()] == [
                "SELECT name, sha256 FROM flux.migrations",
                "SELECT 'end'",
            ]
    finally:
        await migrating.close()


async def test_eight_processes_at_once_apply_each_migration_once(
    connection: asyncpg.Connection, empty_database_url: str
) -> None:
    pipe = asyncio.subprocess.PIPE
    workers = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-c", _WORKER, empty_database_url, stdin=pipe, stdout=pipe, stderr=pipe
        )
        for _ in range(8)
    ]
    for worker in workers:
        assert worker.stdout is not None
        assert await worker.stdout.readline() == b"ready\n"
    results = await asyncio.gather(*(worker.communicate(b"go\n") for worker in workers))
    assert [worker.returncode for worker in workers] == [0] * 8, results
    assert sum(int(out) for out, _ in results) == len(migrate.read())
    assert await connection.fetchval("SELECT count(*) FROM flux.migrations") == len(migrate.read())


async def test_an_edited_applied_migration_is_refused(connection: asyncpg.Connection) -> None:
    await migrate.apply(connection, [FIRST])
    edited = migration("0001_first", "CREATE TABLE flux.first (id bigint);")
    with pytest.raises(MigrationError, match="`0001_first` has changed"):
        await migrate.apply(connection, [edited, SECOND])
    assert await connection.fetchval("SELECT to_regclass('flux.second')") is None


async def test_a_database_of_a_newer_version_is_refused(connection: asyncpg.Connection) -> None:
    await migrate.apply(connection, [FIRST, SECOND])
    with pytest.raises(MigrationError, match="`0002_second`, which this version of Flux does not know"):
        await migrate.apply(connection, [FIRST])


async def test_a_foreign_schema_named_flux_is_refused(connection: asyncpg.Connection) -> None:
    await connection.execute("CREATE SCHEMA flux; CREATE TABLE flux.capacitor (id int)")
    with pytest.raises(MigrationError, match="holds `capacitor`"):
        await migrate.apply(connection, [FIRST])


async def test_a_failing_migration_leaves_nothing_and_names_its_line(connection: asyncpg.Connection) -> None:
    broken = migration("0002_broken", "CREATE TABLE flux.half (id int);\nSELECT nonsense;")
    with pytest.raises(MigrationError, match=r"0002_broken\.sql:2: column \"nonsense\" does not exist"):
        await migrate.apply(connection, [FIRST, broken])
    assert await connection.fetchval("SELECT to_regclass('flux.half')") is None
    assert await connection.fetch("SELECT name FROM flux.migrations") == [("0001_first",)]


async def test_a_role_that_may_not_create_schemas_learns_what_to_grant(
    connection: asyncpg.Connection,
) -> None:
    await connection.execute("CREATE ROLE st_powerless")
    try:
        await connection.execute("SET ROLE st_powerless")
        with pytest.raises(MigrationError, match="may not create the schema") as caught:
            await migrate.apply(connection, [FIRST])
        assert caught.value.hint is not None
        assert "GRANT CREATE ON DATABASE" in caught.value.hint
    finally:
        await connection.execute("RESET ROLE; DROP ROLE st_powerless")
