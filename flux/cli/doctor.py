"""`flux doctor`: is everything there, is recording whole?"""

from __future__ import annotations

import sys

import click

from flux.cli.output import command_errors, json_option, print_json, run
from flux.cli.project import project_config


@click.command()
@json_option
@command_errors
def doctor(as_json: bool) -> None:
    """Check that everything Flux needs is there and that recording is whole. Exit code 1 if something is
    not.
    """
    from flux.app.doctor import examine

    report = run(examine(project_config()))
    if as_json:
        print_json(report)
    else:
        wide = max(len(check["name"]) for check in report["checks"])
        for check in report["checks"]:
            mark = click.style("✓", fg="green") if check["ok"] else click.style("✗", fg="red")
            click.echo(f"{mark} {check['name']:<{wide}}  {check['detail']}")
            if not check["ok"] and check["hint"]:
                click.echo(f"  {'':<{wide}}  {click.style(check['hint'], dim=True)}")
    if not report["ok"]:
        sys.exit(1)
