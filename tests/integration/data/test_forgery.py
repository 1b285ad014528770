"""No SQL of a function speaks for another execution, or for Flux."""

from __future__ import annotations

from typing import Any

import asyncpg
import pytest

from flux.data.database import UserDatabase

from .conftest import Guest

A, B = "a" * 32, "b" * 32


async def rows_of(admin: asyncpg.Connection) -> list[tuple[Any, ...]]:
    return [
        tuple(row) for row in await admin.fetch("select request_id, origin from flux.mutations order by n")
    ]


async def test_a_row_under_a_context_that_is_not_its_own_stands_under_its_own_and_says_forged(
    captured: UserDatabase, admin: asyncpg.Connection, today: str
) -> None:
    forge = f"select set_config('flux.ctx', '{B}|{today}', $1)"
    a = Guest(captured.session(A, today))
    for local in (True, False):
        tx = await a.begin()
        await a.rows(forge, local, tx=tx)
        outcome = await a.outcome(
            "db.sql", tx, text="insert into users (name) values ($1)", params=[str(local)]
        )
        assert [attempt.op for attempt in outcome.attempts] == ["INSERT"]
        await a.ask("queue.push", tx, name="job", payload={})
        await a.ask("db.commit", tx)
    assert await rows_of(admin) == [(A, "forged")] * 2
    assert await admin.fetchval("select array_agg(distinct pushed_by) from flux.jobs") == [A]


@pytest.mark.parametrize("rowwise", [False, True])
async def test_the_same_on_tables_whose_rows_are_captured_one_by_one(
    captured: UserDatabase, admin: asyncpg.Connection, today: str, rowwise: bool
) -> None:
    if rowwise:
        await admin.execute(
            "CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';"
            "CREATE TRIGGER x AFTER UPDATE ON users FOR EACH ROW EXECUTE FUNCTION nothing()"
        )
    a = Guest(captured.session(A, today))
    outcome = await a.outcome(
        "db.sql",
        text="with f as materialized (select set_config('flux.ctx', $1, false) as c) "
        "insert into users (name) select 'n' || g || left(c, 0) from f, generate_series(1, 40) g",
        params=[f"{B}|{today}"],
    )
    assert outcome.error is None
    assert (len(outcome.attempts), sum(attempt.cut or 0 for attempt in outcome.attempts)) == (32, 8)
    await a.rows("truncate users cascade")
    assert set(await rows_of(admin)) == {(A, "forged"), (A, "flux")}


async def test_nothing_of_what_capture_keeps_in_settings_is_believed(
    captured: UserDatabase, admin: asyncpg.Connection, today: str
) -> None:
    await admin.execute(
        "CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';"
        "CREATE TRIGGER x AFTER UPDATE ON users FOR EACH ROW EXECUTE FUNCTION nothing()"
    )
    a = Guest(captured.session(A, today))
    tx = await a.begin()
    for name, value in {
        "flux.day": f"|{today}",
        "flux.rows": '[1,2,"public","invented","INSERT",null,null,null,1]',
        "flux.tally": "{1,1,1,1,1,1}",
        "flux.nested": "x",
        "flux.installing": "1",
    }.items():
        await a.rows("select set_config($1, $2, false)", name, value, tx=tx)
    outcome = await a.outcome("db.sql", tx, text="insert into users (name) values ('x')")
    assert [attempt.table for attempt in outcome.attempts] == ["users"]
    await a.ask("db.commit", tx)
    assert await rows_of(admin) == [(A, "flux")]


