"""What a CLI command reads through: the project's Postgres, with what a dead server left behind."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from flux.config import Config
from flux.query.reader import Reader
from flux.store.database import Store

Recover = Callable[[Mapping[str, Any], Config], Awaitable[None]]
"""Brings into Postgres what dead servers left: connect arguments of the owner, and the project."""


async def open_reader(config: Config, *, recover: Recover | None = None) -> Reader:
    """A Reader on the project's database; starts the embedded Postgres where nobody runs it.

    Args:
        config: the project.
        recover: run before anything is read; None where no spool lost its owner.

    Raises:
        StoreError: Postgres can't be had.
    """
    store = await Store.open(config, application_name="flux cli", pool_size=1, functions=False)
    try:
        if recover is not None:
            await recover(store.connect_args, config)
    except BaseException:
        await store.close()
        raise
    return Reader(store, spool_dir=config.spool_dir, redact_columns=config.redact_columns)
