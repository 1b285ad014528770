"""Applying a project's schema files: `flux db push`, and what `flux dev` does at start and on a change."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from flux.config import Config
from flux.data import install, schema_files
from flux.store.database import Store

FOLDER = "schema"
PATIENCE = 3.0
"""Seconds after which it is said what takes so long."""


@dataclass(frozen=True)
class SchemaReport:
    """Names of files that were applied, that wait, and sentences on those edited after they were applied."""

    applied: list[str]
    pending: list[str]
    drifted: list[str]


async def push_files(
    config: Config, store: Store, *, dry_run: bool = False, slow: Callable[[str], None] | None = None
) -> SchemaReport:
    """Apply what has not been applied yet, unless `dry_run`. `slow` is told what goes on for some seconds.

    Raises:
        StoreError: a file fails; those before it stay applied.
    """
    folder = config.root / FOLDER
    async with store.internal() as connection:
        async with _watching(slow) as doing:
            applied = [] if dry_run else await schema_files.apply(connection, folder, doing=doing)
        plan = await schema_files.plan(connection, folder)
    return SchemaReport(
        list(applied), [file.name for file in plan.pending], [drift.message for drift in plan.drifted]
    )


@asynccontextmanager
async def _watching(slow: Callable[[str], None] | None) -> AsyncIterator[Callable[[str], None]]:
    """Gives a function that is told what is begun. `slow` is told what goes on for PATIENCE seconds."""
    loop = asyncio.get_running_loop()
    timer: asyncio.TimerHandle | None = None

    def doing(what: str) -> None:
        nonlocal timer
        if timer is not None:
            timer.cancel()
        if slow is not None:
            timer = loop.call_later(PATIENCE, slow, f"Schema files: still at {what} after {PATIENCE:.0f} s.")

    try:
        yield doing
    finally:
        if timer is not None:
            timer.cancel()


async def push_project(
    config: Config, *, dry_run: bool, slow: Callable[[str], None] | None = None
) -> SchemaReport:
    """The same for a command line that holds no store; also puts capture back where somebody took it off."""
    store = await Store.open(config, application_name="flux db push", pool_size=2)
    try:
        report = await push_files(config, store, dry_run=dry_run, slow=slow)
        if not dry_run:
            async with store.internal() as connection:
                await install.install(connection)
        return report
    finally:
        await store.close()
