"""The command line: `flux <command>`. Commands are imported when they are run, so that `flux --help` answers
at once.

`main` is the entry point of the installed `flux` program.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NamedTuple

import click


class Lazy(NamedTuple):
    """A command that is not imported yet: where it is, and what `--help` says of it."""

    target: str
    help: str


COMMANDS: dict[str, Lazy] = {
    "init": Lazy("flux.cli.init:init", "Make a new project."),
    "dev": Lazy("flux.cli.serve:dev", "Serve this project while you write it: reloads on a change."),
    "serve": Lazy("flux.cli.serve:serve", "Serve this project."),
    "invoke": Lazy("flux.cli.invoke:invoke", "Run one function once."),
    "tail": Lazy("flux.cli.tail:tail", "Follow executions as they happen."),
    "logs": Lazy("flux.cli.logs:logs", "Show what functions logged."),
    "trace": Lazy("flux.cli.trace:trace", "Show exactly what one execution did."),
    "replay": Lazy("flux.cli.replay:replay", "Run a recorded execution again, exactly, and compare."),
    "why": Lazy("flux.cli.why:why", "Explain why an execution failed."),
    "state": Lazy("flux.cli.state:state", "Ask who changed a row, and when: history, blame."),
    "db": Lazy("flux.cli.db:db", "The project's database: push, url, shell."),
    "query": Lazy("flux.cli.query:query", "Run SQL over the record, read-only."),
    "doctor": Lazy("flux.cli.doctor:doctor", "Check that everything Flux needs is there."),
}


class LazyGroup(click.Group):
    """A group whose commands are named here and live elsewhere."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names, in the order in which a newcomer needs them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command itself, imported now."""
        lazy = COMMANDS.get(cmd_name)
        if lazy is None:
            return None
        module, _, attribute = lazy.target.partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list in `--help`, without importing anything."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, lazy.help) for name, lazy in COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, but a misspelt command is told its neighbour."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            import difflib

            close = difflib.get_close_matches(args[0], COMMANDS, n=1)
            hint = f" Did you mean `{close[0]}`?" if close else " See `flux --help`."
            raise click.UsageError(f"There is no command `{args[0]}`.{hint}", ctx)
        return super().resolve_command(ctx, args)


def _show_version(ctx: click.Context, _option: click.Parameter, asked: bool) -> None:
    if asked and not ctx.resilient_parsing:
        from flux import __version__

        click.echo(f"flux {__version__}")
        ctx.exit()


@click.group(
    cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.option(
    "--version",
    is_flag=True,
    callback=_show_version,
    expose_value=False,
    is_eager=True,
    help="Show the version.",
)
def cli() -> None:
    """The backend framework where every execution is a record."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and end the process with its exit code: 0 fine, 1 a finding or a failure, 2 wrong
    usage.
    """
    from flux.cli.output import guarded

    given = list(sys.argv[1:] if arguments is None else arguments)
    with guarded(as_json="--json" in given):
        code = cli.main(given, prog_name="flux", standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
