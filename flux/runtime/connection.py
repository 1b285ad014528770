"""The sockets to a guest process: frames in, frames out, and how much may wait for a guest that doesn't read.
Used by GuestProcess.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Mapping
from typing import cast

from flux.errors import RuntimeFault
from flux.runtime.frames import Decoder, Header

MOST_UNREAD = 256 * 2**20
"""Bytes of replies that may wait for a guest to read them."""
HIGH_WATER = 4 * 2**20

Taker = Callable[[Header, bytes], None]


class Connection(asyncio.Protocol):
    """Our end of a guest's socket. Belongs to one event loop.

    Args:
        takers: what acts on a frame, by its type; a fault, or an error that a malformed header leads to, is a
            breach.
        breach: told, in words, how the guest broke the protocol or stopped reading; it is to `close`.
        lost: told that the guest closed its end.

    Attributes:
        heard: when something last came, on the loop's clock.
        writable: None, or where the guest is not keeping up, what is done once it has caught up.
    """

    def __init__(
        self,
        *,
        takers: Mapping[str, Taker],
        breach: Callable[[str], None],
        lost: Callable[[], None],
    ) -> None:
        self.heard = 0.0
        self.writable: asyncio.Future[None] | None = None
        self._loop = asyncio.get_running_loop()
        self._takers = takers
        self._breach = breach
        self._lost = lost
        self._transport: asyncio.Transport | None = None
        self._outlet: asyncio.Transport | None = None
        self._decoder = Decoder()
        self._outgoing: list[bytes] = []
        self._closed = False

    def write(self, *parts: bytes) -> None:
        """Queue a frame's bytes. Frames of one turn of the event loop leave in one write: waking the guest
        costs more than all else."""
        if not self._outgoing:
            self._loop.call_soon(self._flush)
        self._outgoing += parts

    def close(self) -> None:
        """Neither read nor write any more; who waits for `writable` goes on. Idempotent."""
        self._closed = True
        for transport in (self._transport, self._outlet):
            if transport is not None:
                transport.abort()
        self.resume_writing()

    async def write_to(self, sock: socket.socket) -> None:
        """Send frames through a socket of their own from now on. It is owned."""
        transport, _ = await self._loop.create_unix_connection(lambda: _Outlet(self, self._breach), sock=sock)
        self._outlet = transport
        transport.set_write_buffer_limits(high=HIGH_WATER)
        if self._closed:
            transport.abort()

    def _flush(self) -> None:
        parts, self._outgoing = self._outgoing, []
        transport = self._outlet or self._transport
        if self._closed or transport is None:
            return
        transport.write(b"".join(parts))
        if transport.get_write_buffer_size() > MOST_UNREAD:
            self._breach("it stopped reading its replies")

    # What the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is ours."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=HIGH_WATER)

    def data_received(self, data: bytes) -> None:
        """Bytes from the guest: act on the frames that they complete."""
        if self._closed:
            return
        self.heard = self._loop.time()
        takers = self._takers
        try:
            for header, body in self._decoder.feed(data):
                kind = header["t"]
                if kind not in takers:
                    raise RuntimeFault(f"a frame of unknown type {str(kind)[:40]!r}")
                takers[kind](header, body)
                if self._closed:
                    return
        except RuntimeFault as fault:
            self._breach(f"it broke the protocol: {fault.message}")
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            self._breach(f"it broke the protocol: a malformed frame ({type(error).__name__}: {error})")

    def pause_writing(self) -> None:
        """The guest is not keeping up: new invocations wait."""
        self.writable = self._loop.create_future()

    def resume_writing(self) -> None:
        """The guest has caught up."""
        writable, self.writable = self.writable, None
        if writable is not None and not writable.done():
            writable.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """The guest closed its end, or we did."""
        self._lost()


class _Outlet(asyncio.Protocol):
    """The socket that frames leave through, where it is another than they come by."""

    def __init__(self, connection: Connection, breach: Callable[[str], None]) -> None:
        self._connection = connection
        self._breach = breach

    def data_received(self, data: bytes) -> None:
        """Nothing comes this way."""
        self._breach("it wrote to the socket that it reads from")

    def pause_writing(self) -> None:
        """See `Connection`."""
        self._connection.pause_writing()

    def resume_writing(self) -> None:
        """See `Connection`."""
        self._connection.resume_writing()
