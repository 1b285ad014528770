"""Applying a project's schema files: `flux db push`, and what `flux dev` does at start and on a change."""

from __future__ import annotations

from dataclasses import dataclass

from flux.config import Config
from flux.data import install, schema_files
from flux.store.database import Store

FOLDER = "schema"


@dataclass(frozen=True)
class SchemaReport:
    """Names of files that were applied, that wait, and sentences on those edited after they were applied."""

    applied: list[str]
    pending: list[str]
    drifted: list[str]


async def push_files(config: Config, store: Store, *, dry_run: bool = False) -> SchemaReport:
    """Apply what has not been applied yet, unless `dry_run`.

    Raises:
        StoreError: a file fails; those before it stay applied.
    """
    folder = config.root / FOLDER
    async with store.internal() as connection:
        applied = [] if dry_run else await schema_files.apply(connection, folder)
        plan = await schema_files.plan(connection, folder)
    return SchemaReport(
        list(applied), [file.name for file in plan.pending], [drift.message for drift in plan.drifted]
    )


async def push_project(config: Config, *, dry_run: bool) -> SchemaReport:
    """The same for a command line that holds no store; also puts capture back where somebody took it off."""
    store = await Store.open(config, application_name="flux db push", pool_size=2)
    try:
        report = await push_files(config, store, dry_run=dry_run)
        if not dry_run:
            async with store.internal() as connection:
                await install.install(connection)
        return report
    finally:
        await store.close()
