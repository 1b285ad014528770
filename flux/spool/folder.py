"""A spool's folder: made, identified, claimed by flock, deleted.

The writer uses it for its own, the drain for orphans. A copied spool must not be drained: its
records may belong to another process that still writes. `meta.json` names the inode of `lock`,
which a copy does not share. Such a folder is left alone and named by `status`, until somebody who
knows that the original is gone has it adopted.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from flux.errors import SpoolError
from flux.spool.frames import DRAINED, LOCK, META

FORMAT = 1
_GONE = ".gone-"


class Meta(msgspec.Struct):
    """What meta.json says of a spool: who writes it, where, since when."""

    node: str
    host: str
    pid: int
    started_ns: int
    inode: int
    machine: str = ""
    boot: str = ""
    durability: Literal["spool", "fsync", "postgres"] = "spool"
    version: int = FORMAT


@dataclass
class Claim:
    """A held lock on a spool's folder. The holder alone may write it, or drain it to its end."""

    folder: Path
    meta: Meta
    lock: int

    def release(self) -> None:
        """Let go of the lock. Idempotent."""
        if self.lock >= 0:
            os.close(self.lock)
            self.lock = -1

    def delete(self) -> None:
        """Remove the folder, under a name that nobody looks at first, and let go."""
        gone = self.folder.with_name(f"{_GONE}{self.folder.name}-{secrets.token_hex(4)}")
        self.folder.rename(gone)
        shutil.rmtree(gone)
        self.release()


def create(
    parent: Path, node: str, *, now_ns: int, durability: Literal["spool", "fsync", "postgres"]
) -> Claim:
    """Make the folder of a new spool, locked from the first moment that others can see it.

    Raises:
        SpoolError: it can't be written, or there is one of that name.
    """
    made = parent / f".new-{node}"
    try:
        parent.mkdir(parents=True, exist_ok=True)
        made.mkdir(mode=0o700)
        meta = Meta(
            node=node,
            host=socket.gethostname(),
            pid=os.getpid(),
            started_ns=now_ns,
            inode=0,
            machine=_line("/etc/machine-id"),
            boot=_line("/proc/sys/kernel/random/boot_id"),
            durability=durability,
        )
        lock = _lock(made, meta)
        made.rename(parent / node)
    except OSError as error:
        raise SpoolError(
            f"The spool in {parent} can't be made: {error.strerror}.", "See who owns the folder."
        ) from error
    return Claim(parent / node, meta, lock)


def restore(held: Claim) -> None:
    """Make the folder of a spool anew that was deleted, or moved away, under its holder.

    What of it is still there stays. Where its lock is in its place, nothing is done.

    Raises:
        OSError: it can't be made.
    """
    folder = held.folder
    try:
        if (folder / LOCK).stat().st_ino == held.meta.inode and os.fstat(held.lock).st_nlink:
            return
    except FileNotFoundError:
        pass
    before = held.lock
    if folder.exists():
        held.lock = _lock(folder, held.meta)
    else:
        made = folder.with_name(f".new-{folder.name}")
        shutil.rmtree(made, ignore_errors=True)
        made.mkdir(mode=0o700, parents=True)
        held.lock = _lock(made, held.meta)
        made.rename(folder)
    os.close(before)


