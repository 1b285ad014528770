"""How the recorder is doing: what waits on disk, what was refused. For doctor and metrics."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import asyncpg

from flux.errors import SpoolError
from flux.recorder import folder as folders
from flux.recorder.batch import Q
from flux.recorder.frames import Place, segment_path, segments
from flux.recorder.reader import SpoolReader


@dataclass(frozen=True)
class SpoolStatus:
    """One spool.

    Attributes:
        node: its id. bytes: on disk.
        lag: records in it that Postgres does not have.
        problem: why it is not drained, or None.
    """

    node: str
    bytes: int
    lag: int
    problem: str | None


@dataclass(frozen=True)
class RecorderStatus:
    """All spools of a folder, and the quarantine of their database (None where it wasn't asked)."""

    spools: list[SpoolStatus]
    quarantined: int | None

    @property
    def bytes(self) -> int:
        """On disk, over all spools."""
        return sum(spool.bytes for spool in self.spools)

    @property
    def lag(self) -> int:
        """Records that Postgres does not have, over all spools."""
        return sum(spool.lag for spool in self.spools)


async def recorder_status(spool_dir: Path, connection: asyncpg.Connection | None) -> RecorderStatus:
    """Look at every spool in `spool_dir`, and at the quarantine. Changes nothing.

    Args:
        spool_dir: `.flux/spool`.
        connection: to the record's database; None counts every record as not drained.
    """
    found = folders.spools(spool_dir)
    positions: dict[str, tuple[Place, bool]] = {}
    quarantined = None
    if connection is not None:
        rows = await connection.fetch(Q.undrained, [folder.name for folder in found])
        positions = {row["spool_id"]: ((row["segment"], row["offset"]), row["finished"]) for row in rows}
        quarantined = await connection.fetchval(Q.quarantined)
    return RecorderStatus(
        [_status(folder, *positions.get(folder.name, ((0, 0), False))) for folder in found], quarantined
    )


def _status(folder: Path, place: Place, finished: bool) -> SpoolStatus:
    size = 0
    for number in segments(folder):
        try:
            size += segment_path(folder, number).stat().st_size
        except FileNotFoundError:
            continue
    return SpoolStatus(folder.name, size, 0 if finished else _records_after(folder, place), _problem(folder))


def _records_after(folder: Path, place: Place) -> int:
    reader = SpoolReader(folder, place)
    count = 0
    try:
        while found := reader.read():
            count += len(found)
    finally:
        reader.close()
    return count


def _problem(folder: Path) -> str | None:
    try:
        meta = folders.read_meta(folder)
        if meta.node != folder.name or (folder / "lock").stat().st_ino != meta.inode:
            return "It is a copy of another spool and is not drained."
    except SpoolError as error:
        return error.message
    except OSError as error:
        return f"It can't be read: {error.strerror}."
    return None
