"""`flux query`: a person's own SQL over the record."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from flux.cli.output import command_errors, json_option, print_json, run

if TYPE_CHECKING:
    from flux.query.statement import Result


@click.command()
@click.argument("sql")
@click.option(
    "--limit", default=1000, show_default=True, type=click.IntRange(1, 100_000), help="At most so many rows."
)
@json_option
@command_errors
def query(sql: str, limit: int, as_json: bool) -> None:
    """Run SQL (`-` reads it from stdin) over the record and the project's tables, read-only.

    The record is in the schema `flux`: executions, spans, host_calls, mutations, logs, functions,
    deployments, jobs.
    """
    result = run(_run(sys.stdin.read() if sql == "-" else sql, limit))
    if as_json:
        print_json(result.rows)
    else:
        from flux.cli.render.ansi import Screen
        from flux.cli.render.table import table

        screen = Screen.of(sys.stdout)
        screen.print(
            *table(result.columns, result.types, result.rows, screen.width if sys.stdout.isatty() else None)
        )
    if result.more:
        click.echo(f"The first {limit} rows; there are more (--limit).", err=True)


async def _run(sql: str, limit: int) -> Result:
    from flux.cli.project import reader

    async with reader() as record:
        return await record.sql(sql, limit=limit)
