"""A user's database with a few tables, opened as functions use it."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import orjson
import pytest

from flux.config import Config
from flux.data import install
from flux.data.database import UserDatabase
from flux.data.session import Session
from flux.record.call import HostCall, Outcome
from flux.record.identity import day_of
from flux.store.database import Store

REQUEST = "c0ffee00" * 4
DAY = day_of(time.time_ns())


@dataclass
class Source:
    """Where the database is, as flux.store.database.Store would say it."""

    app_connect_args: dict[str, Any]

    async def session_token(self) -> bytes:
        connection = await asyncpg.connect(**{**self.app_connect_args, "server_settings": {}})
        try:
            return bytes(await connection.fetchval("SELECT token FROM flux.gate"))
        finally:
            await connection.close()

    async def heal_app_role(self) -> None:
        """The owner runs the functions here."""


@dataclass
class Guest:
    """Numbers calls as a guest does."""

    session: Session
    n: int = 0
    results: list[Outcome] = field(default_factory=list)

    async def outcome(self, op: str, tx: int | None = None, **arguments: Any) -> Outcome:
        self.n += 1
        call = HostCall(op, orjson.dumps(arguments), self.n, tx, seq=self.n)
        return await self.session.perform(call)

    async def ask(self, op: str, tx: int | None = None, **arguments: Any) -> Any:
        """The result of a call that must succeed."""
        outcome = await self.outcome(op, tx, **arguments)
        assert outcome.error is None, outcome.error
        assert outcome.result is not None
        assert outcome.now_ns > 0
        return orjson.loads(outcome.result)

    async def fail(self, op: str, tx: int | None = None, **arguments: Any) -> Any:
        """The error of a call that must fail."""
        outcome = await self.outcome(op, tx, **arguments)
        assert outcome.result is None
        assert outcome.error is not None
        return outcome.error

    async def rows(self, text: str, *params: Any, tx: int | None = None) -> Any:
        return (await self.ask("db.sql", tx, text=text, params=list(params)))["rows"]

    async def begin(self, **arguments: Any) -> int:
        await self.ask("db.begin", **arguments)
        return self.n


@pytest.fixture
async def admin(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """The owner's connection to the test's database."""
    connection = await asyncpg.connect(database_url)
    await connection.execute(
        """
        CREATE TABLE users (
            id bigserial PRIMARY KEY, name text UNIQUE, age int, tags text[], data jsonb,
            ctx text DEFAULT current_setting('flux.ctx', true)
        );
        CREATE TABLE orders (
            id int PRIMARY KEY, user_id bigint REFERENCES users (id) DEFERRABLE INITIALLY DEFERRED
        );
        """
    )
    yield connection
    await connection.close()


@pytest.fixture
async def database(admin: asyncpg.Connection, database_url: str) -> AsyncIterator[UserDatabase]:
    """The database with a pool of four."""
    opened = await UserDatabase.open(Source({"dsn": database_url}), size=4)
    yield opened
    await opened.close()


@pytest.fixture
async def guest(database: UserDatabase) -> AsyncIterator[Guest]:
    """One execution's guest."""
    session = database.session(REQUEST, DAY)
    yield Guest(session)
    await session.close()


@pytest.fixture
async def store(admin: asyncpg.Connection, store_config: Config) -> AsyncIterator[Store]:
    """The database as a server opens it, with capture installed."""
    async with AsyncExitStack() as stack:
        opened = await Store.open(store_config, application_name="test", pool_size=1)
        stack.push_async_callback(opened.close)
        async with opened.internal() as connection:
            await install.install(connection)
        yield opened


@pytest.fixture
async def captured(store: Store) -> AsyncIterator[UserDatabase]:
    """The database with capture installed, used as the role that functions run as."""
    opened = await UserDatabase.open(store, size=8)
    yield opened
    await opened.close()


@pytest.fixture
async def lone(store: Store) -> AsyncIterator[UserDatabase]:
    """The same with one connection, which whoever comes next is bound to get."""
    opened = await UserDatabase.open(store, size=1)
    yield opened
    await opened.close()


@pytest.fixture
async def today(admin: asyncpg.Connection) -> str:
    """The database's day."""
    return str(await admin.fetchval("select (now() at time zone 'UTC')::date::text"))
