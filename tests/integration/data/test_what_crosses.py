"""One execution's SQL leaves nothing on a connection for the next, in whatever way it was done."""

from __future__ import annotations

import asyncpg
import pytest

from flux.data.database import UserDatabase
from flux.data.errors import DATABASE_ERRORS
from flux.store.database import Store

from .conftest import Guest

A, B = "a" * 32, "b" * 32

LEAVE = {
    "a setting, by a function": "select set_tenant('a')",
    "a setting, by a view": "update pg_settings set setting = '7s' where name = 'lock_timeout'",
    "a setting, by a quoted name": "select U&\"set\\005fconfig\"('my.tenant', 'a', false)",
    "a setting of all transactions": "set session characteristics as transaction read only",
    "an isolation": "set default_transaction_isolation = 'serializable'",
    "an encoding": "set client_encoding = 'latin1'",
    "a path": "set search_path = nowhere",
    "a role": "set role none",
    "a temporary table, by a function": "select shadow()",
    "a lock, by a function": "select take_lock()",
    "a listener": "do $$ begin execute 'listen news'; end $$",
    "a cursor": "do $$ begin execute 'declare c cursor with hold for select 1'; end $$",
    "a statement": "do $$ begin execute 'prepare kept as select 1'; end $$",
    "no statements": "do $$ begin execute 'deallocate all'; end $$",
    "a number": "select nextval('numbers')",
    "a seed": "select setseed(0.5)",
    "an open transaction": "/* x */ select 1",
}

LOOK = """
select current_setting('my.tenant', true) as tenant, current_setting('lock_timeout') as lock_timeout,
       current_setting('transaction_read_only') as read_only, current_user::text as role,
       current_setting('transaction_isolation') as isolation, 'grün' as encoded,
       to_regclass('pg_temp.accounts') as shadow,
       (select count(*)::int from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()) as locks,
       (select count(*)::int from pg_listening_channels()) as channels,
       (select count(*)::int from pg_cursors where is_holdable) as cursors
"""
CLEAN = {
    "tenant": ("", None),
    "lock_timeout": ("0",),
    "read_only": ("off",),
    "role": ("flux_app",),
    "isolation": ("read committed",),
    "encoded": ("grün",),
    "shadow": (None,),
    "locks": (0,),
    "channels": (0,),
    "cursors": (0,),
}


@pytest.fixture
async def objects(admin: asyncpg.Connection) -> None:
    """What a user's schema may well hold."""
    await admin.execute(
        """
        CREATE TABLE accounts (id int PRIMARY KEY, balance int);
        INSERT INTO accounts VALUES (1, 100);
        CREATE SEQUENCE numbers;
        CREATE FUNCTION set_tenant(t text) RETURNS text LANGUAGE sql AS $$ SELECT set_config('my.tenant',
        t, false) $$; CREATE FUNCTION take_lock() RETURNS void LANGUAGE sql AS $$ SELECT
        pg_advisory_lock(42) $$; CREATE FUNCTION shadow() RETURNS void LANGUAGE plpgsql AS
            $$ BEGIN CREATE TEMP TABLE accounts AS SELECT 1 AS id, 0 AS balance; END $$;
        """
    )


async def test_nothing_that_sql_leaves_reaches_the_next_execution(
    objects: None, lone: UserDatabase, today: str
) -> None:
    for what, text in LEAVE.items():
        a = Guest(lone.session(A, today, function="a"))
        outcome = await a.outcome("db.sql", text=text, params=[])
        assert outcome.error is None, (what, outcome.error)
        tx = await a.begin()
        await a.outcome("db.sql", tx, text=text, params=[])
        await a.outcome("db.commit", tx)
        b = Guest(lone.session(B, today, function="b"))
        [found] = await b.rows(LOOK)
        assert {name: value for name, value in found.items() if value not in CLEAN[name]} == {}, what
        assert (await b.fail("db.sql", text="execute kept")).type == "invalid_sql_statement_name", what
        assert (await b.fail("db.sql", text="select currval('numbers')")).type == (
            "object_not_in_prerequisite_state"
        ), what
        assert await b.rows("update accounts set balance = balance + 1 returning id") == [{"id": 1}], what


async def test_a_shadow_takes_nobodys_update(
    objects: None, lone: UserDatabase, admin: asyncpg.Connection, today: str
) -> None:
    await Guest(lone.session(A, today)).rows("select shadow()")
    await Guest(lone.session(B, today)).rows("update accounts set balance = 7")
    assert await admin.fetchval("select balance from accounts") == 7
    assert await admin.fetchval("select count(*) from flux.mutations where request_id = $1", B) == 1


async def test_random_numbers_do_not_follow_from_somebody_elses_seed(
    objects: None, lone: UserDatabase, today: str
) -> None:
    drawn = []
    for request in (A, B):
        await Guest(lone.session(A, today)).rows("select setseed(0.5)")
        drawn.append(await Guest(lone.session(request, today)).rows("select random()"))
    assert drawn[0] != drawn[1]


