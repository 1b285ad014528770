"""`flux doctor`: is everything there, does it work, and is the record whole?

What is not right comes with what to do about it. It works with a running server and with none, with
an embedded Postgres and an outside one. If none can be reached, it looks at the rest.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

import asyncpg

from flux.app.doctor import database, machine, record
from flux.app.doctor.check import Check, wrong
from flux.config import Config
from flux.errors import FluxError
from flux.store.database import Store

PATIENCE = 15.0
"""Seconds that one look may take."""


async def examine(config: Config) -> dict[str, Any]:
    """Look at everything. Returns `{ok, checks: [{name, part, ok, level, detail, hint, brief}]}`; never
    raises for what it finds. `ok` is False where a check's level is `error`.
    """
    checks: list[dict[str, Any]] = []
    for name, look in machine.LOOKS.items():
        checks.append((await _guard(name, look(config))).document("machine"))
    store: Store | None = None
    try:
        store = await Store.open(config, application_name="flux doctor", pool_size=2)
    except FluxError as error:
        checks.append(wrong("postgres", error.message, error.hint).document("postgres"))
    try:
        if store is not None:
            for part, looks in database.LOOKS.items():
                for name, ask in looks.items():
                    checks.append((await _guard(name, ask(config, store))).document(part))
        for found in await _record(config, store):
            checks.append(found.document("record"))
        if store is not None:
            checks.append((await _guard("jobs", database.jobs(config, store))).document("jobs"))
    finally:
        if store is not None:
            await store.close()
    return {"ok": all(check["ok"] for check in checks), "checks": checks}


async def _record(config: Config, store: Store | None) -> list[Check]:
    try:
        async with asyncio.timeout(2 * PATIENCE):
            return await record.look(config, store)
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        return [wrong("record", f"It could not be looked at: {error or type(error).__name__}")]


async def _guard(name: str, look: Awaitable[Check]) -> Check:
    try:
        async with asyncio.timeout(PATIENCE):
            return await look
    except FluxError as error:
        return wrong(name, error.message, error.hint)
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        return wrong(name, str(error) or f"No answer ({type(error).__name__}).")
