"""`flux db`: schema files, and the way to the database for other programs."""

from __future__ import annotations

import signal
import sys
from dataclasses import asdict

import click

from flux.cli.output import command_errors, json_option, print_json, run
from flux.cli.project import project_config


@click.group()
def db() -> None:
    """The project's database: schema files, its URL, a prompt."""


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


@db.command()
@click.option("--hold", is_flag=True, help="Keep the embedded Postgres running until Ctrl-C.")
@json_option
@command_errors
def url(hold: bool, as_json: bool) -> None:
    """Print the database's URL, as its owner, on one line: psql "$(flux db url)".

    The embedded Postgres runs while `flux dev`, `flux serve` or another command does. Where none does, it is
    started, and stops a second after this command unless --hold keeps it.
    """
    from flux.app.database import held

    with held(project_config()) as database:
        if as_json:
            print_json({"url": database.url})
        else:
            click.echo(database.url)
        sys.stdout.flush()
        if hold:
            click.echo("Held until Ctrl-C.", err=True)
            signal.pause()
        elif not database.stays:
            click.echo(
                "Nobody runs this Postgres, so it stops now. Run `flux dev` beside, "
                "or hold it: flux db url --hold; for a prompt: flux db shell",
                err=True,
            )


@db.command(context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@command_errors
def shell(arguments: tuple[str, ...]) -> None:
    """Open psql on the database, as its owner; ARGUMENTS go to it: flux db shell -c "select 1".

    The embedded Postgres is held meanwhile. What is changed there is recorded too, with its database user.
    """
    from flux.app.database import held
    from flux.cli.psql import run_psql

    with held(project_config()) as database:
        sys.exit(run_psql(database.url, arguments))
