"""HTTP/1.1 as the gateway speaks it: h11's parser and Hypercorn's streams, with hostile clients in mind.

What Hypercorn hands to nobody (a head that is no HTTP, one that is too large, one that never ends) becomes a
request that is refused, so that it is answered like any other error and recorded like any other rejection.
HTTP/2 and WebSockets are not spoken (docs/adr/0015).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import h11
from hypercorn.config import Config
from hypercorn.events import Closed, Updated
from hypercorn.protocol.events import Body, EndBody, Request, Response
from hypercorn.protocol.events import Event as StreamEvent
from hypercorn.protocol.h11 import STREAM_ID, H11Protocol
from hypercorn.protocol.http_stream import HTTPStream

from flux.gateway.plain import Dates

log = logging.getLogger("flux.gateway")

REFUSED = "flux.refused"
"""ASGI extension of a request that must be refused unread: (status, type, message)."""
MOST_FIELDS = 256
"""Header fields of a request."""
_WAITING = 16
"""Pieces of a body that wait for the application before no more are read."""

Refusal = tuple[int, str, str]
Message = dict[str, Any]


class Client(Protocol):
    """What the protocol asks of its connection."""

    def awaits_head(self) -> None:
        """Part of a request's head has come."""
        ...

    def awaits_body(self) -> None:
        """A request's head has come, and its body not wholly."""
        ...

    def has_body(self) -> None:
        """The body that was awaited is complete."""
        ...

    async def refuse(self, refusal: Refusal) -> None:
        """Answer what never became a request, and end."""
        ...

    def linger(self) -> None:
        """All is said, but the client still sends: half-close, and read on for a moment without looking."""
        ...


class Inbox:
    """A request's body on its way to the application; what comes once that is done is dropped."""

    def __init__(self) -> None:
        self._messages: deque[Message] = deque()
        self._changed = asyncio.Event()
        self._over = False

    async def put(self, message: Message) -> None:
        """Add a message; waits while many are unread. A disconnect never waits, and is the last."""
        if message["type"] == "http.disconnect":
            self._messages.append(message)
            self._changed.set()
            return
        while len(self._messages) >= _WAITING and not self._over:
            self._changed.clear()
            await self._changed.wait()
        if not self._over:
            self._messages.append(message)
            self._changed.set()

    async def get(self) -> Message:
        """The next message; once the client is gone, that, again and again."""
        while not self._messages:
            self._changed.clear()
            await self._changed.wait()
        if self._messages[0]["type"] == "http.disconnect":
            return self._messages[0]
        if len(self._messages) >= _WAITING:
            self._changed.set()
        return self._messages.popleft()

    def close(self) -> None:
        """The application is done."""
        self._over = True
        self._messages.clear()
        self._changed.set()


