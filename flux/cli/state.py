"""`flux state`: who changed a row, and when."""

from __future__ import annotations

import sys
from datetime import datetime
from typing import TYPE_CHECKING

import click

from flux.cli.output import command_errors, json_option, print_json, run
from flux.cli.since import since_option

if TYPE_CHECKING:
    from flux.query import Blame, Mutation

_ID = click.option(
    "--id",
    "key",
    required=True,
    help="The row's primary key: 7; of several columns order_id=7,line=2, or JSON.",
)


@click.group()
def state() -> None:
    """Ask who changed a row, and when."""


@state.command()
@click.argument("table")
@_ID
@click.option("--column", help="Only what changed this column.")
@since_option
@click.option("--limit", type=click.IntRange(1), help="Only the newest so many.")
@json_option
@command_errors
def history(
    table: str, key: str, column: str | None, since: datetime | None, limit: int | None, as_json: bool
) -> None:
    """Everything that was done to one row of TABLE, oldest first, rolled-back attempts included."""
    mutations = run(_history(table, key, column, since, limit))
    if as_json:
        print_json(mutations)
        return
    from flux.cli.render.ansi import Screen
    from flux.cli.render.state import history_page

    screen = Screen.of(sys.stdout)
    screen.print(*history_page(table, key, mutations, screen.width, datetime.now().astimezone()))


@state.command()
@click.argument("table")
@_ID
@json_option
@command_errors
def blame(table: str, key: str, as_json: bool) -> None:
    """Who last set each column of one row of TABLE."""
    columns = run(_blame(table, key))
    if as_json:
        print_json(columns)
        return
    from flux.cli.render.ansi import Screen
    from flux.cli.render.state import blame_page

    screen = Screen.of(sys.stdout)
    screen.print(*blame_page(table, key, columns, screen.width, datetime.now().astimezone()))


async def _history(
    table: str, key: str, column: str | None, since: datetime | None, limit: int | None
) -> list[Mutation]:
    from flux.cli.project import reader

    async with reader() as record:
        return await record.history(table, key, column=column, since=since, limit=limit)


async def _blame(table: str, key: str) -> Blame:
    from flux.cli.project import reader

    async with reader() as record:
        return await record.blame(table, key)
