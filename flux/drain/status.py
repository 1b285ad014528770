"""How the recorder is doing: what waits on disk and for whom, what was refused. For doctor.

Looks at the spools themselves and asks Postgres where it can be asked; changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

import asyncpg

from flux.drain import state as drain_state
from flux.drain.batch import Q
from flux.drain.state import DrainState
from flux.errors import SpoolError
from flux.spool import folder as folders
from flux.spool.frames import DRAINED, LOCK, Place
from flux.spool.orphans import unlocked
from flux.spool.reader import SpoolReader
from flux.spool.waiting import Waiting, waiting, word

COUNTED = 64 * 2**20
"""Bytes up to which the records that wait are counted one by one."""


@dataclass(frozen=True)
class SpoolStatus:
    """One spool.

    Attributes:
        node: its id. pid: its writer's.
        held: `writer` while somebody has it locked (its writer, or who drains what that one left), else
            `nobody`: an orphan, drained by whoever comes next.
        waiting: what lies in it.
        lag: records in it that Postgres does not have; None where those are too many to count.
        drain: what its drain last said of itself.
        problem: why it is not drained though it should be, or None. hint: what to do about it.
    """

    node: str
    pid: int | None
    held: Literal["writer", "nobody"]
    waiting: Waiting
    lag: int | None
    drain: DrainState | None
    problem: str | None = None
    hint: str | None = None

    @property
    def bytes(self) -> int:
        """On disk."""
        return self.waiting.bytes


@dataclass(frozen=True)
class Quarantine:
    """Records that Postgres refused: how many, and the newest one's time and reason."""

    count: int
    at: datetime | None = None
    reason: str | None = None


@dataclass(frozen=True)
class RecorderStatus:
    """All spools of a folder, and the quarantine of their database (None where it wasn't asked)."""

    spools: list[SpoolStatus]
    quarantine: Quarantine | None

    @property
    def bytes(self) -> int:
        """On disk, over all spools."""
        return sum(spool.bytes for spool in self.spools)

    @property
    def lag(self) -> int | None:
        """Records that Postgres does not have, over all spools."""
        counts = [spool.lag for spool in self.spools if spool.lag is not None]
        return sum(counts) if len(counts) == len(self.spools) else None


async def recorder_status(spool_dir: Path, connection: asyncpg.Connection | None) -> RecorderStatus:
    """Look at every spool in `spool_dir`, and at the quarantine.

    Args:
        spool_dir: `.flux/spool`.
        connection: to the record's database; None goes by what the drains left word of.
    """
    found = folders.spools(spool_dir)
    # Before Postgres is asked, which can then only be further.
    words = {folder.name: word(folder) for folder in found}
    stored: dict[str, tuple[Place, bool]] | None = None
    quarantine = None
    if connection is not None:
        rows = await connection.fetch(Q.undrained, list(words))
        stored = {row["spool_id"]: ((row["segment"], row["offset"]), row["finished"]) for row in rows}
        row = await connection.fetchrow(Q.quarantined)
        quarantine = None if row is None else Quarantine(row["count"], row["at"], row["reason"])
    return RecorderStatus([_status(folder, words[folder.name], stored) for folder in found], quarantine)


def _status(folder: Path, said: Place, stored: dict[str, tuple[Place, bool]] | None) -> SpoolStatus:
    place, finished = said, False
    if stored is not None:
        place, finished = stored.get(folder.name, ((0, 0), False))
    orphaned = unlocked(folder)
    finished = finished or (folder / DRAINED).exists()
    lies = waiting(folder, place)
    meta, problem, hint = _meta(folder)
    if finished and problem is None:
        if orphaned:
            lies, place = Waiting(lies.files, lies.bytes, 0, None), said
        else:
            problem = "Postgres calls it finished (a copy of it was drained), but its writer lives."
            hint = "Restart that server: it begins a new spool. Keep the folder; its last records are in it."
    if problem is None and not orphaned and place < said:
        problem = (
            "Postgres has less of it than its drain was told: the database was put back or lost commits."
        )
        hint = "Restore a newer backup of the database; what is gone from the spool is in no other place."
    return SpoolStatus(
        node=folder.name,
        pid=None if meta is None else meta.pid,
        held="nobody" if orphaned else "writer",
        waiting=lies,
        lag=0 if finished else _records_after(folder, place),
        drain=drain_state.read(folder),
        problem=problem,
        hint=hint,
    )


def _records_after(folder: Path, place: Place) -> int | None:
    reader = SpoolReader(folder, place)
    count = size = 0
    try:
        while found := reader.read():
            count += len(found)
            size += sum(len(record.data) for record in found)
            if size > COUNTED:
                return None
    finally:
        reader.close()
    return count


def _meta(folder: Path) -> tuple[folders.Meta | None, str | None, str | None]:
    """What the folder says it is; why it can't be drained, and what to do."""
    meta = None
    try:
        meta = folders.read_meta(folder)
        if meta.node == folder.name and (folder / LOCK).stat().st_ino == meta.inode:
            return meta, None, None
        problem = "It is a copy of another spool and is not drained."
        return meta, problem, folders.way_out(folder)
    except SpoolError as error:
        problem = error.message
    except OSError as error:
        problem = f"It can't be read: {error.strerror}."
    return meta, problem, f"Restore it, or move it away: {folder}"
