"""Applies the project's schema files (`schema/*.sql`) to the user's database, once each, in name order.

`flux db push` calls plan, shows it, then apply; `flux dev` does so at every reload. A file that was applied
and then edited is drift: it is reported, never applied again.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg

from flux.data.install import Connection, install
from flux.data.schema import SchemaFile, Statement, Stream, read, statements
from flux.errors import StoreError
from flux.store import locks
from flux.store.sql import Queries

_Q = Queries("flux.data")
_IGNORED = ("\\restrict", "\\unrestrict")
"""Lines of pg_dump's that keep psql from running commands out of a dump. Nothing here runs those."""
_SETTINGS = "SET SESSION AUTHORIZATION DEFAULT; RESET ALL"
"""A file's settings end with it: a dump empties the search_path."""
_IN_COPY = re.compile(r"^COPY .*, line (\d+)", re.MULTILINE)
_ENDS = re.compile(r"(?:commit|end|rollback(?!\s+to)|abort|prepare\s+transaction)\b", re.IGNORECASE)


class SchemaError(StoreError):
    """A schema file could not be applied; nothing of it is left."""


@dataclass(frozen=True, slots=True)
class Drift:
    """A file that is not what was applied under its name. `missing`: it is no longer there."""

    name: str
    applied_at: datetime
    missing: bool

    @property
    def message(self) -> str:
        """What is wrong and what to do about it."""
        what = "is gone" if self.missing else "was edited"
        return (
            f"schema/{self.name} {what} since it was applied on {self.applied_at:%Y-%m-%d %H:%M:%S %Z}: "
            "put the file back as it was, and the change into a new file."
        )


@dataclass(frozen=True, slots=True)
class Plan:
    """What a push would do: files to apply, in order, and applied ones that have changed since."""

    pending: list[SchemaFile]
    drifted: list[Drift]


async def plan(connection: Connection, schema_dir: Path) -> Plan:
    """Compare the project's schema files with those the database has seen.

    A file without a statement is not pending: it is one that somebody is about to write.

    Args:
        connection: of the owner.
        schema_dir: the project's `schema/`; a missing folder holds no files.

    Raises:
        StoreError: a file can't be read as text.
    """
    files = {file.name: file for file in read(schema_dir)}
    applied = {row["name"]: row for row in await connection.fetch(_Q.applied_files)}
    drifted = [
        Drift(name, row["applied_at"], name not in files)
        for name, row in applied.items()
        if name not in files or files[name].sha256 != row["sha256"]
    ]
    pending = [file for name, file in files.items() if name not in applied and any(statements(file.text))]
    return Plan(pending, drifted)


async def apply(
    connection: Connection, schema_dir: Path, *, doing: Callable[[str], None] | None = None
) -> list[str]:
    """Apply the pending files, each in a transaction of its own, and capture what they make.

    Drift stops nothing: the pending files are new ones. Safe from several processes at once.

    Args:
        connection: of the owner, in no transaction.
        schema_dir: the project's `schema/`.
        doing: is told what is begun: `schema/1.sql:3`, or what it waits for.

    Returns:
        Names of the files applied by this call, in order.

    Raises:
        SchemaError: a statement failed; the message has `file:line` and Postgres' own words. Files before it
            stay applied.
    """
    applied: list[str] = []
    doing = doing or _nobody
    try:
        pending = (await plan(connection, schema_dir)).pending
        if pending:
            doing("putting up capture")
            # The event triggers first: rows that a file puts into the tables it makes are changes, too.
            await install(connection)
        for file in pending:
            doing("another process that applies schema files")
            work = partial(_apply_file, connection, file, doing)
            if await locks.alone(connection, "schema_files", f"applying schema/{file.name}", work):
                applied.append(file.name)
    finally:
        if applied:
            doing("putting up capture")
            await install(connection)
    return applied


def _nobody(doing: str) -> None:
    """Is told nothing."""


async def _apply_file(connection: Connection, file: SchemaFile, doing: Callable[[str], None]) -> bool:
    """Apply a file in the transaction that is open. False: another process has done so meanwhile."""
    if file.name in {row["name"] for row in await connection.fetch(_Q.applied_files)}:
        return False
    statement = Statement("", 1)
    try:
        for statement in statements(file.text):
            doing(f"schema/{file.name}:{statement.line}")
            if _ENDS.match(statement.text):
                raise SchemaError(
                    f"schema/{file.name}:{statement.line}: this ends the transaction of its file.",
                    "Take it out: each file is applied in a transaction of its own.",
                )
            await _run(connection, file, statement)
        statement = Statement("", statement.line)
        await connection.execute(_SETTINGS)
        await connection.execute(_Q.keep_file, file.name, file.sha256, file.text)
        # What COMMIT would refuse is told with the file's name.
        await connection.execute("SET CONSTRAINTS ALL IMMEDIATE")
    except asyncpg.LockNotAvailableError:
        raise  # the whole file, again
    except asyncpg.PostgresError as error:
        raise _failure(file, statement, error) from error
    return True


async def _run(connection: Connection, file: SchemaFile, statement: Statement) -> None:
    where = f"schema/{file.name}:{statement.line}"
    if statement.meta:
        command = statement.text.split()[0]
        if command not in _IGNORED:
            raise SchemaError(
                f"{where}: `{command}` is a command of psql's, which is no SQL.",
                "Take it out; what it does has to be said in SQL.",
            )
    elif statement.stream is Stream.OUT:
        raise SchemaError(
            f"{where}: COPY .. TO stdout has nobody to read it here.",
            "Take it out, or copy to a file or a table.",
        )
    elif statement.stream is Stream.IN:
        inside: Any = connection
        await inside._copy_in(statement.text, io.BytesIO(statement.data.encode()), None)
    else:
        await connection.execute(statement.text)


def _failure(file: SchemaFile, statement: Statement, error: asyncpg.PostgresError) -> SchemaError:
    line = statement.line
    position = getattr(error, "position", None)
    if statement.stream is Stream.IN and (row := _IN_COPY.search(getattr(error, "context", None) or "")):
        line = statement.data_line + int(row[1]) - 1
    elif position and statement.text:
        line += statement.text.count("\n", 0, int(position) - 1)
    said = [str(getattr(error, "message", None) or error)]
    if detail := getattr(error, "detail", None):
        said.append(f"({detail})")
    hint = getattr(error, "hint", None)
    return SchemaError(f"schema/{file.name}:{line}: {' '.join(said)}", str(hint) if hint else None)
