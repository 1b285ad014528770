"""db.query and db.sql outside transactions, on a real Postgres."""

from __future__ import annotations

import asyncpg
import pytest

from flux.data.database import UserDatabase

from .conftest import DAY, REQUEST, Guest, Source


async def test_insert_select_update_and_delete_return_their_rows(guest: Guest) -> None:
    inserted = await guest.ask(
        "db.query", table="users", operation="insert", data={"name": "ann", "age": "7"}
    )
    row = inserted["rows"][0]
    assert (row["name"], row["age"], row["id"]) == ("ann", 7, "1")
    assert inserted["count"] == 1
    assert inserted["types"] == {"id": "int8"}
    await guest.ask(
        "db.query", table="users", operation="insert", data=[{"name": "bob"}, {"age": 3, "name": "cy"}]
    )
    found = await guest.ask(
        "db.query",
        table="public.users",
        operation="select",
        columns=["name"],
        filters={"age": {"gte": 3}},
        order=["-name"],
        limit=1,
    )
    assert found == {"rows": [{"name": "cy"}], "count": 1, "types": {}}
    updated = await guest.ask(
        "db.query", table="users", operation="update", filters={"id": [1, "2"]}, data={"age": 9}
    )
    assert [row["age"] for row in updated["rows"]] == [9, 9]
    deleted = await guest.ask(
        "db.query", table="users", operation="delete", filters={"name": "cy"}, returning=["id"]
    )
    assert deleted["rows"] == [{"id": "3"}]


async def test_upsert_updates_the_row_that_is_there(guest: Guest) -> None:
    for age in (1, 2):
        await guest.ask(
            "db.query",
            table="users",
            operation="insert",
            data={"name": "ann", "age": age},
            on_conflict={"columns": ["name"]},
        )
    assert await guest.rows("select age from users") == [{"age": 2}]


async def test_sql_says_its_tag_and_count(guest: Guest) -> None:
    answer = await guest.ask("db.sql", text="insert into users (name) values ($1), ($2)", params=["a", "b"])
    assert answer == {"rows": [], "count": 2, "tag": "INSERT 0 2", "types": {}}
    assert (await guest.ask("db.sql", text="create table made (id int)"))["tag"] == "CREATE TABLE"


async def test_repeated_column_names_are_told_apart(guest: Guest) -> None:
    assert await guest.rows("select 1 as id, 2 as id") == [{"id": 1, "id_2": 2}]


async def test_a_failing_statement_says_what_the_server_said(guest: Guest) -> None:
    await guest.rows("insert into users (name) values ('ann')")
    error = await guest.fail("db.query", table="users", operation="insert", data={"name": "ann"})
    assert error.type == "unique_violation"
    assert error.detail == {
        "sqlstate": "23505",
        "detail": "Key (name)=(ann) already exists.",
        "constraint": "users_name_key",
        "schema": "public",
        "table": "users",
    }
    error = await guest.fail("db.sql", text="selec 1")
    assert (error.type, error.detail["position"]) == ("syntax_error", "1")


@pytest.mark.parametrize("params", [["x"], [{"a": 1}], [[1]], [2**40], [1.5]])
async def test_a_parameter_that_does_not_fit_is_named_with_its_type(
    guest: Guest, params: list[object]
) -> None:
    error = await guest.fail("db.sql", text="select $1::int4", params=params)
    assert error.type == "invalid_parameter"
    assert "$1" in error.message
    assert "int4" in error.message
    assert await guest.rows("select 1 as one") == [{"one": 1}]


async def test_too_few_parameters_leave_the_connection_usable(guest: Guest) -> None:
    error = await guest.fail("db.sql", text="select $1::int4, $2::int4", params=[1])
    assert error.type == "invalid_parameter"
    assert "expects 2 arguments" in error.message
    assert await guest.rows("select $1::int4 as one", 1) == [{"one": 1}]


@pytest.mark.parametrize("text", ["begin", "commit", "rollback", "start transaction"])
async def test_transactions_are_not_opened_by_sql(guest: Guest, text: str) -> None:
    error = await guest.fail("db.sql", text=text)
    assert (error.type, "db.transaction" in error.message) == ("invalid_transaction_state", True)


async def test_copy_and_savepoints_outside_a_transaction_are_refused(guest: Guest) -> None:
    assert (await guest.fail("db.sql", text="copy users from stdin")).type == "feature_not_supported"
    assert (await guest.fail("db.sql", text="savepoint a")).type == "no_active_sql_transaction"


