"""`flux doctor`: is everything there, is recording whole?"""

from __future__ import annotations

import sys

import click

from flux.cli.output import command_errors, json_option, print_json, run
from flux.cli.project import project_config


@click.command()
@click.option("--all", "every", is_flag=True, help="Show every check, not only what is not right.")
@click.option(
    "--adopt",
    metavar="FOLDER",
    help="Instead: take this copy of a spool for the original, which is gone, and store what it holds.",
)
@json_option
@command_errors
def doctor(every: bool, adopt: str | None, as_json: bool) -> None:
    """Check that everything Flux needs is there and that the record is whole. Exit code 1 if something is
    wrong; what is only worth a look is shown with a `!`.
    """
    if adopt is not None:
        _adopt(adopt, as_json=as_json)
        return
    from flux.app.doctor import examine

    report = run(examine(project_config()))
    if as_json:
        print_json(report)
    else:
        from flux.cli.render.ansi import Screen
        from flux.cli.render.doctor import doctor_page

        screen = Screen.of(sys.stdout)
        screen.print(*doctor_page(report, screen.width, every=every))
    if not report["ok"]:
        sys.exit(1)


def _adopt(folder: str, *, as_json: bool) -> None:
    from flux.app import adopt

    done = run(adopt.adopt(project_config(), folder))
    if as_json:
        print_json(done)
    elif done["stored"]:
        count = done["stored"]
        click.echo(f"Spool {done['spool']} is adopted: {count} record{'' if count == 1 else 's'} stored.")
    else:
        click.echo(f"Spool {done['spool']} is adopted: Postgres had all of it, nothing was added.")
