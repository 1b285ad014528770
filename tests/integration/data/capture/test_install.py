"""Installing capture: what stands afterwards, what could not be had, and that it follows the schema."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from flux.data.install import install, status
from flux.store import migrate
from tests.integration.data.capture.owner import Owner


@pytest.fixture
async def plain(empty_database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection of a role that owns its database and is nothing more, with Flux's schema."""
    role = f"cp_{secrets.token_hex(4)}"
    name = urlsplit(empty_database_url).path.strip("/")
    admin = await asyncpg.connect(empty_database_url)
    await admin.execute(f"CREATE ROLE {role} LOGIN; ALTER DATABASE {name} OWNER TO {role}")
    parts = urlsplit(empty_database_url)
    host = parts.netloc.rpartition("@")[2]
    connection = await asyncpg.connect(urlunsplit(parts._replace(netloc=f"{role}@{host}")))
    try:
        await migrate.apply(connection)
        yield connection
    finally:
        await connection.close()
        await admin.execute(
            f"REASSIGN OWNED BY {role} TO CURRENT_USER; DROP OWNED BY {role}; DROP ROLE {role}"
        )
        await admin.close()


async def test_a_second_installation_changes_nothing(owner: Owner) -> None:
    await owner.run("CREATE TABLE t (id int PRIMARY KEY)")
    before = await owner.connection.fetch("SELECT * FROM flux.epochs")
    again = await install(owner.connection)
    assert (again.installed, again.uncaptured, again.event_triggers) == ([], [], True)
    assert await owner.connection.fetch("SELECT * FROM flux.epochs") == before


async def test_without_event_triggers_an_installation_finds_new_tables(plain: asyncpg.Connection) -> None:
    first = await install(plain)
    assert first.event_triggers is False
    await plain.execute("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)")
    assert [table.table for table in (await status(plain)).uncaptured] == ["t"]
    assert (await install(plain)).installed == ["public.t"]
    await plain.execute("INSERT INTO t VALUES (2)")
    assert await plain.fetchval("SELECT array_agg(after ->> 'id') FROM flux.mutations") == ["2"]
    assert await plain.fetchval("SELECT reason FROM flux.epochs") == "installed"
    assert (await status(plain)).captured == ["public.t"]
    assert await plain.fetchval("SELECT count(*) FROM flux.schema_changes") == 2


async def test_a_trigger_that_is_switched_off_or_dropped_is_put_back_with_an_epoch(
    plain: asyncpg.Connection,
) -> None:
    await plain.execute("CREATE TABLE t (id int PRIMARY KEY)")
    await install(plain)
    await plain.execute('ALTER TABLE t DISABLE TRIGGER "!flux_update"')
    assert (await status(plain)).uncaptured[0].reason == "missing or stale: !flux_update"
    assert (await install(plain)).installed == ["public.t"]
    assert (await status(plain)).uncaptured == []
    assert await plain.fetchval("SELECT count(*) FROM flux.epochs") == 2


async def test_tables_that_cannot_be_captured_are_named(owner: Owner) -> None:
    await owner.run(
        "CREATE FOREIGN DATA WRAPPER nothing",
        "CREATE SERVER away FOREIGN DATA WRAPPER nothing",
        "CREATE FOREIGN TABLE far (a int) SERVER away",
        "CREATE UNLOGGED TABLE near (a int)",
        "CREATE VIEW seen AS SELECT * FROM near",
    )
    found = await install(owner.connection)
    assert [(table.table, table.reason.split(":")[0]) for table in found.uncaptured] == [
        ("far", "a foreign table")
    ]
    assert (await status(owner.connection)).captured == ["public.near"]


async def test_a_table_changes_to_row_capture_when_it_gets_a_trigger(owner: Owner) -> None:
    await owner.run("CREATE TABLE t (id int PRIMARY KEY)")
    assert await _triggers(owner) == ["!flux_delete", "!flux_insert", "!flux_update", "~flux_truncate"]
    await owner.run(
        "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
        "CREATE TRIGGER f AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION f()",
    )
    assert await _triggers(owner) == ["!flux_announce", "!flux_capture", "~flux_truncate"]
    assert await owner.epochs() == [("t", "created")]


async def _triggers(owner: Owner) -> list[str]:
    rows = await owner.connection.fetch("SELECT tgname FROM pg_trigger WHERE tgname ~ '^[!~]flux' ORDER BY 1")
    return [row["tgname"] for row in rows]


async def test_the_schema_is_kept_at_every_change_and_once_per_state(owner: Owner) -> None:
    await owner.run(
        "CREATE TABLE t (id int PRIMARY KEY)", "ALTER TABLE t ADD v int", "ALTER TABLE t DROP v", "ANALYZE t"
    )
    changes = await owner.connection.fetch(
        "SELECT c.command, v.definition -> 'tables' -> 'public.t' -> 'columns' AS columns, c.hash"
        " FROM flux.schema_changes c JOIN flux.schema_versions v USING (hash) ORDER BY c.id"
    )
    assert [row["command"] for row in changes] == ["install", "CREATE TABLE", "ALTER TABLE", "ALTER TABLE"]
    assert '"v"' in changes[2]["columns"]
    assert changes[1]["hash"] == changes[3]["hash"]


async def test_functions_may_use_new_tables_sequences_and_schemas(owner: Owner) -> None:
    await owner.run(
        'CREATE SCHEMA "My Shop"',
        'CREATE TABLE "My Shop".t (id serial PRIMARY KEY)',
        "SET ROLE flux_app",
        'INSERT INTO "My Shop".t DEFAULT VALUES',
    )
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await owner.run('CREATE TABLE "My Shop".u (id int)')


async def test_new_partitions_of_the_record_stay_closed_to_functions(owner: Owner) -> None:
    await owner.run("SELECT flux.ensure_partitions(current_date + 30, current_date + 30)")
    open_to_functions = await owner.connection.fetch(
        "SELECT c.relname FROM pg_class c WHERE c.relnamespace = 'flux'::regnamespace "
        "AND c.relkind IN ('r', 'p', 'v')"
        " AND has_table_privilege('flux_app', c.oid, 'SELECT, INSERT, UPDATE, DELETE')"
    )
    assert open_to_functions == []


async def test_several_processes_may_install_at_once(database_url: str) -> None:
    connections = [await asyncpg.connect(database_url) for _ in range(3)]
    await connections[0].execute("CREATE TABLE t (id int PRIMARY KEY)")
    found = await asyncio.gather(*(install(connection) for connection in connections))
    assert sorted(len(one.installed) for one in found) == [0, 0, 1]
    for connection in connections:
        await connection.close()
