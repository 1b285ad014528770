"""`flux trace`: exactly what one execution did."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from flux.cli.output import command_errors, json_option, print_json, run

if TYPE_CHECKING:
    from flux.query import Trace


@click.command()
@click.argument("execution", default="last")
@click.option("--full", is_flag=True, help="Fold nothing, show headers and whole values.")
@json_option
@command_errors
def trace(execution: str, full: bool, as_json: bool) -> None:
    """Show exactly what one execution did: where its time went, its host calls, the rows it changed.

    EXECUTION is a request id or its first digits, a trace id, or `last` (the default).
    """
    document = run(_read(execution))
    if as_json:
        print_json(document)
        return
    from datetime import datetime

    from flux.cli.render.ansi import Screen
    from flux.cli.render.trace import page

    screen = Screen.of(sys.stdout)
    screen.print(*page(document, screen.width, datetime.now().astimezone(), full=full))


async def _read(execution: str) -> Trace:
    from flux.cli.project import reader

    async with reader() as record:
        return await record.trace(execution)
