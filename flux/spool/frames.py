"""The spool's files: where they lie and how a record stands in them. Writer, reader and drain share
it.

`.flux/spool/<node id>/` holds `lock` (flocked by the owner), `meta.json`, `position` (how far
Postgres has it, for the writer's eyes), `reserve` (room for running executions), segments
`<n>.seg`, and `drained` once Postgres has all of a spool whose writer is gone. A frame is `u32be
magic | u32be length | u32be crc32 | msgpack of one Event`.
"""

from __future__ import annotations

import struct
from pathlib import Path
from zlib import crc32

MAGIC = 0xF10C5EC0
MAGIC_BYTES = MAGIC.to_bytes(4, "big")
HEAD = struct.Struct(">III")
LARGEST = 512 * 2**20
"""Longest record in bytes: more in a length field is damage."""

LOCK, META, POSITION, RESERVED, DRAINED = "lock", "meta.json", "position", "reserve", "drained"
POSITION_FORMAT = struct.Struct(">QQ")
"""The position file: segment, offset."""

Place = tuple[int, int]
"""A segment's number and an offset in it. Places of one spool are ordered as its records are."""


def frame(data: bytes) -> bytes:
    """`data` as it stands in a segment."""
    return b"".join((HEAD.pack(MAGIC, len(data), crc32(data)), data))


def segment_path(folder: Path, number: int) -> Path:
    """The file of a segment."""
    return folder / f"{number:08d}.seg"


def segments(folder: Path) -> list[int]:
    """The numbers of the segments there are, ascending. A folder that is gone has none."""
    try:
        return sorted(
            int(name.stem) for name in folder.iterdir() if name.suffix == ".seg" and name.stem.isdigit()
        )
    except FileNotFoundError:
        return []
