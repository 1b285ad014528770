"""Drains what servers that died left in their spools, so that a command sees what a crash left.

Imported by the CLI only where there is such a spool: the drain costs more to import than most commands take.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flux.config import Config
from flux.drain.drain import Drain


async def drain_leftovers(connect_args: Mapping[str, Any], config: Config) -> None:
    """Drain every spool of the project whose owner is gone.

    Args:
        connect_args: for asyncpg.connect, as a role that may write flux.*.
        config: names the folder of spools.
    """
    drain = Drain(connect_args, config.spool_dir, own=None)
    try:
        await drain.once()
    finally:
        await drain.close()
