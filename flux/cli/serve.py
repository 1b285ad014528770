"""`flux serve` and `flux dev`: run the server."""

from __future__ import annotations

import logging
import sys

import click
import uvloop

from flux.address import is_local
from flux.app.server import serve as run_server
from flux.cli.output import command_errors
from flux.cli.project import project_config
from flux.cli.render.safe import safe
from flux.cli.serving import Printer
from flux.config import Config
from flux.errors import UsageError


@click.command()
@click.option("--port", type=click.IntRange(0, 65535), help="Port to listen on (4000).")
@click.option("--host", help="Address to listen on (127.0.0.1).")
@command_errors
def serve(port: int | None, host: str | None) -> None:
    """Serve the functions of this project."""
    config = project_config(port=port, host=host)
    _only_loopback(config, "serve")
    _run(config, Printer("flux serve", requests=False))


@click.command()
@click.option("--port", type=click.IntRange(0, 65535), help="Port to listen on (4000).")
@click.option("--host", help="Address to listen on (127.0.0.1).")
@click.option("--quiet", is_flag=True, help="Don't print a line for each request.")
@command_errors
def dev(port: int | None, host: str | None, quiet: bool) -> None:
    """Serve this project while you write it: reloads on a change, applies new schema files, shows errors."""
    config = project_config(port=port, host=host, dev=True)
    _only_loopback(config, "dev")
    _run(config, Printer("flux dev", requests=not quiet))


def _only_loopback(config: Config, command: str) -> None:
    if not is_local(config.host):
        raise UsageError(
            f"`flux {command}` listens on loopback only, not on {config.host}: there are no API keys yet.",
            "Put a reverse proxy in front, or leave --host out.",
        )


def _run(config: Config, printer: Printer) -> None:
    if sys.platform == "win32":
        raise UsageError("Flux does not run on native Windows.", "Use WSL.")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Safe("  %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("flux.guest").setLevel(logging.INFO)
    # What a client writes into a header is no news, least of all a thousand times a second.
    logging.getLogger("opentelemetry.trace").setLevel(logging.ERROR)
    uvloop.run(run_server(config, printer))


class _Safe(logging.Formatter):
    """What a guest has printed is in it: nothing of that may act on the terminal."""

    def format(self, record: logging.LogRecord) -> str:
        return "\n".join(safe(line) for line in super().format(record).split("\n"))
