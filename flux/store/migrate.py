"""Migrations: brings the `flux` schema of a database to what this version of the code expects.

Files `NNNN_name.sql` are applied in order, each in its own transaction, one process at a time, and kept
in flux.migrations by name and sha256. They are append-only: a file that was applied may not change.
Called by Store.open and by the tests' fixtures; any number of processes may do so at once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from flux.errors import MigrationError
from flux.store import locks

_SETTINGS = """
SET LOCAL statement_timeout = 0;
SET LOCAL idle_in_transaction_session_timeout = 0;
SET LOCAL check_function_bodies = on;
SET LOCAL search_path = pg_catalog, pg_temp;
"""
_ATTEMPTS = 5
_BOOTSTRAP = """
CREATE SCHEMA IF NOT EXISTS flux;
CREATE TABLE IF NOT EXISTS flux.migrations (
    name       text PRIMARY KEY,
    sha256     text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
);
"""
_RELATIONS = """
SELECT c.relname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = 'flux' ORDER BY 1
"""


@dataclass(frozen=True, slots=True)
class Migration:
    """One file: `name` without its suffix (they sort by it), its text, and the sha256 of its bytes in hex."""

    name: str
    text: str
    sha256: str


def folder() -> Path:
    """Where the migrations are: `flux/store/migrations` in an installed wheel, `migrations/` in a checkout.

    Raises:
        MigrationError: neither is there; the installation is broken.
    """
    shipped = Path(__file__).parent / "migrations"
    checkout = Path(__file__).parents[2] / "migrations"
    for candidate in (shipped, checkout):
        if any(candidate.glob("[0-9]*.sql")):
            return candidate
    raise MigrationError(
        f"No migrations in {shipped}: this installation of Flux is incomplete.", "Install it again."
    )


def read(where: Path | None = None) -> list[Migration]:
    """The migrations in a folder (Flux's own by default), in order of application."""
    found = []
    for path in sorted((where or folder()).glob("[0-9]*.sql")):
        data = path.read_bytes()
        found.append(Migration(path.stem, data.decode(), hashlib.sha256(data).hexdigest()))
    return found


async def apply(
    connection: asyncpg.Connection | PoolConnectionProxy, migrations: Sequence[Migration] | None = None
) -> list[str]:
    """Apply what is missing.

    Args:
        connection: of a role that may create schemas; must not be in a transaction.
        migrations: those of `read()` by default.

    Returns:
        Names of those that this call applied, in order; [] when the schema was current.

    Raises:
        MigrationError: an applied file has changed since, the database is ahead of this version, a schema
            `flux` of something else is in the way, or a migration failed (nothing of it is left).
    """
    wanted = read() if migrations is None else list(migrations)
    # One query, and no lock, where nothing is to be done: every command that reads comes this way.
    try:
        if not await _pending(connection, wanted):
            return []
    except (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError):
        await _bootstrap(connection)
    applied: list[str] = []
    while (name := await _apply_next(connection, wanted)) is not None:
        applied.append(name)
    return applied


async def _bootstrap(connection: asyncpg.Connection | PoolConnectionProxy) -> None:
    """Make the schema and the table that migrations are kept in, beside any number of others who do."""
    for attempt in range(_ATTEMPTS):
        try:
            return await _make_schema(connection)
        except (asyncpg.DuplicateSchemaError, asyncpg.DuplicateTableError, asyncpg.UniqueViolationError):
            # IF NOT EXISTS looks before it waits for the other one.
            if attempt == _ATTEMPTS - 1:
                raise


async def _make_schema(connection: asyncpg.Connection | PoolConnectionProxy) -> None:
    try:
        async with connection.transaction():
            await connection.execute(_SETTINGS)
            relations = [row["relname"] for row in await connection.fetch(_RELATIONS)]
            if relations and "migrations" not in relations:
                raise MigrationError(
                    f"The schema `flux` of this database holds `{relations[0]}`, which is not Flux's.",
                    "Give Flux a database of its own, or rename that schema.",
                )
            await connection.execute(_BOOTSTRAP)
    except asyncpg.InsufficientPrivilegeError as error:
        raise MigrationError(
            f"This database role may not create the schema `flux`: {error}.",
            "Grant it: GRANT CREATE ON DATABASE <database> TO <role>;",
        ) from error


async def _pending(
    connection: asyncpg.Connection | PoolConnectionProxy, wanted: Sequence[Migration]
) -> list[Migration]:
    rows = await connection.fetch("SELECT name, sha256 FROM flux.migrations")
    done: dict[str, str] = {row["name"]: row["sha256"] for row in rows}
    unknown = sorted(done.keys() - {migration.name for migration in wanted})
    if unknown:
        raise MigrationError(
            f"The database has the migration `{unknown[0]}`, which this version of Flux does not know.",
            "It was used by a newer Flux: upgrade this one, or use another database.",
        )
    for migration in wanted:
        if done.get(migration.name, migration.sha256) != migration.sha256:
            raise MigrationError(
                f"The migration `{migration.name}` has changed since it was applied to this database.",
                "Applied migrations are never edited: restore the file, and put the change into a new one.",
            )
    return [migration for migration in wanted if migration.name not in done]


async def _apply_next(
    connection: asyncpg.Connection | PoolConnectionProxy, wanted: Sequence[Migration]
) -> str | None:
    async def work() -> str | None:
        await connection.execute(_SETTINGS)
        pending = await _pending(connection, wanted)
        if not pending:
            return None
        migration = pending[0]
        try:
            await connection.execute(migration.text)
        except asyncpg.LockNotAvailableError:
            raise
        except asyncpg.PostgresError as error:
            raise MigrationError(f"{migration.name}.sql{_line(migration.text, error)}: {error}") from error
        await connection.execute(
            "INSERT INTO flux.migrations (name, sha256) VALUES ($1, $2)", migration.name, migration.sha256
        )
        return migration.name

    return await locks.alone(connection, "migrations", "migrating the database", work)


def _line(text: str, error: asyncpg.PostgresError) -> str:
    position = getattr(error, "position", None)
    return f":{text.count(chr(10), 0, int(position) - 1) + 1}" if position else ""
