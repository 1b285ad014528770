"""An invocation in flight: its numbers, clock, randomness and open host calls. Made by main, used by ctx and
the shims.
"""

import asyncio
from contextvars import ContextVar
from typing import Any

from flux_functions import errors

from flux_guest.place import Place, place
from flux_guest.sources import Sources, current
from flux_guest.values import dumps
from flux_guest.wire import Wire

MOST_OPEN_CALLS = 8_000
MOST_WARNINGS = 50
"""Different warnings that one invocation keeps."""
LONGEST_WARNING = 2_000
LONGEST_MESSAGE = 256 * 1024
"""Characters of one log line."""

span: ContextVar[int | None] = ContextVar("flux_span", default=None)
"""The number of the innermost open span's start."""

_ABORTED = frozenset({"sleep", "fetch"})
"""Calls that the host stops when nobody waits for them; the others have effects that are seen through."""

_ERRORS = {
    "db": errors.DatabaseError,
    "fetch": errors.FetchError,
    "invoke": errors.InvokeError,
    "queue": errors.QueueError,
    "secrets": errors.SecretError,
}


class Invocation:
    """One run of the function.

    Attributes:
        number: the host's number for it.
        sources: its clock and randomness.
        last: the number of its last call or note.
        tasks: every asyncio task that was made in it, with the user's line that made it.
        works: the tasks that were handed to ctx.wait_until.
        left: what it left behind, as text and line, and how often.
        over: it takes no more calls. closed: the host has had the last word of it.
        lines: unfinished lines printed in it, by level.
    """

    __slots__ = (
        "_loop",
        "_open",
        "_wire",
        "closed",
        "last",
        "left",
        "lines",
        "number",
        "over",
        "sources",
        "tasks",
        "works",
    )

    def __init__(self, number: int, sources: Sources, wire: Wire, loop: asyncio.AbstractEventLoop) -> None:
        self.number = number
        self.sources = sources
        self.over = False
        self.closed = False
        self.tasks: dict[asyncio.Task[Any], Place | None] = {}
        self.works: set[asyncio.Future[Any]] = set()
        self.left: dict[tuple[str, Place | None], int] = {}
        self.lines: dict[str, str] = {}
        self._wire = wire
        self._loop = loop
        self.last = 0
        self._open: dict[int, tuple[str, asyncio.Future[bytes]]] = {}

    def call(self, op: str, arguments: bytes, tx: int | None = None) -> asyncio.Future[bytes]:
        """Ask the host for an effect. The future gets the result's JSON, or a HostError.

        Raises:
            InvocationOver: the handler has returned.
        """
        if self.over:
            text = f"`{op}` came after the handler had returned, and was not done"
            self.keep(f"{text}: await it, or hand the work to ctx.wait_until.", place())
            raise errors.InvocationOver(f"{text}: await what it needs before.")
        if len(self._open) >= MOST_OPEN_CALLS:
            raise RuntimeError(f"More than {MOST_OPEN_CALLS} host calls are open at once: await some first.")
        future: asyncio.Future[bytes] = self._loop.create_future()
        number = self._send("call", op, arguments, tx)
        self._open[number] = (op, future)
        if op in _ABORTED:
            future.add_done_callback(lambda future: self._abort(number) if future.cancelled() else None)
        return future

    @property
    def waits(self) -> bool:
        """Whether a call is open."""
        return bool(self._open)

    def _abort(self, number: int) -> None:
        """Give a call up: the host stops it, and no answer counts any more."""
        if self._open.pop(number, None) is not None and not self.over:
            self._wire.send({"t": "abort", "i": self.number, "n": number})

    def note(self, op: str, arguments: bytes) -> int:
        """Tell the host something that has no answer; its number. Nothing is sent once the invocation is
        over.
        """
        return 0 if self.over else self._send("note", op, arguments, None)

    def flush(self) -> None:
        """Send at once: what is logged before a hang is seen."""
        self._wire.flush()

    def _send(self, kind: str, op: str, arguments: bytes, tx: int | None) -> int:
        self.last += 1
        header: dict[str, Any] = {"t": kind, "i": self.number, "n": self.last, "op": op}
        if tx is not None:
            header["tx"] = tx
        inside = span.get()
        if inside:
            header["span"] = inside
        self._wire.send(header, arguments)
        return self.last

    def reply(self, header: dict[str, Any], body: bytes) -> None:
        """A host call has been answered: the clock moves, and whoever waits goes on."""
        op, future = self._open.pop(header["n"], (None, None))
        if op is None or future is None:
            return
        self.sources.advance(header["now"])
        if future.done():
            return
        error = header.get("error")
        if error is None:
            future.set_result(body)
            return
        kind = _ERRORS.get(op.partition(".")[0], errors.HostError)
        future.set_exception(kind(str(error["type"]), str(error["message"]), error.get("detail")))

    def close(self) -> None:
        """The handler has settled: timers are dropped, other open calls the host waits for. No more calls."""
        for number in [number for number, (op, _) in self._open.items() if op == "sleep"]:
            self._abort(number)
        self.over = True

    def keep(self, text: str, at: Place | None) -> None:
        """Keep a warning about something that was left at that place."""
        if len(text) > LONGEST_WARNING:
            text = f"{text[:LONGEST_WARNING]}…"
        key = (text.encode("utf-8", "replace").decode(), at)
        if key in self.left or len(self.left) < MOST_WARNINGS:
            self.left[key] = self.left.get(key, 0) + 1

    def cancel(self, but: "asyncio.Task[Any] | None" = None) -> None:
        """End its tasks `but` one, as asyncio does with those that are left when the main one has ended."""
        self.over = True
        for task in list(self.tasks):
            if task is not but:
                task.cancel()


def here(what: str) -> Invocation:
    """The invocation that running code belongs to.

    Raises:
        InvocationOver: it belongs to none: top-level code.
    """
    found = current.get()
    if found is None:
        raise errors.InvocationOver(
            f"{what} needs an invocation: do it inside the handler, not in top-level code."
        )
    return found


def log(invocation: Invocation, level: str, message: str, fields: Any = None) -> None:
    """Send a log line. What JSON can't hold is sent as its repr: logging never fails."""
    if len(message) > LONGEST_MESSAGE:
        message = f"{message[:LONGEST_MESSAGE]}…"
    line: dict[str, Any] = {"level": level, "message": message.encode("utf-8", "replace").decode()}
    if fields:
        line["fields"] = fields
    try:
        arguments = dumps(line)
    except TypeError:
        line["fields"] = {str(name): _shown(value) for name, value in fields.items()}
        arguments = dumps(line)
    invocation.note("log", arguments)
    invocation.flush()


def _shown(value: Any) -> Any:
    try:
        dumps(value)
    except TypeError:
        return _repr(value)
    return value


def _repr(value: Any) -> str:
    try:
        return repr(value).encode("utf-8", "replace").decode()
    except Exception as error:
        return f"<{type(value).__name__} whose repr failed: {type(error).__name__}>"
