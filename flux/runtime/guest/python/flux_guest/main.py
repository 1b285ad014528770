"""The guest's life: `booted`, `start`, the user's code, then invocations until the host goes. Called by
boot.py.
"""

import asyncio
import contextvars
import gc
import os
import sys
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Any

from flux_functions.errors import InvocationOver
from flux_functions.response import Response

from flux_guest import (
    clock,
    guard,
    hooks,
    leftovers,
    loader,
    machine,
    memory_database,
    network,
    output,
    place,
    randomness,
    sources,
    tasks,
    values,
)
from flux_guest.context import Context
from flux_guest.failure import failure, starve
from flux_guest.invocation import Invocation, log
from flux_guest.loop import Delivery, GuestLoop, local_sleep, sleep
from flux_guest.request import value_of
from flux_guest.sources import Sources, current
from flux_guest.values import dumps, parse, revived
from flux_guest.wire import Frame, Wire

_LAST_STEPS = 3
"""Turns of the event loop that cancelled tasks have to end in."""
_URGENT = frozenset({"ping", "cancel"})


def serve(descriptor: int, *, here: str, standard: list[str], packages: list[str]) -> None:
    """Serve until the host has gone. Does not return.

    Args:
        descriptor: of the protocol.
        here: the folder of the guest's own code; standard: those of the standard library; packages: of
            installed ones.
    """
    wire = Wire(descriptor)
    loop = GuestLoop()
    wire.send({"t": "booted", "guest": {"python": ".".join(map(str, sys.version_info[:3]))}})
    start, early = _wait_for_start(wire)
    root = start["root"]
    sys.path[:] = [*standard, here, *packages]
    os.environ.clear()
    os.environ.update({"TZ": "UTC", "LANG": "C.UTF-8", **start["env"]})
    sources.begin(start["seed"], start["now"])
    hooks.install()
    clock.install()
    randomness.install()
    tasks.install()
    memory_database.install()
    network.install()
    output.install()
    place.install(root)
    leftovers.install()
    values.install()
    asyncio.sleep = asyncio.tasks.sleep = sleep
    guard.install([root, here, *standard, *packages, "/usr/share/zoneinfo"])
    machine.install(root)
    asyncio.set_event_loop(loop)
    try:
        handler = loader.load(root, start["entry"])
    except BaseException as error:
        wire.send({"t": "failed", "error": _load_failure(error, root)})
        os._exit(1)
    gc.freeze()
    wire.send({"t": "ready"})
    _Server(wire, loop, handler, root, start["env"]).run(early)


def _wait_for_start(wire: Wire) -> tuple[dict[str, Any], list[Frame]]:
    while True:
        try:
            frames = wire.receive(wait=True)
        except (EOFError, OSError):
            os._exit(0)
        for index, (header, _) in enumerate(frames):
            if header["t"] == "start":
                return header, frames[index + 1 :]
            if header["t"] == "ping":
                wire.send({"t": "pong", "k": header["k"]})


def _load_failure(error: BaseException, root: str) -> dict[str, Any]:
    described = failure(error, root)
    if isinstance(error, loader.BadFunction):
        described["frames"] = [{"file": error.file, "line": error.line, "column": 1, "function": "<module>"}]
        described["stack"] = f"{described['type']}: {described['message']}"
    return described


