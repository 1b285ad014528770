"""Another process alters types and tables whose old shape connections know: at most one clean error."""

from __future__ import annotations

import asyncpg
import pytest

from flux.data.database import UserDatabase

from .conftest import DAY, Guest, Source

A = "a" * 32


@pytest.fixture
async def shop(admin: asyncpg.Connection, database_url: str) -> UserDatabase:
    await admin.execute(
        """
        CREATE TYPE place AS (lat int, lon int);
        CREATE TYPE mood AS ENUM ('good');
        CREATE TABLE shop (id int PRIMARY KEY, at place, code int, mood mood);
        INSERT INTO shop VALUES (1, row(1, 2), 7, 'good');
        """
    )
    return await UserDatabase.open(Source({"dsn": database_url}), size=2)


async def test_a_composite_type_that_was_altered_costs_one_error_that_says_what_was_done(
    shop: UserDatabase, admin: asyncpg.Connection
) -> None:
    a = Guest(shop.session(A, DAY))
    update = "update shop set code = code + 1 returning at"
    assert await a.rows(update) == [{"at": {"lat": 1, "lon": 2}}]
    tx = await a.begin()
    await a.rows("select at from shop", tx=tx)
    await admin.execute("ALTER TYPE place ADD ATTRIBUTE label text CASCADE")
    error = await a.fail("db.sql", text=update)
    assert (error.type, "has been committed" in error.message) == ("outdated_schema", True)
    assert await admin.fetchval("select code from shop") == 9
    assert await a.rows(update) == [{"at": {"lat": 1, "lon": 2, "label": None}}]
    inside = await a.outcome("db.sql", tx, text="select at from shop", params=[])
    assert inside.error is None or inside.error.type == "outdated_schema"
    await a.ask("db.commit", tx)
    assert await a.rows("select at from shop") == [{"at": {"lat": 1, "lon": 2, "label": None}}]
    await a.rows("update shop set at = $1", {"lat": 3, "lon": 4, "label": "x"})
    await admin.execute("ALTER TYPE place DROP ATTRIBUTE label CASCADE")
    await a.rows("update shop set at = $1", {"lat": 5, "lon": 6})
    await shop.close()


async def test_columns_and_types_that_were_altered_cost_nothing_in_autocommit(
    shop: UserDatabase, admin: asyncpg.Connection
) -> None:
    a = Guest(shop.session(A, DAY))
    texts = ("select * from shop", "select mood from shop", "update shop set code = $1 returning id")
    for change in (
        "ALTER TABLE shop ADD COLUMN note text",
        "ALTER TABLE shop ALTER COLUMN code TYPE text",
        "ALTER TABLE shop DROP COLUMN note",
        "ALTER TYPE mood ADD VALUE 'bad'",
        "DROP TYPE mood CASCADE; CREATE TYPE mood AS ENUM ('x'); ALTER TABLE shop ADD COLUMN mood mood",
        "ALTER TABLE shop ALTER COLUMN code TYPE uuid USING gen_random_uuid()",
    ):
        for text in texts:
            await a.outcome("db.sql", text=text, params=[7] if "$1" in text else [])
        await a.outcome("db.sql", text="select $1::mood as m", params=["good"])
        await admin.execute(change)
        for text in texts[:2]:
            await a.rows(text)
    assert await a.rows("select $1::mood as m", "x") == [{"m": "x"}]
    code = "6f9619ff-8b86-d011-b42d-00c04fc964ff"
    assert await a.rows("update shop set code = $1 returning code", code) == [{"code": code}]
    assert await a.rows("update shop set code = $1 returning id", code) == [{"id": 1}]
    await shop.close()


async def test_a_cached_plan_fails_one_transaction_and_no_other(
    shop: UserDatabase, admin: asyncpg.Connection
) -> None:
    a = Guest(shop.session(A, DAY))
    first, second = await a.begin(), await a.begin()
    for tx in (first, second):
        await a.rows("select * from shop", tx=tx)
    for tx in (first, second):
        await a.ask("db.commit", tx)
    await admin.execute("ALTER TABLE shop ADD COLUMN note text")
    first = await a.begin()
    error = await a.fail("db.sql", first, text="select * from shop")
    assert error.type == "feature_not_supported"
    await a.ask("db.rollback", first)
    first, second = await a.begin(), await a.begin()
    for tx in (first, second):
        await a.rows("select * from shop", tx=tx)
        await a.ask("db.commit", tx)
    await shop.close()
