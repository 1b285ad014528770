"""Private folders of guest processes: one per process, gone with it. Used by the pool.

Under `slots_dir` each engine has a folder of its own, locked (flock) as long as its server lives,
and in it one folder per process. A folder whose lock can be had belonged to a server that has died,
and its guests with it. It is cleared away.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

from flux.errors import RuntimeFault

WRITTEN = 315_532_800
"""When the files of a bundle were written, as they say: 1980, the least that archives know."""


LINK = "process"
"""The link, beside the engines' folders, to the working folder of whoever follows it."""


class Slots:
    """An engine's folder of slots; made (and leftovers removed) at once, removed by `close`.

    Args:
        root: where all engines of a project keep theirs.
        name: of this engine's folder, unique.
    """

    def __init__(self, root: Path, name: str) -> None:
        self.folder = root / name
        root.mkdir(parents=True, exist_ok=True)
        with _locked(root / ".lock"):
            _link(root / LINK)
            for other in root.iterdir():
                if other.is_dir() and not other.is_symlink() and _abandoned(other):
                    shutil.rmtree(other, ignore_errors=True)
            self.folder.mkdir(mode=0o755)
            self._lock = os.open(self.folder / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def make(self, name: str) -> Path:
        """A fresh folder for the process `name`."""
        slot = self.folder / name
        slot.mkdir()
        (slot / "bundle").mkdir()
        return slot

    def remove(self, slot: Path) -> None:
        """Remove a process's folder with all that is in it."""
        shutil.rmtree(slot, ignore_errors=True)

    def close(self) -> None:
        """Remove the engine's folder. Idempotent."""
        if self._lock >= 0:
            shutil.rmtree(self.folder, ignore_errors=True)
            os.close(self._lock)
            self._lock = -1


def place(files: Mapping[str, bytes], bundle: Path) -> None:
    """Write a deployment's files into `bundle`, each with the same time.

    Raises:
        RuntimeFault: a path leads out of the folder.
    """
    for name, content in files.items():
        parts = PurePosixPath(name)
        if parts.is_absolute() or ".." in parts.parts or not parts.parts:
            raise RuntimeFault(f"A deployment holds a file outside its bundle: {name!r}.")
        path = bundle / parts
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        os.utime(path, (WRITTEN, WRITTEN))
    for folder, _, _ in os.walk(bundle):
        os.utime(folder, (WRITTEN, WRITTEN))


def seen(slot: Path) -> str:
    """A slot's folder as the code in it sees it: the same path for every process, whose working folder it is.

    Linux alone knows a link that leads each process to its own; elsewhere it is the slot's path.
    """
    link = slot.parent.parent / LINK
    return str(link) if link.is_symlink() else str(slot)


def _link(path: Path) -> None:
    if sys.platform == "linux" and not path.is_symlink():
        with contextlib.suppress(OSError):
            path.symlink_to("/proc/self/cwd")


def _abandoned(folder: Path) -> bool:
    try:
        descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
