"""`flux tail`: executions as they happen, one a line."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING

import click

from flux.cli.output import command_errors, json_lines_option, print_json_line, run
from flux.errors import UsageError

if TYPE_CHECKING:
    from flux.query import Execution


@click.command()
@click.option("--function", help="Only of this function.")
@click.option("--status", help="Only with this status, or of this class: 404, 5xx.")
@click.option("--failed", is_flag=True, help="Only those that did not end well.")
@click.option(
    "-n",
    "--lines",
    default=10,
    show_default=True,
    type=click.IntRange(0, 2000),
    help="How many to begin with.",
)
@click.option("--no-follow", is_flag=True, help="Print those and end.")
@json_lines_option
@command_errors
def tail(
    function: str | None, status: str | None, failed: bool, lines: int, no_follow: bool, as_json: bool
) -> None:
    """Follow executions as they happen. Ends with Ctrl-C."""
    if status is not None and not re.fullmatch(r"[1-5](\d\d|xx)", status.lower()):
        raise UsageError(f"`{status}` is no status.", "Write one (404), or a class of them (5xx).")
    run(_follow(function, status, failed, lines, not no_follow, as_json))


async def _follow(
    function: str | None, status: str | None, failed: bool, lines: int, follow: bool, as_json: bool
) -> None:
    from flux.cli.project import reader

    show = print_json_line if as_json else _Printer()
    async with reader() as record:
        if follow:
            async for shape in record.tail(function=function, status=status, failed=failed, backlog=lines):
                show(shape)
        elif lines:
            for shape in await record.executions(
                function=function, status=status, failed=failed, limit=lines
            ):
                show(shape)


class _Printer:
    """Prints each execution on a line of its own, at once."""

    def __init__(self) -> None:
        from flux.cli.render.ansi import Screen

        self._screen = Screen.of(sys.stdout)

    def __call__(self, shape: Execution) -> None:
        from datetime import datetime

        from flux.cli.render.lines import execution

        self._screen.print(*execution(shape, self._screen.width, datetime.now().astimezone()))
        sys.stdout.flush()
