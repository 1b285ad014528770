"""The tables of the schema `flux`: those that the contract names, and out of functions' reach."""

from __future__ import annotations

import asyncpg
import pytest

from flux.config import Config
from flux.store.database import Store

PARTITIONED = {"executions", "spans", "host_calls", "mutations", "logs"}
PLAIN = {"functions", "deployments", "jobs", "schedules", "api_keys", "secrets", "nodes"}
OWN = {"spool_positions", "quarantine", "epochs", "schema_versions", "migrations"}
PROMISED = PARTITIONED | PLAIN | OWN


async def test_every_promised_table_is_there(store_config: Config) -> None:
    store = await Store.open(store_config, application_name="test", pool_size=1)
    try:
        async with store.internal() as connection:
            found = await connection.fetch(
                "SELECT relname, relkind FROM pg_class "
                "WHERE relnamespace = 'flux'::regnamespace AND relkind IN ('r', 'p')"
            )
    finally:
        await store.close()
    kinds = {row["relname"]: row["relkind"] for row in found}
    assert set(kinds) >= PROMISED
    assert {name for name in PROMISED if kinds[name] == b"p"} == PARTITIONED


@pytest.mark.parametrize("table", sorted(PROMISED))
async def test_functions_can_neither_read_nor_write_it(store_config: Config, table: str) -> None:
    store = await Store.open(store_config, application_name="test", pool_size=1)
    try:
        connection = await asyncpg.connect(**store.app_connect_args)
        try:
            for statement in (f"SELECT FROM flux.{table}", f"DELETE FROM flux.{table}"):
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    await connection.execute(statement)
        finally:
            await connection.close()
    finally:
        await store.close()


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO flux.api_keys (id, name, hash) VALUES ('0123456789abcdef', 'ci', 'plain')",
        "INSERT INTO flux.api_keys (id, name, hash) VALUES ('short', 'ci', sha256('x'))",
        "INSERT INTO flux.api_keys (id, name, hash, expires_at) "
        "VALUES ('0123456789abcdef', 'ci', sha256('x'), '2000-01-01')",
        "INSERT INTO flux.secrets (name, version) VALUES ('STRIPE_KEY', 1)",
        "INSERT INTO flux.secrets (name, version, sealed) VALUES ('STRIPE_KEY', 0, '\\x00')",
        "INSERT INTO flux.schedules (name, function, cron) VALUES ('', 'report', '0 3 * * *')",
    ],
)
async def test_what_makes_no_sense_is_refused(database_url: str, statement: str) -> None:
    connection = await asyncpg.connect(database_url)
    try:
        with pytest.raises(asyncpg.CheckViolationError):
            await connection.execute(statement)
    finally:
        await connection.close()