async def test_what_is_prepared_can_be_neither_read_nor_replaced_by_functions(
    objects: None, lone: UserDatabase, today: str
) -> None:
    b = Guest(lone.session(B, today, function="b"))
    await b.rows("insert into accounts values (2, 2)")
    a = Guest(lone.session(A, today, function="a"))
    for text in (
        "select name, statement from pg_prepared_statements",
        "select * from pg_prepared_statement()",
        "select query from pg_stat_activity",
        "select * from pg_stat_get_activity(null)",
        "select pg_stat_get_backend_activity(1)",
        "select pg_terminate_backend(1)",
        "select pg_cancel_backend(1)",
    ):
        assert (await a.fail("db.sql", text=text)).type == "insufficient_privilege", text
    await a.rows(
        "do $$ begin execute 'deallocate all';"
        " execute 'prepare flux_ctx(text) as select 1';"
        " execute 'prepare __asyncpg_stmt_1__ as select 1'; end $$"
    )
    assert await b.rows("insert into accounts values (3, 3) returning id") == [{"id": 3}]


async def test_large_objects_which_nothing_records_are_not_written_by_functions(
    objects: None, lone: UserDatabase, today: str
) -> None:
    a = Guest(lone.session(A, today))
    for text in (
        "select lo_create(4242)",
        "select lo_from_bytea(0, 'x')",
        "select lo_put(4242, 0, 'x')",
        "select lo_open(4242, 131072)",
        "select lowrite(0, 'x')",
        "select lo_unlink(4242)",
    ):
        assert (await a.fail("db.sql", text=text)).type == "insufficient_privilege", text


async def test_types_are_learned_from_the_catalog_and_from_nothing_in_front_of_it(
    admin: asyncpg.Connection, lone: UserDatabase, today: str
) -> None:
    await admin.execute(
        "CREATE TYPE mood AS (a int, b text); CREATE TABLE moods (m mood);"
        "INSERT INTO moods VALUES (row(1, 'x'))"
    )
    a = Guest(lone.session(A, today))
    tx = await a.begin()
    for table in ("pg_type", "pg_class", "pg_range"):
        await a.rows(f"create temp table {table} as select * from pg_catalog.{table} limit 0", tx=tx)
    assert await a.rows("select m from public.moods", tx=tx) == [{"m": {"a": 1, "b": "x"}}]
    assert await a.rows("select current_setting('search_path') as v", tx=tx) == [{"v": '"$user", public'}]
    await a.ask("db.commit", tx)
    assert await Guest(lone.session(B, today)).rows("select m from moods") == [{"m": {"a": 1, "b": "x"}}]


async def test_a_server_that_keeps_its_catalog_readable_keeps_functions_statements_apart(
    objects: None, store: Store, admin: asyncpg.Connection, today: str
) -> None:
    await admin.execute("GRANT EXECUTE ON FUNCTION pg_prepared_statement() TO PUBLIC")
    database = await UserDatabase.open(store, size=1)
    try:
        b = Guest(database.session(B, today, function="b"))
        await b.rows("select 1 as secret_of_b")
        a = Guest(database.session(A, today, function="a"))
        seen = await a.rows("select name, statement from pg_prepared_statements")
        assert not [row for row in seen if "secret_of_b" in row["statement"]]
        name = next(row["name"] for row in seen if "flux.enter" in row["statement"])
        await a.rows(f"do $$ begin execute 'deallocate {name}'; execute 'prepare {name} as select 1'; end $$")
        assert await b.rows("insert into accounts values (5, 5) returning id") == [{"id": 5}]
        kept = await admin.fetch("select request_id, origin from flux.mutations where after ->> 'id' = '5'")
        assert [tuple(row) for row in kept] == [(B, "flux")]
    finally:
        await database.close()


async def test_settings_of_the_role_reach_no_connection(
    store: Store, lone: UserDatabase, admin: asyncpg.Connection, today: str
) -> None:
    a = Guest(lone.session(A, today))
    try:
        for setting in (
            "default_transaction_read_only = on",
            "search_path = nowhere",
            "local_preload_libraries = no",
        ):
            await a.rows(f"alter role flux_app set {setting}")
        database = await UserDatabase.open(store, size=2)
        b = Guest(database.session(B, today))
        await b.rows("insert into users (name) values ('x')")
        assert await b.rows("select current_setting('search_path') as v") == [{"v": '"$user", public'}]
        await database.close()
        assert (
            await admin.fetchval(
                "select count(*) from pg_db_role_setting s join pg_roles r on r.oid = s.setrole "
                "where rolname = 'flux_app'"
            )
            == 0
        )
    finally:
        await admin.execute("ALTER ROLE flux_app RESET ALL")


async def test_a_start_is_not_at_the_mercy_of_the_databases_settings(
    store: Store, admin: asyncpg.Connection, today: str
) -> None:
    name = await admin.fetchval("select quote_ident(current_database())")
    await admin.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    database = await UserDatabase.open(store, size=1)
    await Guest(database.session(B, today)).rows("insert into users (name) values ('x')")
    await database.close()
    async with store.internal() as connection:
        try:
            await connection.execute("CREATE TABLE made (id int)")
        except DATABASE_ERRORS as error:
            raise AssertionError("the owner's connections are read-only") from error
