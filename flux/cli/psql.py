"""psql on the project's database, for `flux db shell`."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

from flux.errors import FluxError, StoreError
from flux.store.binaries import locate


def run_psql(url: str, arguments: Sequence[str]) -> int:
    """Run psql to its end; its exit code. Ctrl-C is psql's: it cancels a statement.

    Raises:
        FluxError: there is no psql.
    """
    address, password = _apart(url)
    environment = dict(os.environ)
    if password is not None:
        # On the command line every account of the machine would see it.
        environment["PGPASSWORD"] = password
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        return subprocess.run(
            [find_psql(), *arguments, "--", address], env=environment, check=False
        ).returncode
    finally:
        signal.signal(signal.SIGINT, before)


def find_psql() -> str:
    """The psql on the PATH, which edits lines; else the one beside the embedded Postgres."""
    found = shutil.which("psql")
    if found is not None:
        return found
    try:
        beside: Path | None = locate() / "psql"
    except StoreError:
        beside = None
    if beside is None or not os.access(beside, os.X_OK):
        raise FluxError(
            "There is no psql on the PATH, and none beside Flux's Postgres.",
            'Install it (Debian: postgresql-client), or ask with: flux query "select ..."',
        )
    return str(beside)


def _apart(url: str) -> tuple[str, str | None]:
    """A URL without its password, and that."""
    parts = urlsplit(url)
    if parts.password is None:
        return url, None
    user, _, host = parts.netloc.rpartition("@")
    netloc = f"{user.partition(':')[0]}@{host}"
    return urlunsplit(parts._replace(netloc=netloc)), unquote(parts.password)
