"""Processes that run `scripted_guest.py`, confined as any guest is but for what they may read."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from flux.runtime.process import GuestProcess
from flux.runtime.spawner import Order, Spawner

PYTHON = os.path.realpath(sys.executable)
GUEST = Path(__file__).with_name("scripted_guest.py")


def order(*argv: str) -> Order:
    """Of a process that may read everything: the scripted guest by default."""
    return Order(cwd="/", argv=argv or [sys.executable, "-S", str(GUEST)], read=["/", PYTHON], execute=["/"])


async def start(
    *arguments: str, lines: list[str] | None = None, timeout: float = 10, name: str = "scripted-1"
) -> GuestProcess:
    """A booted process; what makes it ends with it."""
    spawner = Spawner()
    try:
        process = await GuestProcess.start(
            spawner,
            order(sys.executable, "-S", str(GUEST), *arguments),
            name=name,
            on_line=[].append if lines is None else lines.append,
            timeout=timeout,
        )
    except BaseException:
        spawner.close()
        raise
    assert process._reaper is not None
    process._reaper.add_done_callback(lambda ended: spawner.close())
    return process
