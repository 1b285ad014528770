"""What a CLI command reads through: the project's Postgres, records that a dead server left behind
included.
"""

from __future__ import annotations

from flux.config import Config
from flux.query.reader import Reader
from flux.recorder.drain import Drain
from flux.store.database import Store


async def open_reader(config: Config) -> Reader:
    """A Reader on the project's database; starts the embedded Postgres where nobody runs it.

    Spools whose owner died are drained first, so that what a crash left is seen.

    Raises:
        StoreError: Postgres can't be had.
    """
    store = await Store.open(config, application_name="flux cli", pool_size=2)
    if config.spool_dir.is_dir() and any(config.spool_dir.iterdir()):
        drain = Drain(store.connect_args, config.spool_dir, own=None)
        await drain.once()
        await drain.close()
    return Reader(store, spool_dir=config.spool_dir)
