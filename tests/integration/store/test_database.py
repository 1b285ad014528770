"""Store: opening, what it tells when it can't, the role of functions, and healing under a running process."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest
from opentelemetry.instrumentation.asyncpg import AsyncPGInstrumentor
from opentelemetry.instrumentation.utils import is_instrumentation_enabled
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from flux.config import Config
from flux.errors import StoreError
from flux.store import migrate, roles
from flux.store.database import Store

from .conftest import await_end, keeper_of


@pytest.fixture
async def store(store_config: Config) -> AsyncIterator[Store]:
    async with await Store.open(store_config, application_name="st_test") as store:
        yield store


@pytest.fixture
def config_without_flux(store_config: Config, empty_database_url: str) -> Config:
    return replace(store_config, database_url=empty_database_url)


def as_user(url: str, user: str, password: str | None = None) -> str:
    parts = urlsplit(url)
    login = user if password is None else f"{user}:{password}"
    return urlunsplit(parts._replace(netloc=f"{login}@{parts.netloc.rpartition('@')[2]}"))


async def test_opening_migrates_an_empty_database(config_without_flux: Config) -> None:
    async with await Store.open(config_without_flux, application_name="st_test") as store:
        async with store.internal() as connection:
            names = [
                row["name"] for row in await connection.fetch("SELECT name FROM flux.migrations ORDER BY 1")
            ]
            assert names == [migration.name for migration in migrate.read()]
            assert await connection.fetchval("SHOW application_name") == "st_test"
            assert await connection.fetchval("SHOW timezone") == "UTC"
        assert not store.embedded


async def test_opening_to_look_changes_nothing(config_without_flux: Config) -> None:
    store = await Store.open(config_without_flux, application_name="st_test", migrate=False)
    async with store, store.internal() as connection:
        assert await connection.fetchval("SELECT to_regnamespace('flux')") is None


async def test_internal_statements_are_not_traced(store: Store) -> None:
    assert is_instrumentation_enabled()
    async with store.internal():
        assert not is_instrumentation_enabled()
    assert is_instrumentation_enabled()


async def test_internal_statements_are_no_spans_where_asyncpg_is_instrumented(store_config: Config) -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    instrumentor = AsyncPGInstrumentor()
    instrumentor.instrument(tracer_provider=provider, skip_dep_check=True)
    try:
        async with await Store.open(store_config, application_name="st_test") as store:
            async with store.internal() as connection:
                await connection.fetchval("SELECT 1")
                async with connection.transaction():
                    await connection.execute("SELECT 2")
            assert exporter.get_finished_spans() == ()
            # As a user's own connection would be.
            async with store.records.acquire() as connection:
                await connection.fetchval("SELECT 3")
        # Under which name depends on the semantic conventions that this process has opted into.
        texts = [
            span.attributes.get("db.query.text", span.attributes.get("db.statement"))
            for span in exporter.get_finished_spans()
        ]
        assert "SELECT 3" in texts
    finally:
        instrumentor.uninstrument()
        provider.shutdown()


async def test_a_reading_command_opens_one_connection(store_config: Config, postgres_url: str) -> None:
    opened: list[str] = []
    original = asyncpg.connect_utils._connect

    async def counted(**arguments: Any) -> Any:
        opened.append(arguments["server_settings"]["application_name"])
        return await original(**arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(asyncpg.connect_utils, "_connect", counted)
        store = await Store.open(store_config, application_name="st_read", pool_size=1, functions=False)
        async with store, store.internal() as connection:
            assert await connection.fetchval("SELECT 1") == 1
            assert not store.protected
            assert store.app_connect_args == store.connect_args
    assert opened == ["st_read"]


async def test_functions_get_a_role_that_cannot_touch_the_record(store: Store) -> None:
    assert store.protected
    connection = await asyncpg.connect(**store.app_connect_args)
    try:
        assert await connection.fetchval("SELECT current_user") == "flux_app"
        for statement in (
            "SELECT 1 FROM flux.executions",
            "DELETE FROM flux.mutations",
            "CREATE TABLE flux.x ()",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(statement)
        assert not await connection.fetchval("SELECT pg_has_role('flux_app', 'postgres', 'MEMBER')")
    finally:
        await connection.close()


async def test_an_owner_without_createrole_leaves_functions_unprotected(
    store_config: Config, postgres_url: str, database_url: str
) -> None:
    owner = f"st_owner_{secrets.token_hex(4)}"
    admin = await asyncpg.connect(database_url)
    try:
        await admin.execute(f"CREATE ROLE {owner} LOGIN")
        await admin.execute(
            f"GRANT USAGE ON SCHEMA flux TO {owner}; GRANT SELECT ON flux.migrations TO {owner}"
        )
        await admin.execute("REVOKE CONNECT ON DATABASE " + urlsplit(database_url).path[1:] + " FROM public")
        await admin.execute(f"GRANT CONNECT ON DATABASE {urlsplit(database_url).path[1:]} TO {owner}")
        config = replace(store_config, database_url=as_user(database_url, owner))
        async with await Store.open(config, application_name="st_test") as store:
            assert not store.protected
            assert store.app_connect_args == store.connect_args
    finally:
        await admin.execute(f"DROP OWNED BY {owner}; DROP ROLE {owner}")
        await admin.close()


async def test_eight_at_once_make_the_role_once(database_url: str) -> None:
    connections = await asyncio.gather(*(asyncpg.connect(database_url) for _ in range(8)))
    try:
        made = await asyncio.gather(*(roles.ensure_app_role(connection, None) for connection in connections))
        assert made == [True] * 8
    finally:
        for connection in connections:
            await connection.close()


def test_the_password_hangs_on_the_master_key_alone() -> None:
    assert roles.app_password(bytes(32)) == roles.app_password(bytes(32))
    assert roles.app_password(bytes(32)) != roles.app_password(bytes(31) + b"\1")
    assert len(roles.app_password(bytes(32))) == 64


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("postgresql://me:s3cret@127.0.0.1:1/app", r'can\'t be reached: database "app" on 127\.0\.0\.1:1'),
        ("postgresql://me:s3cret@no.such.host.invalid/app", r'database "app" on no\.such\.host\.invalid'),
        ("mysql://me:s3cret@127.0.0.1/app", "not a Postgres URL"),
        ("postgresql://me:s3/cret@127.0.0.1/app", "DATABASE_URL"),
    ],
)
async def test_a_database_that_cannot_be_reached_is_named_without_the_password(
    tmp_path: Path, url: str, message: str
) -> None:
    with pytest.raises(StoreError, match=message) as caught:
        await Store.open(Config(root=tmp_path, database_url=url), application_name="st_test")
    assert "cret" not in f"{caught.value.message} {caught.value.hint}"
    assert caught.value.hint


async def test_a_missing_database_is_named(store_config: Config, postgres_url: str) -> None:
    url = urlunsplit(urlsplit(postgres_url)._replace(path="/st_nowhere"))
    with pytest.raises(StoreError, match='no such database: database "st_nowhere"') as caught:
        await Store.open(replace(store_config, database_url=url), application_name="st_test")
    assert caught.value.hint is not None
    assert "createdb" in caught.value.hint


async def test_an_unknown_user_is_refused_by_name(store_config: Config, database_url: str) -> None:
    config = replace(store_config, database_url=as_user(database_url, "st_stranger", "s3cret"))
    with pytest.raises(StoreError, match='role "st_stranger" does not exist') as caught:
        await Store.open(config, application_name="st_test")
    assert "s3cret" not in str(caught.value)


async def test_behind_a_transaction_pooler_nothing_is_prepared(store_config: Config) -> None:
    async with await Store.open(
        replace(store_config, pooler="transaction"), application_name="st_test"
    ) as store:
        assert store.connect_args["statement_cache_size"] == 0
        async with store.internal() as connection:
            await connection.fetchval("SELECT $1::int", 1)
            assert (
                await connection.fetchval("SELECT count(*) FROM pg_prepared_statements WHERE name <> ''") == 0
            )


@pytest.fixture
def embedded_config(project: Path) -> Iterator[Config]:
    yield Config(root=project, name="test")
    await_end(project)


async def test_the_embedded_server_serves_owner_and_functions(embedded_config: Config) -> None:
    async with await Store.open(embedded_config, application_name="st_test") as store:
        assert store.embedded
        assert store.protected
        connection = await asyncpg.connect(**store.app_connect_args)
        assert await connection.fetchval("SELECT current_user") == "flux_app"
        await connection.close()


async def test_a_store_heals_when_the_keeper_is_killed_under_it(embedded_config: Config) -> None:
    async with await Store.open(embedded_config, application_name="st_test") as store:
        killed = keeper_of(embedded_config.root)
        os.kill(killed, signal.SIGKILL)
        async with asyncio.timeout(20):
            while True:
                try:
                    async with store.internal() as connection:
                        await connection.execute("SELECT 1")
                    if keeper_of(embedded_config.root) != killed:
                        break
                except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, ValueError):
                    await asyncio.sleep(0.02)
        connection = await asyncpg.connect(**store.app_connect_args)
        await connection.close()


async def test_a_connection_that_is_given_up_in_the_middle_of_a_call_counts_as_lost(store: Store) -> None:
    async def ask() -> None:
        async with store.internal(patience=0.05) as connection:
            call = asyncio.create_task(connection.fetchval("SELECT 'asked while time runs out'"))
            await asyncio.sleep(0)
            # Meanwhile Postgres has answered the first of the call's messages, and the time is over: asyncpg
            # goes on with a connection that is gone.
            time.sleep(0.2)  # noqa: ASYNC251
            await call

    with pytest.raises(asyncpg.ConnectionDoesNotExistError, match=r"did not answer within 0\.05 s"):
        await ask()
    async with store.internal(patience=5.0) as connection:
        assert await connection.fetchval("SELECT 1") == 1


async def test_a_connection_that_is_lost_as_it_is_given_back_does_not_undo_what_was_done(
    store: Store,
) -> None:
    async with store.internal() as connection:
        done = await connection.fetchval("SELECT 'done'")
        backend = await connection.fetchval("SELECT pg_backend_pid()")
        async with store.internal() as other:
            await other.fetchval("SELECT pg_terminate_backend($1, 5000)", backend)
    assert done == "done"
    async with store.internal() as connection:
        assert await connection.fetchval("SELECT pg_backend_pid()") != backend
