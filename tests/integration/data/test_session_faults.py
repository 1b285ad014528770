"""Cancellation, lost connections and a pool that is used up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from flux.data.database import UserDatabase

from .conftest import DAY, REQUEST, Guest, Source


@pytest.fixture
async def single(admin: asyncpg.Connection, database_url: str) -> AsyncIterator[UserDatabase]:
    """A pool of one connection."""
    opened = await UserDatabase.open(Source({"dsn": database_url}), size=1)
    yield opened
    await opened.close()


async def running(admin: asyncpg.Connection, text: str) -> int:
    """The backend that runs `text`, once it does."""
    for _ in range(1000):
        pid = await admin.fetchval(
            "select pid from pg_stat_activity "
            "where state = 'active' and query like $1 and pid <> pg_backend_pid()",
            f"%{text}%",
        )
        if pid is not None:
            return int(pid)
    raise AssertionError(f"{text} never ran")


async def test_a_cancelled_statement_stops_and_gives_its_connection_back(
    single: UserDatabase, admin: asyncpg.Connection
) -> None:
    guest = Guest(single.session(REQUEST, DAY))
    task = asyncio.create_task(guest.rows("select pg_sleep(60), 'cancel me'"))
    pid = await running(admin, "cancel me")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await guest.rows("select pg_backend_pid() as pid") == [{"pid": pid}]


async def test_a_cancelled_transaction_is_rolled_back_by_close(
    single: UserDatabase, admin: asyncpg.Connection
) -> None:
    guest = Guest(single.session(REQUEST, DAY))
    tx = await guest.begin()
    await guest.rows("insert into users (name) values ('lost')", tx=tx)
    task = asyncio.create_task(guest.rows("select pg_sleep(60), 'cancel me'", tx=tx))
    await running(admin, "cancel me")
    task.cancel()
    await guest.session.close()
    with pytest.raises(asyncio.CancelledError):
        await task
    other = Guest(single.session("b" * 32, DAY))
    assert await other.rows("select count(*)::int as n from users") == [{"n": 0}]


async def test_close_while_a_statement_of_a_transaction_runs_waits_for_nothing_and_leaks_nothing(
    single: UserDatabase, admin: asyncpg.Connection
) -> None:
    guest = Guest(single.session(REQUEST, DAY))
    tx = await guest.begin()
    task = asyncio.create_task(guest.outcome("db.sql", tx, text="select pg_sleep(60), 'stop me'"))
    await running(admin, "stop me")
    await guest.session.close()
    outcome = await asyncio.wait_for(task, 5)
    assert outcome.error is not None
    other = Guest(single.session("b" * 32, DAY))
    assert await other.rows("select 1 as one") == [{"one": 1}]


async def test_a_connection_lost_in_a_statement_is_an_error_and_the_next_call_has_another(
    single: UserDatabase, admin: asyncpg.Connection
) -> None:
    guest = Guest(single.session(REQUEST, DAY))
    task = asyncio.create_task(guest.outcome("db.sql", text="select pg_sleep(60), 'kill me'"))
    pid = await running(admin, "kill me")
    await admin.execute("select pg_terminate_backend($1)", pid)
    outcome = await task
    assert outcome.error is not None
    assert outcome.error.type == "connection_failure"
    assert outcome.error.detail["sqlstate"] == "08006"
    assert await guest.rows("select 1 as one") == [{"one": 1}]


async def test_idle_connections_that_postgres_ended_cost_nothing(
    single: UserDatabase, admin: asyncpg.Connection
) -> None:
    guest = Guest(single.session(REQUEST, DAY))
    pid = (await guest.rows("select pg_backend_pid() as pid"))[0]["pid"]
    await admin.execute("select pg_terminate_backend($1, 5000)", pid)
    assert await guest.rows("select 1 as one") == [{"one": 1}]


async def test_a_connection_that_postgres_has_just_ended_costs_nothing_before_its_stream_ends(
    single: UserDatabase,
) -> None:
    """When Postgres ends an idle connection its last words come first, the stream's end later."""
    fields = (b"SFATAL", b"VFATAL", b"C57P01", b"Mterminating connection due to administrator command")
    words = b"\0".join(fields) + b"\0\0"
    last_words = b"E" + (len(words) + 4).to_bytes(4, "big") + words
    guest = Guest(single.session(REQUEST, DAY))
    mine = "select pg_backend_pid() as pid"
    pids = [await guest.rows(mine)]
    await asyncio.gather(*single.pool._chores)
    single.pool._idle[0]._inside._protocol.data_received(last_words)
    pids.append(await guest.rows(mine))
    await asyncio.gather(*single.pool._chores)
    single.pool._idle[0]._inside._protocol.data_received(last_words)
    tx = await guest.begin()
    pids.append(await guest.rows(mine, tx=tx))
    await guest.ask("db.commit", tx)
    assert len({pid for [row] in pids for pid in row.values()}) == 3
    await asyncio.gather(*single.pool._chores)
    assert single.pool.lent == 0


