"""`flux db push`: apply pending schema files."""

from __future__ import annotations

from dataclasses import asdict

import click

from flux.cli.output import command_errors, json_option, print_json, run
from flux.cli.project import project_config


@click.group()
def db() -> None:
    """The project's database: schema files."""


@db.command()
@click.option("--dry-run", is_flag=True, help="List what would be applied, change nothing.")
@json_option
@command_errors
def push(dry_run: bool, as_json: bool) -> None:
    """Apply the files of schema/ that have not been applied yet, in the order of their names."""
    from flux.app.schema import push_project

    report = asdict(run(push_project(project_config(), dry_run=dry_run)))
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
