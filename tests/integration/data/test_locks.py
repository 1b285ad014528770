"""Flux's own locks can't be taken by functions; who waits for other locks says for whom, and gives up."""

from __future__ import annotations

from pathlib import Path

import asyncpg
import pytest

from flux.app.doctor.database import LOOKS
from flux.config import Config
from flux.data import schema_files
from flux.data.database import UserDatabase
from flux.errors import StoreError
from flux.store import locks
from flux.store.database import Store

from .conftest import Guest

A = "a" * 32


async def test_locks_that_functions_can_take_hold_up_no_push(
    lone: UserDatabase, store: Store, today: str, tmp_path: Path
) -> None:
    a = Guest(lone.session(A, today))
    tx = await a.begin()
    for key in (b"fluxmigr", b"fluxcapt", b"fluxsche"):
        await a.rows("select pg_advisory_lock($1::bigint)", str(int.from_bytes(key, "big")), tx=tx)
    for table in ("migrations", "gate", "schema_files"):
        text = f"lock table flux.{table} in access share mode"
        await a.rows("savepoint s", tx=tx)
        assert (await a.fail("db.sql", tx, text=text)).type == "insufficient_privilege"
        await a.rows("rollback to s", tx=tx)
    (tmp_path / "1.sql").write_text("CREATE TABLE pushed (id int);")
    async with store.internal() as connection:
        assert await schema_files.apply(connection, tmp_path) == ["1.sql"]
    await a.ask("db.rollback", tx)


async def test_who_waits_for_a_functions_transaction_names_it_and_gives_up(
    lone: UserDatabase, store: Store, today: str, caplog: pytest.LogCaptureFixture
) -> None:
    a = Guest(lone.session(A, today))
    tx = await a.begin()
    await a.rows("insert into users (name) values ('x')", tx=tx)
    async with store.internal() as connection:
        with pytest.raises(StoreError) as raised:
            await locks.alone(
                connection,
                "schema_files",
                "applying schema files",
                lambda: connection.execute("ALTER TABLE users ADD COLUMN more int"),
                patience=0,
            )
    assert "flux_app" in raised.value.message
    assert "insert into users" in raised.value.message
    assert "pg_terminate_backend" in (raised.value.hint or "")
    await a.ask("db.rollback", tx)


async def test_doctor_names_long_locks_and_settings_of_the_role(
    lone: UserDatabase,
    store: Store,
    store_config: Config,
    admin: asyncpg.Connection,
    today: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("flux.app.doctor.database.LONG", 0.0)
    look = LOOKS["postgres"]
    assert (await look["role"](store_config, store)).level == "ok"
    a = Guest(lone.session(A, today))
    tx = await a.begin()
    await a.rows("insert into users (name) values ('x')", tx=tx)
    found = await look["locks"](store_config, store)
    assert (found.level, "insert into users" in found.detail) == ("warning", True)
    await a.ask("db.rollback", tx)
    try:
        await a.rows("alter role flux_app set statement_timeout = '1s'")
        found = await look["role"](store_config, store)
        assert (found.level, "statement_timeout=1s" in found.detail) == ("warning", True)
        assert "RESET ALL" in (found.hint or "")
    finally:
        await admin.execute("ALTER ROLE flux_app RESET ALL")
