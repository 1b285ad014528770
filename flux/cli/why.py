"""`flux why`: the cause of a failure."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from flux.cli.output import command_errors, json_option, print_json, run

if TYPE_CHECKING:
    from flux.query import Why


@click.command()
@click.argument("execution", default="last")
@json_option
@command_errors
def why(execution: str, as_json: bool) -> None:
    """Explain why an execution failed: the line, the failing call, the data, what was different, what to do.

    EXECUTION is a request id or its first digits, a trace id, or `last` (the default).
    """
    shape = run(_read(execution))
    if as_json:
        print_json(shape)
        return
    from datetime import datetime

    from flux.cli.render.ansi import Screen
    from flux.cli.render.why import page

    screen = Screen.of(sys.stdout)
    screen.print(*page(shape, screen.width, datetime.now().astimezone()))


async def _read(execution: str) -> Why:
    from flux.cli.project import reader

    async with reader() as record:
        return await record.why(execution)
