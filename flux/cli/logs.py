"""`flux logs`: what functions logged."""

from __future__ import annotations

import sys
from datetime import datetime
from typing import TYPE_CHECKING

import click

from flux.cli.output import command_errors, json_lines_option, print_json_line, run
from flux.cli.since import since_option
from flux.errors import UsageError

if TYPE_CHECKING:
    from flux.query import LogLine


@click.command()
@click.argument("execution", required=False)
@click.option("--function", help="Only of this function.")
@click.option(
    "--level",
    type=click.Choice(["debug", "info", "warn", "error"]),
    help="Only of this level or a more serious one.",
)
@since_option
@click.option(
    "-n", "--lines", default=100, show_default=True, type=click.IntRange(0, 100_000), help="At most so many."
)
@click.option("-f", "--follow", is_flag=True, help="Go on with new ones, until Ctrl-C.")
@json_lines_option
@command_errors
def logs(
    execution: str | None,
    function: str | None,
    level: str | None,
    since: datetime | None,
    lines: int,
    follow: bool,
    as_json: bool,
) -> None:
    """Show what functions logged: the latest lines of all, or all of one EXECUTION (an id, its first digits,
    `last`).
    """
    if execution is not None and follow:
        raise UsageError(
            "One execution's lines are all there: --follow has nothing to wait for.", "Leave it out."
        )
    run(_show(execution, function, level, since, lines, follow, as_json))


async def _show(
    execution: str | None,
    function: str | None,
    level: str | None,
    since: datetime | None,
    lines: int,
    follow: bool,
    as_json: bool,
) -> None:
    from flux.cli.project import reader

    show = print_json_line if as_json else _Printer(one=execution is not None)
    async with reader() as record:
        if follow:
            async for shape in record.follow_logs(function=function, level=level, backlog=lines):
                show(shape)
            return
        for shape in await record.logs(execution, function=function, level=level, since=since, limit=lines):
            show(shape)


class _Printer:
    """Prints each line of a log at once; without its execution where all are of one."""

    def __init__(self, *, one: bool) -> None:
        from flux.cli.render.ansi import Screen

        self._screen = Screen.of(sys.stdout)
        self._one = one

    def __call__(self, shape: LogLine) -> None:
        from flux.cli.render.lines import log

        self._screen.print(log(shape, datetime.now().astimezone(), one=self._one))
        sys.stdout.flush()