def _lock(folder: Path, meta: Meta) -> int:
    """Make a folder's lock, held from its first moment, and its meta.json, which names it."""
    made = folder / f"{LOCK}.new"
    lock = os.open(made, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        meta.inode = os.fstat(lock).st_ino
        (folder / META).write_bytes(_written(meta))
        made.rename(folder / LOCK)
    except OSError:
        os.close(lock)
        raise
    return lock


def read_meta(folder: Path) -> Meta:
    """What is known of a spool.

    Raises:
        SpoolError: meta.json is missing or not understood.
    """
    try:
        meta = msgspec.json.decode((folder / META).read_bytes(), type=Meta)
    except (OSError, msgspec.DecodeError) as error:
        raise SpoolError(f"{folder / META}: {error}") from error
    if meta.version != FORMAT:
        raise SpoolError(f"{folder}: spool format {meta.version}; this version of Flux reads {FORMAT}.")
    return meta


def claim(folder: Path) -> Claim | None:
    """Lock a spool whose owner is gone; None while it is held by someone, or where the folder has just gone.

    Raises:
        SpoolError: the folder is no spool that may be drained: a copy, unreadable, or of another format.
    """
    try:
        lock = os.open(folder / LOCK, os.O_RDWR)
    except FileNotFoundError:
        if folder.exists():
            raise SpoolError(f"{folder} has no lock file: it is no spool.") from None
        return None
    except OSError as error:
        raise SpoolError(f"{folder / LOCK}: {error.strerror}.") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        status = os.fstat(lock)
        if (folder / LOCK).stat().st_ino != status.st_ino:
            raise FileNotFoundError
        meta = read_meta(folder)
        if meta.inode != status.st_ino or meta.node != folder.name:
            raise SpoolError(
                f"{folder} is a copy of spool {meta.node}: its records may be another server's, so it "
                f"is not drained.",
                way_out(folder),
            )
    except (BlockingIOError, FileNotFoundError):
        os.close(lock)
        return None
    except SpoolError:
        os.close(lock)
        raise
    return Claim(folder, meta, lock)


def verify(folder: Path) -> Meta:
    """See that a spool stands where it was written, without locking it.

    Raises:
        SpoolError: it is a copy, unreadable, or of another format.
    """
    meta = read_meta(folder)
    try:
        inode = (folder / LOCK).stat().st_ino
    except OSError as error:
        raise SpoolError(f"{folder / LOCK}: {error.strerror}.") from error
    if meta.node != folder.name or meta.inode != inode:
        raise SpoolError(f"{folder} is a copy of spool {meta.node}.", way_out(folder))
    return meta


def way_out(folder: Path) -> str:
    """What to do about a copy."""
    return (
        "Delete it if the original exists: that one is drained where it was written. If that is gone (a new "
        f"disk, a restored backup): flux doctor --adopt {folder}"
    )


def adopt(folder: Path) -> Path:
    """Take a copy for the original, which is gone: from now on whoever comes may drain it. Where it lies
    then: under the original's name.

    Raises:
        SpoolError: it is no copy, or in use, or the original lies beside it, or it can't be read.
    """
    meta = read_meta(folder)
    original = folder.with_name(meta.node)
    try:
        lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise SpoolError(f"{folder / LOCK}: {error.strerror}.") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        inode = os.fstat(lock).st_ino
        if folder == original and meta.inode == inode:
            raise SpoolError(f"{folder} is no copy.", "It is drained by itself: flux tail --no-follow")
        if folder != original and original.exists():
            raise SpoolError(
                f"{folder} is a copy of {original}, which is there.", "That one is drained; delete the copy."
            )
        changed = folder / f"{META}.new"
        changed.write_bytes(_written(msgspec.structs.replace(meta, inode=inode)))
        changed.replace(folder / META)
        folder.rename(original)
    except BlockingIOError as error:
        raise SpoolError(f"{folder} is in use.", "Stop the server that writes it.") from error
    except OSError as error:
        raise SpoolError(f"{folder} can't be adopted: {error.strerror}.") from error
    finally:
        os.close(lock)
    return original


def _written(meta: Meta) -> bytes:
    return msgspec.json.format(msgspec.json.encode(meta), indent=2)


def mark_drained(folder: Path) -> None:
    """Say that Postgres has all of a spool whose writer is gone, and others still read it."""
    (folder / DRAINED).touch(mode=0o600)


def retire(folder: Path) -> bool:
    """Delete a spool that everybody is through with; False where someone has it just now."""
    try:
        held = claim(folder)
    except SpoolError:
        return False
    if held is None:
        return False
    held.delete()
    return True


def spools(parent: Path) -> list[Path]:
    """The folders of all spools here, oldest first."""
    try:
        found = [entry for entry in parent.iterdir() if not entry.name.startswith(".") and entry.is_dir()]
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(found, key=_age)


def sweep(parent: Path) -> None:
    """Remove what is left of spools whose deletion was cut short."""
    for gone in parent.glob(f"{_GONE}*"):
        shutil.rmtree(gone, ignore_errors=True)


def _age(folder: Path) -> tuple[float, str]:
    try:
        return folder.joinpath(META).stat().st_mtime, folder.name
    except OSError:
        return 0.0, folder.name


def _line(path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""
