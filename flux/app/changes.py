"""What changes under the project's folder, for `flux dev`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

from watchfiles import Change, awatch

_IGNORED = frozenset({".flux", ".git", ".venv", "node_modules", "__pycache__", ".dev"})


async def written(folder: Path, *, quiet: float = 0.15, patience: float = 2.0) -> None:
    """Wait until nobody is in the middle of writing a file of `folder`: editors and shells write in steps.

    Args:
        folder: whose files are looked at; it may be missing.
        quiet: seconds for which no file has changed then.
        patience: most seconds to wait.
    """
    loop = asyncio.get_running_loop()
    until = loop.time() + patience
    before, since = _stamps(folder), loop.time()
    while (now := loop.time()) < min(since + quiet, until):
        await asyncio.sleep(min(quiet / 5, until - now))
        if (stamps := _stamps(folder)) != before:
            before, since = stamps, loop.time()


def _stamps(folder: Path) -> dict[str, tuple[int, int]]:
    found = {}
    for path in folder.glob("*"):
        with suppress(OSError):
            stat = path.stat()
            found[path.name] = stat.st_mtime_ns, stat.st_size
    return found


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
