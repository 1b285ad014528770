"""`flux db push`: apply pending schema files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from flux.cli.output import command_errors, json_option, print_json, run
from flux.cli.project import project_config
from flux.config import Config


@click.group()
def db() -> None:
    """The project's database: schema files."""


@db.command()
@click.option("--dry-run", is_flag=True, help="List what would be applied, change nothing.")
@json_option
@command_errors
def push(dry_run: bool, as_json: bool) -> None:
    """Apply the files of schema/ that have not been applied yet, in the order of their names."""
    config = project_config()
    report = run(_push(config, dry_run))
    if as_json:
        print_json(report)
        return
    for name in report["applied"]:
        click.echo(f"{click.style('✓', fg='green')} schema/{name} applied")
    for name in report["pending"]:
        click.echo(f"· schema/{name} pending")
    for drift in report["drifted"]:
        click.echo(f"{click.style('!', fg='yellow')} {drift}")
    if not any(report.values()):
        click.echo("Nothing to apply: every schema file has been.")


async def _push(config: Config, dry_run: bool) -> dict[str, list[Any]]:
    from flux.data import push as schema
    from flux.store.database import Store

    store = await Store.open(config, application_name="flux db push", pool_size=2)
    try:
        async with store.internal() as connection:
            folder: Path = config.root / "schema"
            applied = [] if dry_run else await schema.apply(connection, folder)
            plan = await schema.plan(connection, folder)
    finally:
        await store.close()
    return {
        "applied": list(applied),
        "pending": [file.name for file in plan.pending],
        "drifted": [str(drift) for drift in plan.drifted],
    }