class Http1(H11Protocol):
    """One connection's HTTP.

    Args:
        connection: told what it waits for.
        body_limit: bytes that a request's body may have. dates: the Date header.
        The others are H11Protocol's.

    Attributes:
        over: nothing more is read as HTTP: the rest is thrown away.
    """

    stream: HTTPStream | None
    connection: h11.Connection

    def __init__(self, client: Client, body_limit: int, dates: Dates, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._client = client
        self._body_limit = body_limit
        self._dates = dates
        self._inbox = Inbox()
        self._refusal: Refusal | None = None
        self._left = b""
        self.over = False

    @property
    def resting(self) -> bool:
        """Whether the next byte begins a request: none is being answered, and nothing of one was read."""
        return (
            self.stream is None
            and not self.over
            and self.connection.their_state is h11.IDLE
            and not self.connection.trailing_data[0]
        )

    def left(self) -> bytes:
        """What came behind the request that has been answered: the next one begins with it. Once."""
        left, self._left = self._left, b""
        return left

    async def spawn_app(
        self, app: Any, config: Config, scope: Any, send: Callable[[Message | None], Awaitable[None]]
    ) -> Callable[[Message], Awaitable[None]]:
        """Run the application on a request. Called by the stream, in the place of Hypercorn's TaskGroup."""
        inbox = self._inbox = Inbox()
        if self._refusal is not None:
            scope["extensions"][REFUSED] = self._refusal
        self.task_group.spawn(self._run, app, scope, inbox, send)
        return inbox.put

    async def stream_send(self, event: StreamEvent) -> None:
        """Send what the application says."""
        if isinstance(event, Response) and event.status_code >= 200:
            if self.over or self.connection.their_state is h11.SEND_BODY:
                event.headers.append((b"connection", b"close"))  # what is left of the body is not waited for
            if not any(name == b"date" for name, _ in event.headers):
                event.headers.append((b"date", self._dates.at(time.time())))
        await super().stream_send(event)

    async def late(self) -> None:
        """The client took too long with what it has begun."""
        message = "The request took too long to come (read_timeout_ms)."
        if self.stream is not None:
            await self._stop_reading((408, "RequestTimeout", message))
        else:
            await self._refuse(408, "RequestTimeout", message)

    async def _run(
        self, app: Any, scope: Any, inbox: Inbox, send: Callable[[Message | None], Awaitable[None]]
    ) -> None:
        async def receive() -> Message:
            if self.connection.they_are_waiting_for_100_continue:
                await self._send_h11_event(h11.InformationalResponse(status_code=100, headers=[]))
            return await inbox.get()

        try:
            await app(scope, receive, send)
        except Exception:
            log.exception("a request failed inside Flux")
        finally:
            inbox.close()
            await send(None)

    async def _handle_events(self) -> None:
        while not self.over:
            try:
                event = self.connection.next_event()
            except h11.RemoteProtocolError as error:
                await self._broken(error)
                return
            if isinstance(event, h11.Request):
                await self._begin(event)
            elif isinstance(event, h11.Data):
                if self.stream is not None:
                    await self.stream.handle(Body(stream_id=STREAM_ID, data=event.data))
            elif isinstance(event, h11.EndOfMessage):
                self._client.has_body()
                if self.stream is not None:
                    await self.stream.handle(EndBody(stream_id=STREAM_ID))
            elif event is h11.PAUSED:
                await self.can_read.clear()
                await self.can_read.wait()
                if self._part():
                    return
            else:
                if event is h11.NEED_DATA:
                    await self._need_data()
                return

    def _part(self) -> bool:
        """Part with what is behind the request that has been answered. False: it goes on here."""
        data, ended = self.connection.trailing_data
        if self.stream is not None or self.over or ended or self.connection.their_state is not h11.IDLE:
            return False
        self._left = data
        self.connection = h11.Connection(
            h11.SERVER, max_incomplete_event_size=self.config.h11_max_incomplete_size
        )
        return True

    async def _need_data(self) -> None:
        """Say what is missing; a chunk that can't be let in whole is not waited for."""
        state = self.connection.their_state
        if state is h11.SEND_BODY:
            if _rest_of_chunk(self.connection) > self._body_limit:
                await self._stop_reading((413, *too_large(self._body_limit)))
                return
            self._client.awaits_body()
        elif state is h11.IDLE and self.connection.trailing_data[0]:
            self._client.awaits_head()

    async def _begin(self, request: h11.Request) -> None:
        headers = list(request.headers)
        names = [name for name, _ in headers]
        target = request.target
        if target[:1] != b"/" and (where := _absolute(target)) is not None:
            host, target = where
            headers = [(b"host", host), *((n, v) for n, v in headers if n != b"host")]
        refusal: Refusal | None = None
        if request.http_version not in (b"1.0", b"1.1"):
            version = request.http_version.decode("ascii")
            refusal = 505, "VersionNotSupported", f"This server speaks HTTP/1.1, not HTTP/{version}."
        elif b"transfer-encoding" in names and b"content-length" in names:
            refusal = 400, "BadRequest", "A request has Transfer-Encoding or Content-Length, not both."
        elif len(headers) > MOST_FIELDS:
            refusal = 431, "HeadersTooLarge", f"A request has at most {MOST_FIELDS} header fields."
        elif sum(len(n) + len(v) for n, v in headers) + len(target) > self.config.h11_max_incomplete_size:
            refusal = self._too_large()
        if refusal is not None:
            self.over = True
        await self._open(
            refusal,
            Request(
                stream_id=STREAM_ID,
                headers=headers if refusal is None or refusal[0] != 431 else [],
                http_version=request.http_version.decode("ascii"),
                method=request.method.decode("ascii"),
                raw_path=target if refusal is None or refusal[0] != 431 else target.partition(b"?")[0][:1024],
                state=self.connection_state,
            ),
        )

    async def _open(self, refusal: Refusal | None, request: Request) -> None:
        await self.send(Updated(idle=False))
        self._refusal = refusal
        self.stream = HTTPStream(
            self.app,
            self.config,
            self.context,
            self,  # type: ignore[arg-type]
            self.ssl,
            self.client,
            self.server,
            self.stream_send,
            STREAM_ID,
        )
        await self.stream.handle(request)

    async def _broken(self, error: h11.RemoteProtocolError) -> None:
        """What came is not HTTP."""
        status = error.error_status_hint
        if self.connection.trailing_data[1]:
            self.over = True  # the client has gone: who waits for its body is told when the reading ends
            return
        if status == 431:
            refusal = self._too_large()
        else:
            # Not the line itself, which h11 quotes: it may hold a credential under a name nobody knows.
            reason = str(error).partition(": bytearray(")[0]
            refusal = status, "BadRequest", f"This is not HTTP/1.1: {reason}."
        if self.stream is not None:
            await self._stop_reading(refusal)
        elif self.connection.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            await self._refuse(*refusal)
        else:
            self.over = True

    def _too_large(self) -> Refusal:
        limit = self.config.h11_max_incomplete_size
        return 431, "HeadersTooLarge", f"A request's head has at most {limit} bytes."

    async def _refuse(self, status: int, kind: str, message: str) -> None:
        """Answer what never became a request."""
        self.over = True
        await self._client.refuse((status, kind, message))

    async def _stop_reading(self, refusal: Refusal) -> None:
        """The body of the request that is being read will not be had."""
        self.over = True
        await self._inbox.put({"type": "http.disconnect", REFUSED: refusal})

    async def _maybe_recycle(self) -> None:
        going_on = (
            not self.over
            and not self.context.terminated.is_set()
            and self.connection.our_state is h11.DONE
            and self.connection.their_state is h11.DONE
        )
        if going_on:
            await super()._maybe_recycle()
            return
        still_sending = self.over or self.connection.their_state is h11.SEND_BODY
        self.over = True
        await self._close_stream()
        await self.can_read.set()
        if still_sending:
            self._client.linger()
        else:
            await self.send(Closed())


def too_large(limit: int) -> tuple[str, str]:
    """Type and message of the refusal of a body."""
    return "BodyTooLarge", f"The body is larger than the limit of {limit} bytes (body_limit)."


def _rest_of_chunk(connection: h11.Connection) -> int:
    """Bytes of the chunk that is on its way; 0 where none is. Its size is said first, in up to 20 hex digits;
    h11 keeps the number to itself.
    """
    return int(getattr(connection._reader, "_bytes_in_chunk", 0))


def _absolute(target: bytes) -> tuple[bytes, bytes] | None:
    """Host and path of a target in absolute form (`http://host/path`), as a proxy would send it."""
    scheme, found, rest = target.partition(b"://")
    if not found or scheme.lower() not in (b"http", b"https"):
        return None
    at = min((i for i in (rest.find(b"/"), rest.find(b"?")) if i >= 0), default=len(rest))
    path = rest[at:]
    return rest[:at].rpartition(b"@")[2], path if path.startswith(b"/") else b"/" + path
