"""The processes below a server, as the kernel tells of them."""

from __future__ import annotations

import contextlib
from pathlib import Path

from tests.acceptance.conftest import Server


def children(pid: int) -> list[int]:
    """The living and unburied children of a process; none where it has gone."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def guests(server: Server) -> list[int]:
    """The server's guests: children of its spawners."""
    return [
        guest
        for spawner in children(server.process.pid)
        if "/confine/" in Path(f"/proc/{spawner}/cmdline").read_text()
        for guest in children(spawner)
    ]
