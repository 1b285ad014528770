"""Where the project's database is, for programs that are not Flux: psql, an exporter, a dump."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from flux.config import Config
from flux.store import embedded
from flux.store.database import Store


@dataclass(frozen=True, slots=True)
class Held:
    """A database that is there for as long as it is held.

    Attributes:
        url: its URL, as its owner; psql, asyncpg and libpq read it. It holds the password where there is one.
        stays: whether somebody else keeps it running as well.
    """

    url: str
    stays: bool


@contextmanager
def held(config: Config) -> Iterator[Held]:
    """The project's database, held: the embedded one is started where nobody runs it, and migrated then.

    Raises:
        StoreError: it can't be started.
    """
    if config.database_url is not None:
        yield Held(config.database_url, stays=True)
        return
    stays = embedded.is_running(config.flux_dir)
    given = config.environment.get("FLUX_POSTGRES_BIN")
    with embedded.acquire(config.flux_dir, binaries=Path(given) if given else None) as lease:
        if not stays:
            asyncio.run(_migrate(config))
        yield Held(url(lease.connect_args), stays)


def url(address: dict[str, Any]) -> str:
    """A lease's address as a URL: `postgresql://user@/database?host=<folder of the socket>`."""
    where = urlencode({"host": address["host"], "port": address["port"]}, safe="/")
    return f"postgresql://{quote(address['user'], safe='')}@/{quote(address['database'], safe='')}?{where}"


async def _migrate(config: Config) -> None:
    """An exporter that comes first would make tables that stand in Flux's way."""
    await (await Store.open(config, application_name="flux cli", pool_size=1, functions=False)).close()
