"""What a function's calls say about the rows they changed, and under whose name flux.mutations has them."""

from __future__ import annotations

import asyncio

import asyncpg
import orjson
import pytest

from flux.data.database import UserDatabase

from .conftest import REQUEST, Guest


async def test_an_autocommit_write_says_its_rows_their_order_xid_and_snapshot(
    captured: UserDatabase, admin: asyncpg.Connection, today: str
) -> None:
    guest = Guest(captured.session(REQUEST, today))
    outcome = await guest.outcome(
        "db.query", table="users", operation="insert", data=[{"name": "ann"}, {"name": "bob"}]
    )
    assert outcome.error is None
    kept = await admin.fetch("select * from flux.mutations order by n")
    assert [row["request_id"] for row in kept] == [REQUEST] * 2
    assert [attempt.n for attempt in outcome.attempts] == [row["n"] for row in kept]
    assert (outcome.first_n, outcome.last_n) == (kept[0]["n"], kept[1]["n"])
    assert outcome.xid == int(kept[0]["xid"])
    assert outcome.snapshot is not None
    attempt = outcome.attempts[1]
    assert (attempt.schema, attempt.table, attempt.op, attempt.seq, attempt.before) == (
        "public",
        "users",
        "INSERT",
        guest.n,
        None,
    )
    assert attempt.after is not None
    assert orjson.loads(attempt.after)["name"] == "bob"
    assert orjson.loads(attempt.key or b"") == {"id": 2}


async def test_attempts_of_a_rolled_back_transaction_are_told(
    captured: UserDatabase, admin: asyncpg.Connection, today: str
) -> None:
    guest = Guest(captured.session(REQUEST, today))
    tx = await guest.begin()
    outcome = await guest.outcome("db.sql", tx, text="insert into users (name) values ('lost')")
    assert [attempt.op for attempt in outcome.attempts] == ["INSERT"]
    rolled_back = await guest.outcome("db.rollback", tx)
    assert rolled_back.xid == outcome.xid
    assert await admin.fetchval("select count(*) from flux.mutations") == 0


async def test_a_statement_that_fails_announces_nothing_and_says_why(
    captured: UserDatabase, today: str
) -> None:
    guest = Guest(captured.session(REQUEST, today))
    await guest.rows("insert into users (name) values ('ann')")
    outcome = await guest.outcome("db.sql", text="insert into users (name) values ('bob'), ('ann')")
    assert outcome.error is not None
    assert outcome.error.type == "unique_violation"
    assert outcome.attempts == []


async def test_a_failed_deferred_constraint_leaves_attempts_that_were_rolled_back(
    captured: UserDatabase, admin: asyncpg.Connection, today: str
) -> None:
    guest = Guest(captured.session(REQUEST, today))
    tx = await guest.begin()
    outcome = await guest.outcome("db.sql", tx, text="insert into orders (id, user_id) values (1, 77)")
    assert [attempt.table for attempt in outcome.attempts] == ["orders"]
    assert (await guest.fail("db.commit", tx)).type == "foreign_key_violation"
    assert await admin.fetchval("select count(*) from flux.mutations") == 0


async def test_the_context_never_leaks_between_executions(
    captured: UserDatabase, admin: asyncpg.Connection, today: str
) -> None:
    async def execution(number: int) -> None:
        guest = Guest(captured.session(f"{number:032x}", today))
        for step in range(4):
            name = f"{number}-{step}"
            if step % 2:
                await guest.outcome("db.sql", text="select $1::int4", params=["refused"])
                await guest.ask(
                    "db.query", table="users", operation="insert", data={"name": name, "age": number}
                )
            else:
                tx = await guest.begin()
                await guest.rows("insert into users (name, age) values ($1, $2)", name, number, tx=tx)
                await guest.ask("db.commit" if step else "db.rollback", tx)
        await guest.session.close()

    await asyncio.gather(*(execution(number) for number in range(50)))
    kept = await admin.fetch("select request_id, after ->> 'age' as age, origin from flux.mutations")
    assert len(kept) == 150
    assert all(int(row["request_id"], 16) == int(row["age"]) and row["origin"] == "flux" for row in kept)


async def test_a_function_cannot_touch_the_record(captured: UserDatabase, today: str) -> None:
    guest = Guest(captured.session(REQUEST, today))
    for text in ("delete from flux.mutations", "select * from flux.executions", "drop table users"):
        assert (await guest.fail("db.sql", text=text)).type == "insufficient_privilege"


@pytest.mark.parametrize("depth", [900, 990, 1100, 4000])
@pytest.mark.parametrize("in_transaction", [False, True])
async def test_jsonb_of_any_depth_is_written_read_and_announced(
    captured: UserDatabase, admin: asyncpg.Connection, today: str, depth: int, in_transaction: bool
) -> None:
    """Deeper than Python's stack: the statement commits, so nothing that reads its answer may fail."""
    guest = Guest(captured.session(REQUEST, today))
    document = '{"a": ' * depth + '"]} [{"' + "}" * depth
    text = (
        "insert into users (name, data) values ('deep',"
        f"""(repeat('{{"a": ', {depth}) || '"]}} [{{"' || repeat('}}', {depth}))::jsonb) returning data"""
    )
    tx = await guest.begin() if in_transaction else None
    outcome = await guest.outcome("db.sql", tx, text=text, params=[])
    assert outcome.error is None
    assert document.encode() in (outcome.result or b"")
    [attempt] = outcome.attempts
    assert (attempt.table, attempt.op, attempt.before) == ("users", "INSERT", None)
    assert document.encode() in (attempt.after or b"")
    assert (outcome.first_n, outcome.last_n) == (attempt.n, attempt.n)
    if tx is not None:
        await guest.ask("db.commit", tx)
    assert await admin.fetchval("select xid::text from flux.mutations") == str(attempt.xid)
