"""`flux replay`: run again what was recorded, answered from the record, and compare.

Works with a server running and without: it starts guests of its own, and touches nothing but the record.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from flux.cli.output import command_errors, json_option, print_json, run
from flux.cli.project import project_config, reader
from flux.cli.since import since_option
from flux.errors import UsageError

if TYPE_CHECKING:
    from flux.shapes.replay import Replayed, Replays

Told = Callable[["Replayed"], None]


@click.command()
@click.argument("execution", required=False)
@since_option
@click.option("--function", metavar="NAME", help="With --since: only executions of this function.")
@click.option("--failed", is_flag=True, help="With --since: only those that did not end well.")
@json_option
@command_errors
def replay(
    execution: str | None, since: datetime | None, function: str | None, failed: bool, as_json: bool
) -> None:
    """Run a recorded execution again, exactly: its code, clock and random numbers, answered from the record.

    Says whether everything was as recorded, or the first thing that was not. Nothing outside is touched.
    EXECUTION is a request id or its first digits, a trace id, or `last`. --since replays a window's.

    Exit code 1 where anything differs.
    """
    if (execution is None) == (since is None):
        raise UsageError(
            "Say what to replay: one execution, or a window with --since.",
            "flux replay last, or flux replay --since 1h",
        )
    if execution is not None:
        if function is not None or failed:
            raise UsageError("--function and --failed go with --since.", "flux replay --since 1h --failed")
        _one(execution, as_json)
    else:
        assert since is not None
        _window(since, function, failed, as_json)


def _one(execution: str, as_json: bool) -> None:
    found = run(_replay_one(execution))
    if as_json:
        print_json(found)
    else:
        from flux.cli.render.ansi import Screen
        from flux.cli.render.replay import told

        screen = Screen.of(sys.stdout)
        screen.print(*told(found, screen.width))
    if found.divergence is not None:
        sys.exit(1)


def _window(since: datetime, function: str | None, failed: bool, as_json: bool) -> None:
    found = run(_replay_window(since, function, failed, quiet=as_json))
    if as_json:
        print_json(found)
    else:
        from flux.cli.render.ansi import Screen
        from flux.cli.render.replay import window

        screen = Screen.of(sys.stdout)
        screen.print(*window(found, screen.width))
    if found.diverged:
        sys.exit(1)


async def _replay_one(execution: str) -> Replayed:
    from flux.app.application import Application

    async with reader() as record:
        request_id = await record.resolve(execution)
    app = await Application.open(project_config(), jobs=False)
    try:
        return await app.replayer().one(request_id)
    finally:
        await app.close()


async def _replay_window(since: datetime, function: str | None, failed: bool, *, quiet: bool) -> Replays:
    from flux.app.application import Application

    until = datetime.now(UTC)
    async with reader() as record:  # what dead servers left comes in; what runs now is waited for
        await record.executions(limit=1)
    app = await Application.open(project_config(), jobs=False)
    try:
        with _progress(quiet=quiet) as (total, told):
            return await app.replayer().window(
                since, until, function=function, failed=failed, total=total, told=told
            )
    finally:
        await app.close()


@contextmanager
def _progress(*, quiet: bool) -> Iterator[tuple[Callable[[int], None], Told]]:
    """A bar on a terminal, nothing elsewhere."""
    if quiet or not sys.stderr.isatty():
        yield (lambda count: None), (lambda replayed: None)
        return
    with click.progressbar(length=1, label="Replaying", file=sys.stderr, show_pos=True) as bar:

        def total(count: int) -> None:
            bar.length = count

        yield total, lambda replayed: bar.update(1)
