"""Takes a restored copy of a spool for the original. Called by `flux doctor --adopt` alone.

A person says that the original is gone; nothing does this by itself. What Postgres has stays as it
is. The copy goes by the original's name, so the drain goes on at the original's place. If the
original was drained to its end, nothing is stored.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from flux.app import watch
from flux.app.watch import Q
from flux.config import Config
from flux.drain.drain import POLL, Drain
from flux.errors import SpoolError, UsageError
from flux.spool import folder as folders
from flux.spool.frames import DRAINED
from flux.store.database import Store


async def adopt(config: Config, name: str) -> dict[str, Any]:
    """Drain a copied spool to its end, and delete it.

    Args:
        name: the copy's folder, or its name in `.flux/spool`.

    Returns:
        `{spool, stored}`: its id, and how many records Postgres did not have.

    Raises:
        UsageError: there is no such spool here, or it is no copy.
        SpoolError: it may not be adopted now: its writer is heard of, or the original lies beside it.
        StoreError: Postgres can't be had. As Drain.once: it was lost on the way; the next drain goes on.
    """
    folder = _find(config, name)
    node = folders.read_meta(folder).node
    async with await Store.open(
        config, application_name="flux doctor", pool_size=1, functions=False
    ) as store:
        async with store.internal() as connection:
            for row in await connection.fetch(Q.nodes, watch.SILENT):
                if row["id"] == node and row["silent"] is None:
                    raise SpoolError(
                        f"The server that writes spool {node} runs: pid {row['pid']} on {row['host']}.",
                        f"Stop it first. If it has just ended: try again in {watch.SILENT:.0f} s.",
                    )
            before = await connection.fetchval(Q.drained_records, node)
        await _drain(store, folders.adopt(folder))
        async with store.internal() as connection:
            stored = await connection.fetchval(Q.drained_records, node) - before
    return {"spool": node, "stored": stored}


async def _drain(store: Store, folder: Path) -> None:
    """Drain a spool to its end, or wait until the server that runs here has."""
    drain = Drain(store.connect_args, folder.parent, own=None)
    try:
        await drain.once()
        while folder.exists() and not (folder / DRAINED).exists():
            await asyncio.sleep(POLL)
            await drain.once()
    finally:
        await drain.close()


def _find(config: Config, name: str) -> Path:
    """The folder that is meant, which must be a spool of this project."""
    for folder in (Path(name), config.spool_dir / name):
        if folder.resolve().parent == config.spool_dir.resolve() and folder.is_dir():
            return folder.resolve()
    raise UsageError(f"{name} is no folder in {config.spool_dir}.", "Put the copy there first, and name it.")