async def test_arguments_that_are_no_call_are_refused(guest: Guest) -> None:
    assert (await guest.fail("db.sql", params=[1])).type == "invalid_arguments"
    assert (await guest.fail("db.begin", isolation="chaos")).type == "invalid_parameter"
    assert (await guest.fail("queue.push", name="x")).type == "feature_not_supported"


@pytest.mark.parametrize("text", ["", " ; ", "-- nothing"])
async def test_a_text_without_a_statement_does_nothing(guest: Guest, text: str) -> None:
    assert await guest.ask("db.sql", text=text) == {"rows": [], "count": 0, "tag": "", "types": {}}


async def test_each_autocommit_statement_carries_its_context_and_leaves_none(
    guest: Guest, database: UserDatabase
) -> None:
    await guest.rows("insert into users (name) values ('a')")
    await guest.ask(
        "db.sql",
        text="do $$ begin insert into users (name) values ('b'); commit; "
        "insert into users (name) values ('c'); end $$",
    )
    rows = await guest.rows("select distinct ctx from users")
    assert rows == [{"ctx": f"{REQUEST}|{DAY}"}]
    other = Guest(database.session("b" * 32, DAY))
    assert await other.rows("select current_setting('flux.ctx') as ctx") == [{"ctx": f"{'b' * 32}|{DAY}"}]


@pytest.mark.parametrize(
    ("text", "check", "clean"),
    [
        ("set timezone = 'Asia/Tokyo'", "select current_setting('TimeZone') as v", "UTC"),
        ("set search_path = pg_catalog", "select current_setting('search_path') as v", '"$user", public'),
        ("select set_config('my.own', 'x', false)", "select current_setting('my.own', true) as v", ""),
        (
            "select pg_advisory_lock(42)",
            "select count(*)::int as v from pg_locks where locktype = 'advisory'",
            0,
        ),
        ("create temp table gone (id int)", "select to_regclass('gone') as v", None),
        (
            "prepare kept as select 1",
            "select count(*)::int as v from pg_prepared_statements where name = 'kept'",
            0,
        ),
        ("listen news", "select count(*)::int as v from pg_listening_channels()", 0),
    ],
)
async def test_what_a_statement_leaves_on_a_connection_is_gone_for_the_next(
    admin: asyncpg.Connection, database_url: str, text: str, check: str, clean: object
) -> None:
    database = await UserDatabase.open(Source({"dsn": database_url}), size=1)
    await Guest(database.session("a" * 32, DAY)).rows(text)
    assert await Guest(database.session("b" * 32, DAY)).rows(check) == [{"v": clean}]
    await database.close()


async def test_discarding_what_flux_prepared_hurts_nobody(
    admin: asyncpg.Connection, database_url: str
) -> None:
    database = await UserDatabase.open(Source({"dsn": database_url}), size=1)
    guest = Guest(database.session("a" * 32, DAY))
    await guest.rows("discard all")
    await guest.rows("deallocate all")
    assert await guest.rows("select 1 as one") == [{"one": 1}]
    await database.close()


async def test_a_changed_table_is_seen_at_once(
    guest: Guest, admin: asyncpg.Connection, database: UserDatabase
) -> None:
    await guest.rows("select * from orders")
    await admin.execute("alter table orders add column note text default 'new'")
    await admin.execute("insert into orders (id) values (1)")
    assert await guest.rows("select * from orders") == [{"id": 1, "user_id": None, "note": "new"}]
    await admin.execute(
        "alter table orders alter column note drop default, alter column note type int using 5"
    )
    database.schema_changed()
    tx = await guest.begin()
    assert await guest.rows("select note from orders", tx=tx) == [{"note": 5}]
    await guest.ask("db.commit", tx)


async def test_a_function_that_drops_what_was_prepared_costs_one_error(
    admin: asyncpg.Connection, database_url: str
) -> None:
    database = await UserDatabase.open(Source({"dsn": database_url}), size=1)
    guest = Guest(database.session("a" * 32, DAY))
    await admin.execute(
        "create function drop_all() returns int language plpgsql as "
        "$$ begin execute 'deallocate all'; return 1; end $$"
    )
    await guest.outcome("db.sql", text="select drop_all()")
    await guest.outcome("db.sql", text="select 1 as one")
    assert await guest.rows("select 1 as one") == [{"one": 1}]
    await database.close()
