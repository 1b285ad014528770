"""One client's connection: bytes in and out, and an end to whoever keeps it waiting.

A response's head and body leave in one write. One deadline follows the connection through its life: idle, a
head on its way, a body on its way, an answer that the client takes. A transfer that is not through in its
time goes on as long as SLOWEST bytes a second come through, so that a large one over a slow line ends well
and a byte a second does not. Made by the listener; HTTP itself is `plain` and, for what that leaves, `http1`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from dataclasses import dataclass
from typing import Any, Protocol

from hypercorn.asyncio.task_group import TaskGroup
from hypercorn.asyncio.worker_context import WorkerContext
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.typing import ConnectionState
from hypercorn.utils import parse_socket_addr

from flux.gateway import plain
from flux.gateway.deadline import Deadline
from flux.gateway.flood import Flood, Joining
from flux.gateway.http1 import MOST_FIELDS, Http1, Refusal
from flux.gateway.plain import NOTHING, Answer, Incoming
from flux.runtime.routes import is_internal

log = logging.getLogger("flux.gateway")

SLOWEST = 500
"""Bytes a second that a transfer must reach to go on after its timeout."""
LINGER = 5.0
"""Seconds that a client may go on sending after its answer, so that the answer reaches it."""
PIECE = 2**18
"""Bytes of an answer that are handed to the transport at once."""
SMALL = 2**14
"""Bytes of an answer that may be held for the next one."""
MOST_HELD = 3
"""Answers of requests that came together which leave together, before others have their turn."""
MOST_AT_ONCE = 32
"""Requests of a flood that are answered before others have their turn."""
_READ = 2**16


@dataclass(frozen=True, slots=True)
class Patience:
    """How long clients are waited for, in seconds; 0 is for ever.

    Attributes:
        idle: between two requests.
        read: for a request's head, and again for its body.
        write: for the client to take an answer.
    """

    idle: float
    read: float
    write: float


class Application(Protocol):
    """What answers requests: those that come by and by as ASGI says, and by `answer` those that are there."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """ASGI."""
        ...

    async def answer(self, request: Incoming, client: Any, refusal: Refusal | None) -> Answer:
        """What is said to a request.

        Args:
            request: with its whole body. client: its address and port.
            refusal: why it must not be looked at, or None.
        """
        ...


class Connection:
    """One client's connection. `run` serves it to its end.

    Args:
        patience: how long the client is waited for.
        app: answers requests. flood: answers what it can in its place.
        config, context: Hypercorn's.
        body_limit: bytes that a request's body may have.
        dates: the Date header.

    Attributes:
        idle: whether no request is being read or answered.
    """

    def __init__(
        self,
        patience: Patience,
        app: Application,
        flood: Flood,
        config: Config,
        context: WorkerContext,
        body_limit: int,
        dates: plain.Dates,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self.idle = False
        self._patience = patience
        self._app = app
        self._flood = flood
        self._config = config
        self._context = context
        self._body_limit = body_limit
        self._dates = dates
        self._reader = reader
        self._writer = writer
        self._loop = asyncio.get_running_loop()
        self._deadline = Deadline(self._loop, self._expired)
        self._awaited: str | None = None
        self._received = 0
        self._before = 0
        """What had been received, or was still to be taken, when the deadline was last set."""
        self._held = b""
        self._engaged = False
        """Whether h11 has been given anything: until then the next byte begins a request."""

    async def run(self) -> None:
        """Serve until the connection closes."""
        sock = self._writer.get_extra_info("socket")
        try:
            client = parse_socket_addr(sock.family, sock.getpeername())
            server = parse_socket_addr(sock.family, sock.getsockname())
            async with TaskGroup(self._loop) as self._tasks:
                self._protocol = Http1(
                    self,
                    self._body_limit,
                    self._dates,
                    self._app,
                    self._config,
                    self._context,
                    self._tasks,
                    ConnectionState({}),
                    False,
                    client,
                    server,
                    self._tell,
                )
                self._rest()
                await self._read()
        except OSError:
            pass
        finally:
            self._shut()
            with contextlib.suppress(OSError, RuntimeError, asyncio.CancelledError):
                await self._writer.wait_closed()
            self._deadline.cancel()

    async def end_idle(self) -> None:
        """The server stops, or needs the room: close unless a request is being answered."""
        if self.idle or self._awaited == "head":
            await self._end()

    def awaits_head(self) -> None:
        """Part of a request's head has come."""
        if self._awaited is None:
            self.idle = False
            self._await("head", self._patience.read, self._received)

    def awaits_body(self) -> None:
        """A request's head has come, and its body not wholly."""
        if self._awaited is None:
            self._await("body", self._patience.read, self._received)

    def has_body(self) -> None:
        """The body that was awaited is complete."""
        if self._awaited == "body":
            self._awaited = None
            self._deadline.off()

    async def refuse(self, refusal: Refusal) -> None:
        """Answer what never became a request, and end."""
        self._busy()
        head, content, _ = await self._asked(NOTHING, refusal, last=True)
        await self._write(head + content, b"")
        self.linger()

    def linger(self) -> None:
        """All is said, but the client still sends: half-close, and read on for a moment without looking."""
        self._flush()
        with contextlib.suppress(OSError, RuntimeError):
            self._writer.write_eof()
        self._await("end", LINGER, 0)

    def _rest(self) -> None:
        self.idle = True
        self._await(None, self._patience.idle, 0)

    def _busy(self) -> None:
        self.idle, self._awaited = False, None
        self._deadline.off()

    def _await(self, what: str | None, seconds: float, before: int) -> None:
        self._awaited = what
        self._before = before
        self._deadline.within(seconds)

    def _expired(self) -> None:
        """The time is up: what was waited for has gone on well enough, or has to end."""
        awaited, patience = self._awaited, self._patience
        if awaited == "body" and self._received - self._before >= SLOWEST * patience.read:
            self._await("body", patience.read, self._received)
        elif awaited == "taken" and self._before - self._untaken() >= SLOWEST * patience.write:
            self._await("taken", patience.write, self._untaken())
        elif awaited in ("head", "body"):
            self._awaited = None
            self._tasks.spawn(self._protocol.late)
        elif awaited is None:
            self._tasks.spawn(self._end)
        else:
            self._writer.transport.abort()

    async def _end(self) -> None:
        await self._protocol.handle(Closed())
        self._shut()

    async def _read(self) -> None:
        """Take what comes until the connection ends. Bytes that are read only when this side has been closed
        already begin no request: it would run, and nobody could be answered."""
        reader, protocol = self._reader, self._protocol
        begun = b""
        while not reader.at_eof():
            try:
                data = await reader.read(_READ)
            except OSError:
                break
            if self._writer.is_closing():
                break
            self._received += len(data)
            begun = await self._take(begun + data)
        await protocol.handle(Closed())

    async def _take(self, data: bytes) -> bytes:
        """Answer the requests in what was read (nothing: the client's end). Gives back what has to wait for
        the next read: the beginning of a plain request that came behind others.
        """
        protocol = self._protocol
        while not protocol.over:
            if data and (not self._engaged or protocol.resting):
                taken = await self._answered(data)
                data = data[taken:]
                if self._writer.is_closing():
                    break
                if data and (data == b"\r" or (taken and plain.begun(data))):
                    self.awaits_head()
                    return data
                if not data:
                    break
            self._engaged = True
            await protocol.handle(RawData(data))
            if not (data := protocol.left()):
                break
        return b""

    async def _answered(self, data: bytes) -> int:
        """Answer, here and now, the plain requests that `data` begins with; how many bytes they were."""
        most, at, answered, more = self._config.h11_max_incomplete_size, 0, 0, False
        refused: list[tuple[Incoming, Joining]] = []
        while at < len(data) and not self._writer.is_closing():
            if data.startswith(b"\r\n", at):  # what some send behind a body (RFC 9112, 2.2)
                at += 2
                continue
            found = plain.parse(data, at, most_head=most, most_fields=MOST_FIELDS)
            if found is None:
                break
            request, end = found
            joining = None if self._context.terminated.is_set() else self._flood.joins(request)
            if joining is not None:
                refused.append((request, joining))
                at = end
            if refused and (joining is None or len(refused) == MOST_AT_ONCE):
                await self._refuse(refused)
                refused, more = [], False
            elif joining is None:
                if is_internal(request.path):  # it wants more of a client than one whole body
                    break
                self._busy()
                at = end
                answered += 1
                more = at < len(data) and answered % MOST_HELD > 0
                await self._answer(request, hold=more)
            if not refused and not more and at < len(data):
                await asyncio.sleep(0)  # others' turn: nothing that was awaited need have taken time
        if refused:
            await self._refuse(refused)
        if not self.idle and not self._writer.is_closing():
            self._rest()
        return at

    async def _refuse(self, refused: list[tuple[Incoming, Joining]]) -> None:
        """Answer requests of a flood, in one write."""
        self._busy()
        answers = self._flood.answer([joining for _, joining in refused])
        date = self._dates.at(time.time())
        parts: list[bytes] = []
        for (request, _), answer in zip(refused, answers, strict=True):
            if answer is not None:
                parts += (answer.head(date, last=False), answer.body)
                continue
            await self._write(b"".join(parts), b"")
            parts = []
            await self._answer(request)
        await self._write(b"".join(parts), b"")

    async def _answer(self, request: Incoming, *, hold: bool = False) -> None:
        """Ask the application, and send what it says; with `hold` once anything is waited for."""
        head, content, last = await self._asked(request, None, last=False)
        if hold and not last and len(content) < SMALL:
            self._hold(head + content)
        else:
            await self._write(head + content if len(content) < PIECE else head, content)
        if last or self._context.terminated.is_set():
            self._shut()

    async def _asked(
        self, request: Incoming, refusal: Refusal | None, *, last: bool
    ) -> tuple[bytes, bytes, bool]:
        """The answer's head and body, and whether the connection ends with it; `last`: it does anyway."""
        try:
            answer = await self._app.answer(request, self._protocol.client, refusal)
        except Exception:
            log.exception("a request failed inside Flux")
            answer, last = plain.FAILED, True
        last = last or self._context.terminated.is_set()
        date = self._dates.at(time.time())
        try:
            return answer.head(date, last=last), answer.body, last
        except plain.Unsendable as error:
            log.error("a response could not be sent: %s", error)
            return plain.FAILED.head(date, last=True), plain.FAILED.body, True

    async def _tell(self, event: Event) -> None:
        """What the protocol has to say; a response's head waits for what follows it in the same step."""
        if isinstance(event, RawData):
            data = event.data
            if not data:
                self._flush()
            elif not self._held and data.startswith(b"HTTP/1.1 ") and data.endswith(b"\r\n\r\n"):
                self._hold(data)
            else:
                await self._write(data if len(data) < PIECE else b"", data)
        elif isinstance(event, Updated):
            if event.idle:
                self._rest()
            else:
                self._busy()
        else:
            self._shut()

    async def _write(self, data: bytes, large: bytes) -> None:
        """Write what is held and `data`, then `large` piece by piece where it is, no quicker than the client
        takes it.
        """
        held, self._held = self._held, b""
        data = held + data if held else data
        try:
            if data:
                self._writer.write(data)
                await self._drain()
            if len(large) >= PIECE:
                view = memoryview(large)
                for at in range(0, len(view), PIECE):
                    self._writer.write(view[at : at + PIECE])
                    await self._drain()
        except (ConnectionError, RuntimeError):
            await self._protocol.handle(Closed())

    async def _drain(self) -> None:
        if untaken := self._untaken():
            awaited = self._awaited
            self._await("taken", self._patience.write, untaken)
            await self._writer.drain()
            self._awaited = awaited
            self._deadline.off()
        elif self._writer.is_closing():
            await self._writer.drain()  # it says how the connection ended

    def _untaken(self) -> int:
        size: int = self._writer.transport.get_write_buffer_size()
        return size

    def _hold(self, data: bytes) -> None:
        """Write it with what follows in the same step, or after that."""
        if not self._held:
            self._loop.call_soon(self._flush)
        self._held += data

    def _flush(self) -> None:
        held, self._held = self._held, b""
        if held and not self._writer.is_closing():
            self._writer.write(held)

    def _shut(self) -> None:
        """Close once the client has taken what is left, or its time for that is over."""
        self._flush()
        if self._writer.is_closing():
            return
        if untaken := self._untaken():
            self._await("taken", self._patience.write, untaken)
        else:
            self._deadline.off()
        self._writer.close()
