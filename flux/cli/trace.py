"""`flux trace`: exactly what one execution did. `flux trace debug` steps through one, `flux trace diff` tells
how two differ.
"""

from __future__ import annotations

import sys
from datetime import datetime
from typing import TYPE_CHECKING

import click

from flux.cli.output import command_errors, json_option, print_json, run
from flux.cli.since import since_option

if TYPE_CHECKING:
    from flux.expression import Expression
    from flux.query import Cohorts, Diff, Steps, Trace


class TraceGroup(click.Group):
    """`flux trace ID` shows one execution; what is not a command of the group is an execution."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the command `show` first where none of the group's is."""
        if not args or (args[0] not in self.commands and args[0] not in ctx.help_option_names):
            args = ["show", *args]
        return super().parse_args(ctx, args)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The options of `show`, then the other commands."""
        show = self.commands["show"]
        show.format_options(click.Context(show, ctx, "trace"), formatter)
        with formatter.section("Commands"):
            formatter.write_dl(
                [
                    (name, command.get_short_help_str(80))
                    for name, command in self.commands.items()
                    if name != "show"
                ]
            )

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        """How `show` is used."""
        return self.commands["show"].collect_usage_pieces(ctx)


@click.group(cls=TraceGroup)
def trace() -> None:
    """Show exactly what one execution did: where its time went, its host calls, the rows it changed.

    EXECUTION is a request id or its first digits, a trace id, or `last` (the default).
    """


@trace.command(hidden=True)
@click.argument("execution", default="last")
@click.option("--full", is_flag=True, help="Fold nothing, show headers and whole values.")
@json_option
@command_errors
def show(execution: str, full: bool, as_json: bool) -> None:
    """Show exactly what one execution did."""
    document = run(_trace(execution))
    if as_json:
        print_json(document)
        return
    from flux.cli.render.ansi import Screen
    from flux.cli.render.trace import page

    screen = Screen.of(sys.stdout)
    screen.print(*page(document, screen.width, datetime.now().astimezone(), full=full))


@trace.command()
@click.argument("a", required=False)
@click.argument("b", required=False)
@click.option("--bad", metavar="EXPR", help="Compare cohorts: the executions of which this holds...")
@click.option("--good", metavar="EXPR", help="...with those of which this holds. One left out is the rest.")
@click.option("--function", metavar="NAME", help="With cohorts: only of this function.")
@since_option
@click.option("--limit", default=500, show_default=True, help="With cohorts: look at the newest so many.")
@json_option
@command_errors
def diff(
    a: str | None,
    b: str | None,
    bad: str | None,
    good: str | None,
    function: str | None,
    since: datetime | None,
    limit: int,
    as_json: bool,
) -> None:
    """Show how two executions differ, the difference that explains the rest first.

    A and B are executions as for `flux trace`. Without B, A is compared with the nearest success of its
    function. Ids, times and tokens that are new in every run are no difference.

    With --bad or --good, two cohorts are compared instead: what was asked or done in the one and not in the
    other, ranked. For example: flux trace diff --bad 'status >= 500' --function checkout --since 1h
    """
    from flux.cli.render.ansi import Screen

    screen = Screen.of(sys.stdout)
    if bad is not None or good is not None:
        if a is not None:
            raise click.UsageError("Name two executions, or cohorts by --bad and --good; not both.")
        from flux.expression import parse

        failing, passing = (None if text is None else parse(text) for text in (bad, good))
        found = run(_cohorts(failing, passing, function, since, limit))
        if as_json:
            print_json(found)
            return
        from flux.cli.render.diff import cohorts

        screen.print(*cohorts(found, bad or f"not ({good})", good or f"not ({bad})", screen.width))
        return
    if a is None:
        raise click.UsageError("Name an execution to compare with its nearest success, or two.")
    compared = run(_diff(a, b))
    if as_json:
        print_json(compared)
        return
    from flux.cli.render.diff import page

    screen.print(*page(compared, screen.width, datetime.now().astimezone()))


@trace.command()
@click.argument("execution", default="last")
@click.option("--at", type=click.IntRange(min=1), metavar="N", help="Print step N, from 1, and end.")
@json_option
@command_errors
def debug(execution: str, at: int | None, as_json: bool) -> None:
    """Step through what one execution did: its code, calls, rows and logs.

    EXECUTION is one as for `flux trace`. On a terminal this is a program: → and ← step, ? shows the keys,
    q quits. Nothing runs again: it shows what was recorded.
    """
    if at is not None:
        steps = run(_steps(execution))
        step = steps.at(at)
        if as_json:
            print_json(step)
            return
        from flux.cli.render.ansi import Screen
        from flux.cli.render.step import page

        screen = Screen.of(sys.stdout)
        screen.print(*page(steps.document, step, screen.width, datetime.now().astimezone()))
        return
    if as_json:
        raise click.UsageError("Say which step is to be printed: --at N, from 1.")
    if not all(stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr)):
        raise click.UsageError("This is not a terminal. Print one step: --at N, from 1.")
    from flux.cli.debugger import step_through

    run(step_through(execution))


async def _steps(execution: str) -> Steps:
    from flux.cli.project import reader

    async with reader() as record:
        return await record.steps(execution)


async def _trace(execution: str) -> Trace:
    from flux.cli.project import reader

    async with reader() as record:
        return await record.trace(execution)


async def _diff(a: str, b: str | None) -> Diff:
    from flux.cli.project import reader

    async with reader() as record:
        return await record.diff(a, b)


async def _cohorts(
    bad: Expression | None, good: Expression | None, function: str | None, since: datetime | None, limit: int
) -> Cohorts:
    from flux.cli.project import reader

    async with reader() as record:
        return await record.cohorts(bad=bad, good=good, function=function, since=since, limit=limit)