async def test_announcements_of_a_functions_own_are_nobodys(
    captured: UserDatabase, admin: asyncpg.Connection, today: str
) -> None:
    a = Guest(captured.session(A, today))
    row = '[64,7,"public","users","INSERT",{"id":1},null,{"id":1},1]'
    for said in (
        f'flux:{{"r":"{A}","a":[{row}],"cut":0,"lo":64,"hi":64}}',
        f'flux:123:{{"r":"{A}","a":[{row}],"cut":0,"lo":64,"hi":64}}',
        "flux:{garbled",
        'flux:-{"end":{"xid":1,"snap":"1:1:"}}',
    ):
        outcome = await a.outcome("db.sql", text=f"do $f$ begin raise info '%', $q${said}$q$; end $f$")
        assert (outcome.error, outcome.attempts, outcome.xid, outcome.first_n) == (None, [], None, None)
        tx = await a.begin()
        inside = await a.outcome("db.sql", tx, text=f"do $f$ begin raise info '%', $q${said}$q$; end $f$")
        assert (inside.error, inside.attempts) == (None, [])
        await a.ask("db.commit", tx)


async def test_what_flux_tells_a_session_can_be_neither_read_nor_said_by_its_sql(
    captured: UserDatabase, today: str
) -> None:
    a = Guest(captured.session(A, today))
    for text in (
        "select currval('flux.voice')",
        "select last_value from flux.voice",
        "select setval('flux.request_low', 1)",
        "select token from flux.gate",
        f"select flux.enter('\\x00', '{B}|{today}', 0, 0, 0, 0)",
        "select flux.enter(null, null, null, null, null, null)",
        "select flux.push_job('job', 'null')",
        "select flux.open_day('\\x00', '2020-01-01')",
        "select flux.may_say(1)",
        "select * from flux.entered()",
    ):
        tx = await a.begin()
        assert (await a.fail("db.sql", tx, text=text)).type == "insufficient_privilege", text
        await a.ask("db.rollback", tx)


async def test_a_session_that_was_robbed_of_its_execution_changes_nothing(
    captured: UserDatabase, admin: asyncpg.Connection, today: str
) -> None:
    a = Guest(captured.session(A, today))
    tx = await a.begin()
    await a.rows("do $$ begin execute 'discard sequences'; end $$", tx=tx)
    error = await a.fail("db.sql", tx, text="insert into users (name) values ('x')")
    assert (error.type, "DISCARD SEQUENCES" in str(error.detail)) == ("insufficient_privilege", True)
    await a.ask("db.rollback", tx)
    assert await rows_of(admin) == []


@pytest.mark.parametrize("text", ["--x\rCOMMIT", "/* a */ COMMIT", "COMMIT AND CHAIN", "ROLLBACK AND CHAIN"])
async def test_a_transaction_that_sql_ended_is_known_to_have_ended(
    captured: UserDatabase,
    admin: asyncpg.Connection,
    today: str,
    text: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The statement's text is not asked: whatever hides it, the protocol tells."""
    monkeypatch.setattr("flux.data.session.classify", lambda text: ("SELECT", _plain()))
    a = Guest(captured.session(A, today))
    tx = await a.begin()
    await a.rows("insert into users (name) values ('x')", tx=tx)
    await a.rows("savepoint s", tx=tx)
    await a.rows("rollback to savepoint s", tx=tx)
    error = await a.fail("db.sql", tx, text=text)
    assert error.type == "invalid_transaction_state"
    kept = "COMMIT" in text
    assert ("committed" if kept else "rolled back") in error.message
    assert (await a.fail("db.commit", tx)).type == "no_active_sql_transaction"
    assert await admin.fetchval("select count(*) from users") == kept
    assert await a.rows("select 1 as one") == [{"one": 1}]


@pytest.mark.parametrize("text", ["BEGIN", "START TRANSACTION READ ONLY"])
async def test_a_transaction_that_a_statement_opened_is_told_and_rolled_back(
    lone: UserDatabase, today: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flux.data.session.classify", lambda text: ("SELECT", _plain()))
    a = Guest(lone.session(A, today))
    assert (await a.fail("db.sql", text=text)).type == "invalid_transaction_state"
    assert await a.rows("insert into users (name) values ('x') returning name") == [{"name": "x"}]


def _plain() -> object:
    from flux.data.statements import Kind

    return Kind.PLAIN