async def test_a_transaction_whose_connection_is_lost_has_ended(
    single: UserDatabase, admin: asyncpg.Connection
) -> None:
    guest = Guest(single.session(REQUEST, DAY))
    tx = await guest.begin()
    pid = (await guest.rows("select pg_backend_pid() as pid", tx=tx))[0]["pid"]
    await admin.execute("select pg_terminate_backend($1, 5000)", pid)
    assert (await guest.fail("db.sql", tx, text="select 1")).type == "connection_failure"
    error = await guest.fail("db.commit", tx)
    assert error.type == "connection_failure"
    assert await guest.rows("select 1 as one") == [{"one": 1}]


async def test_a_used_up_pool_waits_until_the_deadline(single: UserDatabase) -> None:
    holder = Guest(single.session(REQUEST, DAY))
    tx = await holder.begin()
    soon = asyncio.get_running_loop().time() + 0.02
    late = Guest(single.session("b" * 32, DAY, deadline=soon))
    error = await late.fail("db.sql", text="select 1")
    assert (error.type, error.detail["sqlstate"]) == ("too_many_connections", "53300")
    assert "pool_size" in error.message
    patient = asyncio.create_task(Guest(single.session("d" * 32, DAY)).rows("select 1 as one"))
    await asyncio.sleep(0)
    await holder.ask("db.commit", tx)
    assert await patient == [{"one": 1}]


async def test_waiting_for_a_connection_can_be_cancelled_without_losing_one(single: UserDatabase) -> None:
    holder = Guest(single.session(REQUEST, DAY))
    tx = await holder.begin()
    waiters = [
        asyncio.create_task(Guest(single.session("b" * 32, DAY)).rows("select 1 as one")) for _ in range(5)
    ]
    await asyncio.sleep(0)
    for waiter in waiters[:3]:
        waiter.cancel()
    commit = asyncio.create_task(holder.ask("db.commit", tx))
    answers = await asyncio.gather(*waiters, return_exceptions=True)
    await commit
    assert [type(answer) for answer in answers[:3]] == [asyncio.CancelledError] * 3
    assert answers[3:] == [[{"one": 1}]] * 2


async def test_a_server_that_is_away_is_an_error_of_the_call_and_forgotten_when_it_is_back(
    single: UserDatabase, admin: asyncpg.Connection, postgres_url: str
) -> None:
    guest = Guest(single.session(REQUEST, DAY))
    pid = (await guest.rows("select pg_backend_pid() as pid"))[0]["pid"]
    name = await admin.fetchval("select quote_ident(current_database())")
    server = await asyncpg.connect(postgres_url)
    await server.execute(f"alter database {name} allow_connections false")
    await server.execute("select pg_terminate_backend($1, 5000)", pid)
    error = await guest.fail("db.sql", text="select 1")
    assert error.type == "object_not_in_prerequisite_state"
    await server.execute(f"alter database {name} allow_connections true")
    await server.close()
    assert await guest.rows("select 1 as one") == [{"one": 1}]


