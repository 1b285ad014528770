"""`flux db push`: apply pending schema files."""

from __future__ import annotations

import sys
from dataclasses import asdict

import click

from flux.cli.output import command_errors, json_option, print_json, run
from flux.cli.project import project_config


@click.group()
def db() -> None:
    """The project's database: schema files."""


def _say(message: str) -> None:
    from flux.cli.render.safe import safe

    click.echo(safe(message), err=True)


@db.command()
@click.option("--dry-run", is_flag=True, help="List what would be applied, change nothing.")
@json_option
@command_errors
def push(dry_run: bool, as_json: bool) -> None:
    """Apply the files of schema/ that have not been applied yet, in the order of their names."""
    from flux.app.schema import push_project

    report = asdict(run(push_project(project_config(), dry_run=dry_run, slow=_say)))
    if as_json:
        print_json(report)
        return
    from flux.cli.render.ansi import Screen, Text
    from flux.cli.render.safe import safe

    screen = Screen.of(sys.stdout)
    for name in report["applied"]:
        screen.print(Text.of(("✓", "green"), f" schema/{safe(name)} applied"))
    for name in report["pending"]:
        screen.print(Text.of(("·", "cyan"), f" schema/{safe(name)} pending"))
    for drift in report["drifted"]:
        screen.print(Text.of(("!", "bold yellow"), f" {safe(drift)}"))
    if not any(report.values()):
        screen.print(Text.of("Nothing to apply: every schema file has been."))
