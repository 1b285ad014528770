"""Keeps a child process running for as long as the server does.

It starts the child, starts it again when it dies, and lets it end last.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from flux.drain.state import SILENT, DrainState

log = logging.getLogger("flux.app")

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0


class Child:
    """A supervised child process whose stdin is a pipe from here. `start`, then `close`.

    Args:
        module: what it runs, with the project's folder and the node's id as arguments.
        root: the project's folder. node: this process's.
        name: what it is called when it died.
        final_wait: seconds that it may take to end before it is killed.
        environment: variables that it finds set, unless they are.
    """

    def __init__(
        self,
        module: str,
        root: Path,
        node: str,
        *,
        name: str,
        final_wait: float,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._arguments = (sys.executable, "-m", module, str(root), node)
        self._environment = environment or {}
        self._name = name
        self._final_wait = final_wait
        self._process: asyncio.subprocess.Process | None = None
        self._task: asyncio.Task[None] | None = None
        self._closing = False
        self._spawned = 0.0
        self.restarts = 0
        """How often it had to be started again."""

    async def start(self) -> None:
        """Start it and its supervision."""
        self._process = await self._spawn()
        self._task = asyncio.create_task(self._supervise())

    async def _spawn(self) -> asyncio.subprocess.Process:
        self._spawned = time.monotonic()
        return await asyncio.create_subprocess_exec(
            *self._arguments,
            stdin=asyncio.subprocess.PIPE,
            start_new_session=True,
            env={**self._environment, **os.environ},
        )

    async def _supervise(self) -> None:
        pause = FIRST_PAUSE
        while self._process is not None:
            code = await self._process.wait()
            if self._closing:
                return
            log.error("%s ended with code %s; the spool waits; starting it again", self._name, code)
            await asyncio.sleep(pause)
            if self._closing:
                return
            pause = min(pause * 2, LONGEST_PAUSE)
            self._process = await self._spawn()
            if self._closing:
                self._release()
            self.restarts += 1

    @property
    def _pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it runs now."""
        return self._process is not None and self._process.returncode is None

    def works(self, said: DrainState | None) -> bool:
        """Whether it runs, and is not stopped or hung: it says so every second.

        Args:
            said: its last words; None where it has not come to say any: it has just been started, or starts.
        """
        if not self.alive:
            return False
        words = time.monotonic() - self._spawned if said is None or said.pid != self._pid else said.silent()
        return words is None or words < SILENT

    async def close(self) -> None:
        """Let it do what is left, then end; after `final_wait` seconds it is killed (the next start goes
        on).
        """
        self._closing = True
        if self._process is None or self._task is None:
            return
        self._release()
        try:
            await asyncio.wait_for(asyncio.shield(self._task), self._final_wait)
        except TimeoutError:
            self._process.kill()
            await self._task

    def _release(self) -> None:
        """Let it see that the server is gone."""
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