async def test_a_statement_timeout_is_query_canceled(single: UserDatabase) -> None:
    guest = Guest(single.session(REQUEST, DAY))
    tx = await guest.begin()
    await guest.rows("set local statement_timeout = '10ms'", tx=tx)
    error = await guest.fail("db.sql", tx, text="select pg_sleep(10)")
    assert (error.type, error.detail["sqlstate"]) == ("query_canceled", "57014")
    await guest.ask("db.rollback", tx)


async def test_a_closed_database_refuses(admin: asyncpg.Connection, database_url: str) -> None:
    database = await UserDatabase.open(Source({"dsn": database_url}), size=1)
    holder = Guest(database.session(REQUEST, DAY))
    tx = await holder.begin()
    waiting = asyncio.create_task(Guest(database.session("b" * 32, DAY)).fail("db.sql", text="select 1"))
    await asyncio.sleep(0)
    await database.close()
    assert (await waiting).type == "connection_does_not_exist"
    await holder.ask("db.commit", tx)
    assert (await holder.fail("db.sql", text="select 1")).type == "connection_does_not_exist"


async def test_one_functions_slow_transactions_leave_connections_for_others(
    admin: asyncpg.Connection, database_url: str
) -> None:
    database = await UserDatabase.open(Source({"dsn": database_url}), size=8)
    slow = Guest(database.session("a" * 32, DAY, function="slow"))
    held = [asyncio.create_task(slow.rows("select pg_sleep(60), 'hold me'")) for _ in range(20)]
    while (
        await admin.fetchval("select count(*) from pg_stat_activity where query like '%hold me%'") < 7
    ):  # this one counts itself
        await asyncio.sleep(0)
    assert database.pool.pending == 14
    async with asyncio.timeout(5):
        for name in ("b", "c"):
            other = Guest(database.session(name * 32, DAY, function=name))
            assert await other.rows("select 1 as one") == [{"one": 1}]
            tx = await other.begin()
            await other.ask("db.commit", tx)
    for task in held:
        task.cancel()
    await asyncio.gather(*held, return_exceptions=True)
    assert (database.pool.pending, database.pool._held.total()) == (0, 0)
    await database.close()


async def test_a_connection_goes_to_the_function_that_holds_fewest_then_to_who_waits_longest(
    admin: asyncpg.Connection, database_url: str
) -> None:
    database = await UserDatabase.open(Source({"dsn": database_url}), size=2)
    pool = database.pool
    mine = [await pool.acquire(None, "a"), await pool.acquire(None, "a")]
    got: list[str] = []

    async def want(name: str) -> None:
        connection = await pool.acquire(None, name)
        got.append(name)
        pool.release(connection, name)

    waiting = [asyncio.create_task(want(name)) for name in ("a", "a", "b", "c")]
    await asyncio.sleep(0)
    pool.release(mine.pop(), "a")
    await asyncio.gather(waiting[2], waiting[3])
    assert got[0] == "b"
    pool.release(mine.pop(), "a")
    await asyncio.gather(*waiting)
    assert sorted(got) == ["a", "a", "b", "c"]
    await database.close()


async def test_who_gave_up_waiting_keeps_nobody_from_a_connection(
    admin: asyncpg.Connection, database_url: str
) -> None:
    database = await UserDatabase.open(Source({"dsn": database_url}), size=1)
    mine = await database.pool.acquire(None, "a")
    gone = asyncio.create_task(database.pool.acquire(None, "a"))
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    database.pool.release(mine, "a")
    async with asyncio.timeout(5):
        database.pool.release(await database.pool.acquire(None, "a"), "a")
    await database.close()