class _Server:
    """Invocations of one handler."""

    def __init__(
        self,
        wire: Wire,
        loop: GuestLoop,
        handler: Callable[[Any, Any], Any],
        root: str,
        env: Mapping[str, str],
    ) -> None:
        self._wire = wire
        self._loop = loop
        self._handler = handler
        self._root = root
        self._env = MappingProxyType(dict(env))
        self._running: dict[int, Invocation] = {}
        self._base = contextvars.copy_context()

    def run(self, early: list[Frame]) -> None:
        """Serve. Does not return."""
        loop = self._loop
        loop.set_exception_handler(self._stray)
        delivery = Delivery(
            loop,
            self._wire,
            deliver=self._deliver,
            urgent=_URGENT,
            expects=lambda: any(invocation.waits for invocation in self._running.values()),
            gone=lambda: os._exit(0),
        )
        delivery.add(early)
        while True:
            try:
                loop.run_forever()
            except (SystemExit, KeyboardInterrupt):
                os.write(2, b"a task called sys.exit(); the process goes on\n")

    def _deliver(self, header: dict[str, Any], body: bytes) -> None:
        kind = header["t"]
        if kind == "reply":
            invocation = self._running.get(header["i"])
            if invocation is not None:
                invocation.reply(header, body)
        elif kind == "invoke":
            self._invoke(header, body)
        elif kind == "ping":
            self._wire.send({"t": "pong", "k": header["k"]})
        elif kind == "cancel":
            invocation = self._running.get(header["i"])
            if invocation is not None:
                invocation.cancel()

    def _invoke(self, header: dict[str, Any], body: bytes) -> None:
        number = header["i"]
        invocation = Invocation(number, Sources(header["seed"], header["now"]), self._wire, self._loop)
        self._running[number] = invocation
        context = self._base.copy()
        context.run(current.set, invocation)
        self._loop.create_task(self._run(invocation, header, body), context=context)

    async def _run(self, invocation: Invocation, header: dict[str, Any], body: bytes) -> None:
        try:
            await self._attempt(invocation, header, body)
        except MemoryError:
            starve()

    async def _attempt(self, invocation: Invocation, header: dict[str, Any], body: bytes) -> None:
        end, content = await self._handle(invocation, header, body)
        try:
            if self._working(invocation):
                self._finish(invocation, {**end, "more": "work"}, content)
                while self._working(invocation):
                    await asyncio.wait(set(invocation.works))
                end, content = {"t": "end", "i": invocation.number}, b""
            left = self._leave(invocation)
            if not left:
                self._last(invocation, end, content)
                return
            if end["t"] != "end":
                self._finish(invocation, {**end, "more": "calls"}, content)
                end, content = {"t": "end", "i": invocation.number}, b""
            invocation.cancel(but=asyncio.current_task())
            for _ in range(_LAST_STEPS):  # what the cancelled tasks still do they do now
                await local_sleep(0)
            self._report(invocation, "After the handler had returned, a task failed: ")
            self._last(invocation, end, content)
        finally:
            invocation.over = invocation.closed = True
            self._running.pop(invocation.number, None)
            invocation.tasks.pop(asyncio.current_task(), None)  # type: ignore[arg-type]
            invocation.cancel()

    async def _handle(
        self, invocation: Invocation, header: dict[str, Any], body: bytes
    ) -> tuple[dict[str, Any], bytes]:
        """Run the handler; the header and the body of the frame that tells how it ended."""
        number = invocation.number
        end: dict[str, Any] = {"t": "done", "i": number}
        content = b""
        try:
            size = header["body_size"]
            given = body[size:] or body[:size]
            # What has no method comes from a function: an invocation's or a job's payload.
            read = parse if header["request"].get("method") else revived
            value = self._handler(value_of(given, read), Context(invocation, header, body[:size], self._env))
            if isinstance(value, Awaitable):
                value = await value
            if isinstance(value, Response):
                content = value.encode(dumps)
                if type(content) is not bytes:
                    raise TypeError(f"the body of a Response is bytes, not {type(content).__name__}")
                end["status"], end["headers"] = value.status, value.headers
            else:
                content = dumps(value)
        except BaseException as error:
            end, content = {"t": "error", "i": number, "error": failure(error, self._root)}, b""
        return end, content

    def _working(self, invocation: Invocation) -> bool:
        """Whether work that was handed to ctx.wait_until goes on; what has failed of it is told."""
        for work in [work for work in invocation.works if work.done()]:
            invocation.works.discard(work)
            error = None if work.cancelled() else work.exception()
            if error is None:
                continue
            described = leftovers.failed(
                invocation, error, "Work handed to ctx.wait_until failed: ", self._root
            )
            if described is not None:
                said = f"ctx.wait_until: {described['type']}: {described['message']}"
                log(invocation, "error", said, {"stack": described["stack"]})
        return bool(invocation.works)

    def _leave(self, invocation: Invocation) -> bool:
        """Nothing is awaited any more: keep what is left as warnings. Whether tasks are left."""
        output.finish(invocation)
        self._report(invocation, "A task that was not awaited failed: ")
        me = asyncio.current_task()
        left = [task for task in invocation.tasks if task is not me and not task.done()]
        for task in left:
            leftovers.unfinished(invocation, task)
        invocation.close()
        return bool(left)

    def _last(self, invocation: Invocation, end: dict[str, Any], content: bytes) -> None:
        warnings = leftovers.warned(invocation)
        self._finish(invocation, {**end, "warnings": warnings} if warnings else end, content)

    def _finish(self, invocation: Invocation, end: dict[str, Any], content: bytes) -> None:
        try:
            self._wire.send(end, content)
        except (TypeError, ValueError) as error:
            told = {"t": "error", "i": invocation.number, "error": failure(error, self._root)}
            self._wire.send({**told, "more": end["more"]} if "more" in end else told)

    def _report(self, invocation: Invocation, before: str) -> None:
        """Tell the errors of tasks that nobody awaited: in the log, and as warnings."""
        for task in invocation.tasks:
            if task.done() and not task.cancelled() and getattr(task, "_log_traceback", False):
                error = task.exception()
                if error is None:
                    continue
                self._tell(invocation, error, before)

    def _tell(self, invocation: Invocation, error: BaseException, before: str) -> None:
        """Tell an error that nobody awaited: in the log, and as a warning."""
        described = leftovers.failed(invocation, error, before, self._root)
        if described is not None:
            said = f"{before}{described['type']}: {described['message']}"
            log(invocation, "error", said, {"stack": described["stack"]})

    def _stray(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """An error in a callback, or in a future that nobody asked. Its invocation is told, if it is open."""
        error = context.get("exception")
        handle = context.get("handle")
        if isinstance(error, InvocationOver):
            return
        if isinstance(error, MemoryError) and handle is not None:
            starve()
        invocation = current.get() if handle is None else handle._context.get(current)
        if error is not None and invocation is not None and not invocation.closed:
            self._tell(invocation, error, "Nobody caught: ")
            return
        text = context.get("message", "")
        if error is not None:
            described = failure(error, self._root)
            text = f"{text}: {described['type']}: {described['message']}"
        os.write(2, f"{text}\n".encode("utf-8", "replace"))
