"""What changes under the project's folder, for `flux dev`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from watchfiles import Change, awatch

_IGNORED = frozenset({".flux", ".git", ".venv", "node_modules", "__pycache__", ".dev"})


class Changes:
    """Paths that were written, made or removed, a set for each burst; from `begin` on none is missed.

    Args:
        root: the folder, looked at with all below it.
        stop: ends the iteration.
    """

    def __init__(self, root: Path, stop: asyncio.Event) -> None:
        self._root = root
        self._watch = awatch(
            root,
            watch_filter=self._wanted,
            debounce=50,
            step=5,
            stop_event=stop,
            rust_timeout=500,
            ignore_permission_denied=True,
        )
        self._next: asyncio.Task[set[tuple[Change, str]] | None] | None = None

    async def begin(self) -> None:
        """Watch from now on; what happens before the iteration begins comes first in it."""
        self._ask()
        await asyncio.sleep(0)  # the watch stands once the task has run up to where it waits

    async def __aiter__(self) -> AsyncIterator[set[Path]]:
        if self._next is None:
            await self.begin()
        while self._next is not None and (batch := await self._next) is not None:
            self._ask()
            yield {Path(name) for _, name in batch}

    def _ask(self) -> None:
        self._next = asyncio.create_task(self._batch())

    async def _batch(self) -> set[tuple[Change, str]] | None:
        return await anext(self._watch, None)

    def _wanted(self, _: object, name: str) -> bool:
        path = Path(name)
        inside = path.relative_to(self._root).parts if path.is_relative_to(self._root) else path.parts
        return not _IGNORED.intersection(inside)
