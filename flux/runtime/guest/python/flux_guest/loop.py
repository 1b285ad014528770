"""The event loop: plain asyncio whose timers are host calls and whose every host reply is an iteration of its
own. Made by main.

A reply is delivered only when all local work has run, so that two replies that arrive together can't
interleave the code that waits for them: what happens depends on the replies and their order alone. Code that
spins on asyncio.sleep(0) gets one after a number of turns, whenever it came.
"""

import asyncio
import contextvars
import sys
from collections import deque
from collections.abc import Callable
from typing import Any

from flux_guest.failure import starve
from flux_guest.invocation import here
from flux_guest.place import place
from flux_guest.sources import current, sources
from flux_guest.tasks import GuestFuture, task
from flux_guest.values import dumps
from flux_guest.wire import Frame, Wire

PATIENCE = 1_000
"""Turns of local work after which a reply is delivered though more is ready, and waited for where it has not
come: code may spin on asyncio.sleep(0).
"""
FLUSH_AFTER = 20
"""Turns of local work after which frames are sent though more may come."""

local_sleep = asyncio.sleep
_NOWHERE = contextvars.Context()


class GuestLoop(asyncio.SelectorEventLoop):
    """Time is the invocation's; timers are `sleep` calls; executors run inline."""

    def time(self) -> float:
        return sources().now / 1_000_000

    def call_later(self, delay: float, callback: Any, *args: Any, context: Any = None) -> asyncio.TimerHandle:  # type: ignore[override]
        return self._timer(delay, self.time() + delay, callback, args, context)

    def call_at(self, when: float, callback: Any, *args: Any, context: Any = None) -> asyncio.TimerHandle:  # type: ignore[override]
        return self._timer(when - self.time(), when, callback, args, context)

    def _timer(
        self, delay: float, when: float, callback: Any, args: Any, context: Any
    ) -> asyncio.TimerHandle:
        invocation = here("A timer")
        timer = _Timer(when, callback, args, self, context)
        slept = timer.slept = invocation.call("sleep", dumps({"ms": max(0.0, round(delay * 1000, 3))}))  # type: ignore[attr-defined]

        def due(future: asyncio.Future[bytes]) -> None:
            if not future.cancelled() and future.exception() is None and not timer.cancelled():
                timer._run()

        slept.add_done_callback(due, context=_NOWHERE.copy())
        return timer

    def create_future(self) -> Any:
        return GuestFuture(loop=self)

    def create_task(self, coro: Any, **named: Any) -> Any:
        context = named.get("context")
        invocation = current.get() if context is None else context.get(current)
        if self.get_task_factory() is None:
            made = task(coro, self, invocation, named)
        else:
            made = super().create_task(coro, **named)  # type: ignore[assignment]
        if invocation is not None:
            invocation.tasks[made] = place(sys._getframe(1))
        return made

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> Any:  # type: ignore[override]
        """Run `func` at once: threads would make the order of events a matter of chance."""
        future = self.create_future()
        try:
            result = func(*args)
        except Exception as error:
            future.set_exception(error)
        else:
            future.set_result(result)
        return future


class _Timer(asyncio.TimerHandle):
    """A timer whose time passes in the host; cancelling it ends the host's sleep."""

    __slots__ = ("slept",)

    def cancel(self) -> None:
        if not self._cancelled:
            self.slept.cancel()  # type: ignore[attr-defined]
        super().cancel()


async def sleep(delay: float, result: Any = None) -> Any:
    """What asyncio.sleep is here: `sleep` of the host; zero only lets other tasks run."""
    if delay <= 0:
        return await local_sleep(0, result)
    await here("asyncio.sleep").call("sleep", dumps({"ms": round(delay * 1000, 3)}))
    return result


class Delivery:
    """Hands frames on, each in an iteration of its own after local work has run.

    Args:
        deliver: acts on a frame.
        urgent: types of frames that `deliver` gets at once.
        expects: whether something is to come: a call is open.
        gone: called when the host has gone.
    """

    def __init__(
        self,
        loop: GuestLoop,
        wire: Wire,
        *,
        deliver: Callable[[dict[str, Any], bytes], None],
        urgent: frozenset[str],
        expects: Callable[[], bool],
        gone: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._wire = wire
        self._deliver = deliver
        self._urgent = urgent
        self._expects = expects
        self._gone = gone
        self._waiting: deque[Frame] = deque()
        self._scheduled = False
        self._busy = 0
        wire.wake = self._wake
        loop.add_reader(wire.descriptor, self._readable)

    def add(self, frames: list[Frame]) -> None:
        """Queue frames that came before the loop ran."""
        self._waiting.extend(frames)
        self._wake()

    def _wake(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._turn, context=_NOWHERE)

    def _readable(self) -> None:
        self._take()
        if not self._scheduled:
            self._scheduled = True
            self._turn()

    def _take(self, *, wait: bool = False) -> bool:
        """Read frames. Whether an invocation was cancelled."""
        cancelled = False
        try:
            frames = self._wire.receive(wait=wait)
        except (EOFError, OSError):
            self._gone()
            return False
        except MemoryError:
            starve()
        for frame in frames:
            if frame[0]["t"] in self._urgent:
                self._deliver(*frame)
                cancelled = cancelled or frame[0]["t"] == "cancel"
            else:
                self._waiting.append(frame)
        return cancelled

    def _turn(self) -> None:
        """Once local work is done: deliver the next frame, or, where there is none, send what it led to."""
        if self._loop._ready and self._busy < PATIENCE:  # type: ignore[attr-defined]
            self._busy += 1
            if self._busy % FLUSH_AFTER == 0:
                self._wire.flush()
            self._loop.call_soon(self._turn, context=_NOWHERE)
            return
        if not self._waiting and self._loop._ready and self._expects():  # type: ignore[attr-defined]
            self._wire.flush()
            if self._take(wait=True):  # what was cancelled has its last turns
                self._busy = 0
            self._wire.flush()
            if not self._waiting:
                self._loop.call_soon(self._turn, context=_NOWHERE)
                return
        self._busy = 0
        if self._waiting:
            self._loop.call_soon(self._turn, context=_NOWHERE)
            self._deliver(*self._waiting.popleft())
        else:
            self._scheduled = False
            self._wire.flush()
