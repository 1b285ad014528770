"""The project that a command runs in, and the record it reads. The one place where the CLI opens anything."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flux.config import Config, find_root, load
from flux.errors import UsageError

if TYPE_CHECKING:
    from flux.query.reader import Reader


def project_config(**given: Any) -> Config:
    """The configuration of the project at or above the working folder.

    Args:
        given: keys from the command line; None means not given.

    Raises:
        UsageError: there is none.
        ConfigError: its flux.toml or the environment is wrong.
    """
    here = Path.cwd()
    root = find_root(here)
    if root is None and (here / "functions").is_dir():
        root = here
    if root is None:
        raise UsageError(
            f"{here} is not in a Flux project: no flux.toml here or above.", "Make one: flux init my-app"
        )
    return load(root, **given)


@asynccontextmanager
async def reader() -> AsyncIterator[Reader]:
    """A Reader of the project's record for the length of one command."""
    from flux.app.reader import Recover, open_reader
    from flux.spool.orphans import any_orphan

    config = project_config()
    recover: Recover | None = None
    if any_orphan(config.spool_dir):
        from flux.app.leftovers import drain_leftovers

        recover = drain_leftovers
    opened = await open_reader(config, recover=recover)
    try:
        yield opened
    finally:
        await opened.close()
