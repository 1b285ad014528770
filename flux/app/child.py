"""Keeps the sidecar running for as long as the server does: starts it, starts it again when it dies, lets
it end last.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from pathlib import Path

log = logging.getLogger("flux.app")

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0
FINAL_WAIT = 15.0


class Sidecar:
    """The supervised child process. `start`, then `close` when the spool has been closed."""

    def __init__(self, root: Path, node: str) -> None:
        self._arguments = (sys.executable, "-m", "flux.app.sidecar", str(root), node)
        self._process: asyncio.subprocess.Process | None = None
        self._task: asyncio.Task[None] | None = None
        self._closing = False
        self.restarts = 0
        """How often it had to be started again."""

    async def start(self) -> None:
        """Start it and its supervision."""
        self._process = await self._spawn()
        self._task = asyncio.create_task(self._supervise())

    async def _spawn(self) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *self._arguments, stdin=asyncio.subprocess.PIPE, start_new_session=True
        )

    async def _supervise(self) -> None:
        pause = FIRST_PAUSE
        while self._process is not None:
            code = await self._process.wait()
            if self._closing:
                return
            log.error("the sidecar ended with code %s; records wait in the spool; starting it again", code)
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)
            self._process = await self._spawn()
            self.restarts += 1

    @property
    def alive(self) -> bool:
        """Whether it runs now."""
        return self._process is not None and self._process.returncode is None

    async def close(self) -> None:
        """Let it drain what is left, then end; after FINAL_WAIT seconds it is killed (the next start goes
        on).
        """
        self._closing = True
        if self._process is None or self._task is None:
            return
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            await asyncio.wait_for(self._process.wait(), FINAL_WAIT)
        except TimeoutError:
            self._process.kill()
        await self._task
