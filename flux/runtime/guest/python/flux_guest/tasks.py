"""Tasks and futures that go by a number of their invocation where asyncio's go by their address: in sets, and
by name. Used by the event loop; `install` sees to the rest of asyncio.
"""

import asyncio
import sys
from collections.abc import Generator, Iterable
from typing import Any

from flux_guest.sources import Sources, current, outside

_SPREAD = 1_000_003
"""Keeps the numbers of different invocations apart, in one table too."""


def _next(kind: str, of: Sources) -> int:
    number = of.state[kind] = of.state.get(kind, 0) + 1
    return number


def _number(self: Any) -> int:
    """The hash of a future: its number, given when it is first asked for."""
    try:
        return self._number
    except AttributeError:
        invocation = current.get()
        if invocation is None:
            self._number = -2 - _next("asyncio.future", outside())
        else:
            self._number = (2 * invocation.number + 1) * _SPREAD + _next("asyncio.future", invocation.sources)
        return self._number


class GuestFuture(asyncio.Future):
    """A future that sets order by its number."""

    __slots__ = ("_number",)
    __hash__ = _number


class GuestTask(asyncio.Task):
    """A task that sets order by its number."""

    __slots__ = ("_number",)

    _number: int

    def __hash__(self) -> int:
        return self._number


GuestFuture.__name__ = GuestFuture.__qualname__ = "Future"
GuestTask.__name__ = GuestTask.__qualname__ = "Task"
GuestFuture.__module__ = GuestTask.__module__ = "_asyncio"


def task(coro: Any, loop: asyncio.AbstractEventLoop, invocation: Any, named: dict[str, Any]) -> GuestTask:
    """A task of `invocation`, or of none; `named` is what asyncio's own takes besides."""
    if invocation is None:
        number = _next("asyncio.task", outside())
        found = -2 - number
    else:
        number = _next("asyncio.task", invocation.sources)
        found = 2 * invocation.number * _SPREAD + number
    if named.get("name") is None:
        named = {**named, "name": f"Task-{number}"}
    made = GuestTask.__new__(GuestTask)
    made._number = found  # asyncio puts it in a set before its __init__ returns
    made.__init__(coro, loop=loop, **named)  # type: ignore[misc]
    return made


def _ensured(awaitables: Iterable[Any]) -> list[Any]:
    if asyncio.isfuture(awaitables) or asyncio.iscoroutine(awaitables):
        raise TypeError(f"expect an iterable of futures, not {type(awaitables).__name__}")
    return [asyncio.ensure_future(each) for each in dict.fromkeys(awaitables)]


def install() -> None:
    """Replace what goes by addresses in asyncio: `as_completed` makes tasks of a set of coroutines."""
    real = asyncio.as_completed

    def as_completed(fs: Iterable[Any], *, timeout: float | None = None) -> Any:
        return real(_ensured(fs), timeout=timeout)

    def as_completed_lazily(fs: Iterable[Any], *, timeout: float | None = None) -> Generator[Any, None, None]:
        yield from real(_ensured(fs), timeout=timeout)

    found = as_completed if sys.version_info >= (3, 13) else as_completed_lazily
    found.__name__ = found.__qualname__ = "as_completed"
    found.__doc__ = real.__doc__
    asyncio.as_completed = asyncio.tasks.as_completed = found
    asyncio.tasks._GatheringFuture.__hash__ = _number  # type: ignore[attr-defined]
    every = asyncio.all_tasks

    def all_tasks(loop: asyncio.AbstractEventLoop | None = None) -> set[Any]:
        """Those of this invocation that are not done; other invocations' are none of its business."""
        invocation = current.get()
        if invocation is None:
            return every(loop)
        return {task for task in invocation.tasks if not task.done()}

    asyncio.all_tasks = asyncio.tasks.all_tasks = all_tasks
