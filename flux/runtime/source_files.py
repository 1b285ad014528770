"""The files of a function's source: which of a folder's files belong to it. Used by discovery and by bundles.

Left out: names that begin with a dot, `__pycache__`, `node_modules`, compiled Python and editors' backup
files. A symbolic link counts as what it points to, and may point only to what lies in the functions folder.
"""

from __future__ import annotations

import os
from pathlib import Path

from flux.errors import ConfigError

LARGEST_FILE = 16 * 2**20
LARGEST_BUNDLE = 64 * 2**20
_LEFT_OUT = frozenset({"__pycache__", "node_modules"})
_LEFT_OUT_ENDINGS = (".pyc", ".pyo", "~", ".swp")


def is_left_out(name: str) -> bool:
    """Whether a file or folder of that name is never part of a function."""
    return name.startswith(".") or name in _LEFT_OUT or name.endswith(_LEFT_OUT_ENDINGS)


def walk(folder: Path, within: Path) -> list[str]:
    """The path of every file of `folder`, sorted, each beginning with `folder` as it was given.

    Args:
        folder: a function's folder or a shared one.
        within: the functions folder; no symbolic link may lead out of it.

    Raises:
        ConfigError: a link that leads out of `within`, to nothing or in a circle; a name that is not UTF-8; a
            file that is too large or can't be read.
    """
    found: list[str] = []
    if folder.is_symlink():
        _check_link(folder, within)
    try:
        _walk(str(folder), within, (str(folder),), found)
    except OSError as error:
        raise ConfigError(f"{error.filename or folder} can't be read: {error.strerror}.") from error
    found.sort()
    return found


def _walk(folder: str, within: Path, above: tuple[str, ...], found: list[str]) -> None:
    """Add the files of `folder`; `above` are the folders that a link in it may not lead to."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if is_left_out(entry.name):
                continue
            if not entry.name.isprintable():
                raise ConfigError(f"{folder}: the name {entry.name!r} is not printable UTF-8.", "Rename it.")
            inner = above
            if entry.is_symlink():
                real = _check_link(Path(entry.path), within)
                if entry.is_dir():
                    if real in map(os.path.realpath, above):
                        raise ConfigError(
                            f"{entry.path} is a link to a folder that it lies in.", "Remove the link."
                        )
                    inner = (*above, real)
            if entry.is_dir():
                _walk(entry.path, within, inner, found)
            elif entry.is_file():
                size = entry.stat().st_size
                if size > LARGEST_FILE:
                    raise ConfigError(
                        f"{entry.path} has {size / 2**20:.1f} MiB; a file may have {LARGEST_FILE // 2**20}.",
                        "Keep large data in the database, or fetch it.",
                    )
                found.append(entry.path)


def _check_link(link: Path, within: Path) -> str:
    real, boundary = os.path.realpath(link), os.path.realpath(within)
    if real != boundary and not real.startswith(boundary + os.sep):
        raise ConfigError(
            f"{link} is a link that leads out of the functions folder, to {real}.", "Copy it in instead."
        )
    if not os.path.exists(real):
        raise ConfigError(f"{link} is a link to {real}, which does not exist.", "Remove the link.")
    return real
