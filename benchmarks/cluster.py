"""A Postgres of a contestant's own: embedded, with the settings Flux gives it (fsync and synchronous commits
are on), so that nobody's writes are counted or vacuumed in another's time.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import asyncpg
from project import SCHEMA

from flux.store import embedded, migrate


class Cluster:
    """The server is up while this is entered; the databases stay in `folder`.

    Attributes:
        postmaster: its process id.
        version: Postgres' version.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._lease = embedded.acquire(self._folder)
        self.postmaster, self.version = asyncio.run(self._ask())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lease.close()

    def url(self, name: str) -> str:
        """A database's URL."""
        args = self._lease.connect_args
        return f"postgresql://{args['user']}@/{name}?host={args['host']}&port={args['port']}"

    def database(self, name: str, *, flux: bool = True) -> str:
        """The URL of a database with the table that is inserted into, made where it isn't there.

        Args:
            name: of the database.
            flux: True applies Flux's migrations.
        """
        return asyncio.run(self._database(name, flux))

    def value(self, name: str, query: str) -> Any:
        """What one query of one value answers."""
        return asyncio.run(self._value(name, query))

    async def _ask(self) -> tuple[int, str]:
        connection = await asyncpg.connect(self.url("postgres"))
        try:
            backend = await connection.fetchval("SELECT pg_backend_pid()")
            version = await connection.fetchval("SHOW server_version")
            stat = Path(f"/proc/{backend}/stat").read_text()
        finally:
            await connection.close(timeout=5)
        return int(stat.rpartition(")")[2].split()[1]), version

    async def _database(self, name: str, flux: bool) -> str:
        connection = await asyncpg.connect(self.url("postgres"))
        try:
            if await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", name):
                return self.url(name)
            await connection.execute(f'CREATE DATABASE "{name}"')
        finally:
            await connection.close()
        made = await asyncpg.connect(self.url(name))
        try:
            if flux:
                await migrate.apply(made)
            await made.execute(SCHEMA)
        finally:
            await made.close()
        return self.url(name)

    async def _value(self, name: str, query: str) -> Any:
        connection = await asyncpg.connect(self.url(name))
        try:
            return await connection.fetchval(query)
        finally:
            await connection.close()
