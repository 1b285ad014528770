"""db.begin, db.commit, db.rollback and what happens between them."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from flux.data.database import UserDatabase

from .conftest import DAY, REQUEST, Guest, Source


async def test_a_transaction_is_seen_when_it_commits(guest: Guest, admin: asyncpg.Connection) -> None:
    tx = await guest.begin()
    await guest.ask("db.query", tx, table="users", operation="insert", data={"name": "ann"})
    assert await admin.fetchval("select count(*) from users") == 0
    committed = await guest.outcome("db.commit", tx)
    assert committed.error is None
    assert committed.result == b"{}"
    row = await admin.fetchrow("select xmin::text::bigint as xid, ctx from users")
    assert row is not None
    assert (committed.xid, row["ctx"]) == (row["xid"], f"{REQUEST}|{DAY}")


async def test_a_rollback_undoes_all(guest: Guest, admin: asyncpg.Connection) -> None:
    tx = await guest.begin()
    await guest.rows("insert into users (name) values ('ann')", tx=tx)
    assert await guest.ask("db.rollback", tx) == {}
    assert await admin.fetchval("select count(*) from users") == 0


async def test_calls_of_one_transaction_run_in_the_order_they_came(guest: Guest) -> None:
    tx = await guest.begin()
    texts = [
        f"insert into users (name, age) values ('n{n}', {n}) returning pg_sleep(0.002)" for n in range(8)
    ]
    await asyncio.gather(*(guest.rows(text, tx=tx) for text in texts))
    rows = await guest.rows("select age from users order by id", tx=tx)
    assert [row["age"] for row in rows] == list(range(8))
    await guest.ask("db.commit", tx)


async def test_autocommit_runs_beside_an_open_transaction(guest: Guest) -> None:
    tx = await guest.begin()
    await guest.rows("insert into users (name) values ('inside')", tx=tx)
    assert await guest.rows("select name from users") == []
    await guest.ask("db.rollback", tx)


async def test_a_finished_or_unknown_transaction_is_refused(guest: Guest) -> None:
    tx = await guest.begin()
    await guest.ask("db.commit", tx)
    for op, arguments in [("db.sql", {"text": "select 1"}), ("db.commit", {}), ("db.rollback", {})]:
        error = await guest.fail(op, tx, **arguments)
        assert error.type == "no_active_sql_transaction"
        assert error.message == f"{op}: transaction {tx} is over: it was committed."
    assert "no transaction 999" in (await guest.fail("db.sql", 999, text="select 1")).message
    assert (await guest.fail("db.commit")).type == "no_active_sql_transaction"


async def test_a_failed_statement_makes_commit_an_error(guest: Guest, admin: asyncpg.Connection) -> None:
    tx = await guest.begin()
    await guest.rows("insert into users (name) values ('ann')", tx=tx)
    assert (await guest.fail("db.sql", tx, text="select 1/0")).type == "division_by_zero"
    assert (await guest.fail("db.sql", tx, text="select 1")).type == "in_failed_sql_transaction"
    error = await guest.fail("db.commit", tx)
    assert (error.type, error.detail["sqlstate"]) == ("in_failed_sql_transaction", "25P02")
    assert await admin.fetchval("select count(*) from users") == 0
    assert await guest.rows("select 1 as one") == [{"one": 1}]


async def test_savepoints_undo_a_part(guest: Guest) -> None:
    tx = await guest.begin()
    await guest.rows("insert into users (name) values ('kept')", tx=tx)
    await guest.rows("savepoint a", tx=tx)
    await guest.fail("db.sql", tx, text="insert into users (name) values ('kept')")
    await guest.rows("rollback to a", tx=tx)
    await guest.rows("insert into users (name) values ('after')", tx=tx)
    await guest.ask("db.commit", tx)
    assert await guest.rows("select name from users order by id") == [{"name": "kept"}, {"name": "after"}]


async def test_a_deferred_constraint_fails_the_commit(guest: Guest, admin: asyncpg.Connection) -> None:
    tx = await guest.begin()
    await guest.rows("insert into orders (id, user_id) values (1, 77)", tx=tx)
    error = await guest.fail("db.commit", tx)
    assert (error.type, error.detail["constraint"]) == ("foreign_key_violation", "orders_user_id_fkey")
    assert await admin.fetchval("select count(*) from orders") == 0
    assert "rolled back" in (await guest.fail("db.sql", tx, text="select 1")).message


async def test_read_committed_says_its_snapshot_at_begin(guest: Guest, admin: asyncpg.Connection) -> None:
    await admin.execute("create table xids (x xid8 default pg_current_xact_id())")
    before = await admin.fetchval("insert into xids default values returning x::text")
    begun = await guest.outcome("db.begin", isolation="READ COMMITTED")
    tx = guest.n
    after = await admin.fetchval("insert into xids default values returning x::text")
    visible = "select pg_visible_in_snapshot($1::text::xid8, $2::text::pg_snapshot)"
    assert await admin.fetchval(visible, before, begun.snapshot)
    assert not await admin.fetchval(visible, after, begun.snapshot)
    assert (await guest.outcome("db.commit", tx)).snapshot is None


@pytest.mark.parametrize("isolation", ["repeatable read", "serializable"])
async def test_stronger_levels_say_their_snapshot_at_commit_and_take_it_no_earlier(
    guest: Guest, admin: asyncpg.Connection, isolation: str
) -> None:
    begun = await guest.outcome("db.begin", isolation=isolation)
    tx = guest.n
    assert begun.snapshot is None
    await admin.execute("insert into users (name) values ('after BEGIN')")
    assert await guest.rows("select name from users", tx=tx) == [{"name": "after BEGIN"}]
    during = await guest.rows("select pg_current_snapshot()::text as s", tx=tx)
    await admin.execute("insert into users (name) values ('later')")
    assert len(await guest.rows("select name from users", tx=tx)) == 1
    committed = await guest.outcome("db.commit", tx)
    assert committed.snapshot == during[0]["s"]
    assert committed.xid is None


async def test_a_readonly_transaction_refuses_writes(guest: Guest) -> None:
    tx = await guest.begin(readonly=True)
    error = await guest.fail("db.query", tx, table="users", operation="insert", data={"name": "x"})
    assert error.type == "read_only_sql_transaction"
    await guest.ask("db.rollback", tx)


async def test_a_serialization_failure_is_an_error_of_the_call(
    guest: Guest, admin: asyncpg.Connection
) -> None:
    await admin.execute("insert into users (name, age) values ('a', 1)")
    tx = await guest.begin(isolation="repeatable read")
    await guest.rows("select age from users", tx=tx)
    await admin.execute("update users set age = 2")
    error = await guest.fail("db.sql", tx, text="update users set age = 3")
    assert (error.type, error.detail["sqlstate"]) == ("serialization_failure", "40001")
    await guest.ask("db.rollback", tx)


async def test_closing_the_session_rolls_back_and_frees_the_connection(
    admin: asyncpg.Connection, database_url: str
) -> None:
    database = await UserDatabase.open(Source({"dsn": database_url}), size=1)
    guest = Guest(database.session(REQUEST, DAY))
    tx = await guest.begin()
    await guest.rows("insert into users (name) values ('lost')", tx=tx)
    await guest.session.close()
    await guest.session.close()
    assert (await guest.fail("db.sql", text="select 1")).type == "connection_does_not_exist"
    other = Guest(database.session("b" * 32, DAY))
    assert await other.rows("select count(*)::int as n from users") == [{"n": 0}]
    assert await other.rows("select current_setting('flux.ctx') as c") == [{"c": f"{'b' * 32}|{DAY}"}]
    await database.close()


async def test_a_job_pushed_in_a_transaction_exists_if_it_commits(
    guest: Guest, admin: asyncpg.Connection
) -> None:
    for end, jobs in (("db.rollback", 0), ("db.commit", 1)):
        tx = await guest.begin()
        options = {"delay": 1500, "idempotencyKey": "k", "maxAttempts": 3}
        pushed = await guest.ask("queue.push", tx, name="send", payload={"a": [1, 2.50]}, options=options)
        assert pushed["duplicate"] is False
        seq = guest.n
        await guest.ask(end, tx)
        assert await admin.fetchval("select count(*) from flux.jobs") == jobs
    job = await admin.fetchrow("select * from flux.jobs")
    assert job is not None
    assert (job["id"], job["name"], job["payload"], job["max_attempts"]) == (
        pushed["id"],
        "send",
        b'{"a":[1,2.5]}',
        3,
    )
    assert (job["pushed_by"], job["pushed_seq"]) == (REQUEST, seq)


@pytest.mark.parametrize("options", [{}, {"delay": -1}, {"maxAttempts": 0}, {"idempotencyKey": ""}])
async def test_a_push_that_makes_no_sense_is_refused_before_it_fails_the_transaction(
    guest: Guest, options: dict[str, object]
) -> None:
    tx = await guest.begin()
    error = await guest.fail("queue.push", tx, name="a" if options else "", payload=1, options=options)
    assert error.type == "invalid_arguments"
    await guest.ask("db.commit", tx)


async def test_behind_a_transaction_pooler_every_statement_is_a_transaction_and_nothing_is_prepared(
    admin: asyncpg.Connection, database_url: str
) -> None:
    database = await UserDatabase.open(Source({"dsn": database_url}), size=1, pooler="transaction")
    guest = Guest(database.session(REQUEST, DAY))
    assert await guest.rows("insert into users (name) values ($1) returning ctx", "a") == [
        {"ctx": f"{REQUEST}|{DAY}"}
    ]
    assert (await guest.fail("db.sql", text="select $1::int", params=["x"])).type == "invalid_parameter"
    assert (
        await guest.fail("db.sql", text="insert into users (name) values ('a')")
    ).type == "unique_violation"
    tx = await guest.begin()
    await guest.rows("insert into users (name) values ($1)", "b", tx=tx)
    await guest.ask("db.commit", tx)
    assert await guest.rows("select count(*)::int as n from pg_prepared_statements where name <> ''") == [
        {"n": 0}
    ]
    assert await guest.rows("select count(*)::int as n from users") == [{"n": 2}]
    await database.close()
