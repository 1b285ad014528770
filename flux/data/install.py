"""Puts mutation capture, event triggers and grants on the user's database; also says what is missing there.

Called at every start, after every `db push` and by `doctor` (status). The work is done by functions of
migration 0002; this module decides the order, keeps processes apart and collects what could not be had.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from flux.store import locks
from flux.store.sql import Queries

_Q = Queries("flux.data")
_EVENT_TRIGGERS = {"flux_ddl", "flux_rewrite", "flux_drop"}

Connection = asyncpg.Connection | PoolConnectionProxy


@dataclass(frozen=True, slots=True)
class Uncaptured:
    """A table whose changes are not recorded, and why. `lasting`: they can't or shall not be: a foreign
    table, one of an extension.
    """

    schema: str
    table: str
    reason: str
    lasting: bool = False

    @property
    def name(self) -> str:
        """`schema.table`."""
        return f"{self.schema}.{self.table}"


@dataclass(frozen=True, slots=True)
class Installation:
    """What stands after an installation.

    `installed` names the tables (`schema.table`) whose capture was put up or renewed by this call;
    `event_triggers` says whether tables made later are captured at once (else at the next start or push);
    `grants` whether functions have their own role.
    """

    installed: list[str]
    uncaptured: list[Uncaptured]
    event_triggers: bool
    grants: bool


@dataclass(frozen=True, slots=True)
class Status:
    """What stands now.

    `captured` names tables (`schema.table`); of them `by_row` costs more on bulk changes, `unlogged` are
    emptied by a crash of Postgres without a mutation, `late` have a history that begins after the table, with
    when.
    `event_triggers` says whether tables made later are captured at once.
    """

    captured: list[str]
    uncaptured: list[Uncaptured]
    event_triggers: bool
    by_row: list[str]
    unlogged: list[str]
    late: dict[str, datetime]


async def install(connection: Connection) -> Installation:
    """Bring capture to every user table, and everything around it, up to date.

    Idempotent; safe from several processes. Each table is done in a transaction of its own, so that no lock
    is held for longer than its table needs; a table of somebody else's is reported, not fatal.

    Args:
        connection: of the owner, in no transaction; the migrations are applied.
    """

    async def close() -> None:
        await connection.execute(_Q.adopt_cluster)
        await connection.execute(_Q.close_flux)

    await _alone(connection, close)
    event_triggers = await _alone(connection, lambda: _event_triggers(connection))
    installed: list[str] = []
    uncaptured: list[Uncaptured] = []
    for row in await connection.fetch(_Q.tables):
        if reason := _never(row):
            uncaptured.append(Uncaptured(row["schema_name"], row["table_name"], reason, lasting=True))
            continue
        put_up = partial(connection.fetchval, _Q.capture_table, row["relation"])
        try:
            if await _alone(connection, put_up):
                installed.append(f"{row['schema_name']}.{row['table_name']}")
        except asyncpg.PostgresError as error:
            uncaptured.append(Uncaptured(row["schema_name"], row["table_name"], str(error)))
    await _alone(connection, partial(connection.execute, _Q.note_schema, "install"))
    await _alone(connection, partial(connection.execute, _Q.complete_truncations))
    granted = await _alone(connection, lambda: _grants(connection))
    return Installation(installed, uncaptured, event_triggers, granted)


async def status(connection: Connection) -> Status:
    """What capture stands on, without touching anything. For `doctor`."""
    captured: list[str] = []
    uncaptured: list[Uncaptured] = []
    for row in await connection.fetch(_Q.tables):
        reason = never = _never(row)
        if never is None and (faults := [*row["faults"], *row["disabled"]]):
            reason = f"missing or stale: {', '.join(faults)}"
        if reason is None:
            captured.append(f"{row['schema_name']}.{row['table_name']}")
        else:
            uncaptured.append(Uncaptured(row["schema_name"], row["table_name"], reason, never is not None))
    kinds = {row["name"]: row for row in await connection.fetch(_Q.kinds)}
    late = {row["name"]: row["at"] for row in await connection.fetch(_Q.late)}
    return Status(
        captured,
        uncaptured,
        await _has_event_triggers(connection),
        by_row=[name for name in captured if name in kinds and kinds[name]["by_row"]],
        unlogged=[name for name in captured if name in kinds and kinds[name]["unlogged"]],
        late={name: at for name, at in late.items() if name in captured},
    )


async def _alone(connection: Connection, work: Callable[[], Awaitable[Any]]) -> Any:
    return await locks.alone(connection, "gate", "putting up capture", work)


def _never(row: asyncpg.Record) -> str | None:
    if row["kind"] == "f":
        return "a foreign table: its rows change where no trigger of this database sees it"
    if row["extension"] is not None:
        return f"belongs to the extension {row['extension']}"
    return None


async def _has_event_triggers(connection: Connection) -> bool:
    return {row["evtname"] for row in await connection.fetch(_Q.event_triggers)} >= _EVENT_TRIGGERS


async def _event_triggers(connection: Connection) -> bool:
    if await _has_event_triggers(connection):
        return True
    try:
        async with connection.transaction():
            await connection.execute(_Q.drop_event_triggers)
            await connection.execute(_Q.create_event_triggers)
    except asyncpg.InsufficientPrivilegeError:
        return False
    return True


async def _grants(connection: Connection) -> bool:
    if not await connection.fetchval(_Q.has_app_role):
        return False
    await connection.execute(_Q.open_flux)
    with contextlib.suppress(asyncpg.InsufficientPrivilegeError):
        # Only a superuser may; `doctor` says where nobody has.
        async with connection.transaction():
            await connection.execute(_Q.close_catalog)
    granted = True
    for row in await connection.fetch(_Q.user_schemas):
        try:
            async with connection.transaction():
                await connection.execute(_Q.grant_schema, row["name"])
        except asyncpg.InsufficientPrivilegeError:
            granted = False
    return granted
