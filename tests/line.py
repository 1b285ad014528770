"""A line to Postgres that a test can cut, or silence: what is on it then gets nowhere, and nobody is told."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from urllib.parse import parse_qs, urlsplit, urlunsplit


class Line:
    """Hands what comes on a loopback port to Postgres, and back.

    Attributes:
        url: of the same database, over this line.
        last_words: a connection on which they were sent is lost when the answer to its COMMIT comes.
    """

    last_words = b""

    def __init__(self, url: str) -> None:
        self._there = urlsplit(url)
        self.url = ""
        self._speaks = asyncio.Event()
        self._speaks.set()
        self._callers: set[asyncio.StreamWriter] = set()
        self._calls: set[asyncio.Task[None]] = set()

    @contextlib.asynccontextmanager
    async def laid(self) -> AsyncIterator[Line]:
        """Open, until the end of the block."""
        server = await asyncio.start_server(self._call, "127.0.0.1", 0)
        host, port = server.sockets[0].getsockname()
        user = self._there.netloc.rpartition("@")[0]
        self.url = urlunsplit(
            ("postgresql", f"{user}@{host}:{port}", self._there.path, "sslmode=disable", "")
        )
        try:
            yield self
        finally:
            server.close()
            self.cut()
            self.mend()
            await asyncio.gather(*self._calls)

    def cut(self) -> None:
        """Every connection there is is lost."""
        for caller in self._callers:
            caller.transport.abort()

    def silence(self) -> None:
        """From now on nothing gets through, on connections there are and new ones; none is lost."""
        self._speaks.clear()

    def mend(self) -> None:
        """What was held up goes on."""
        self._speaks.set()

    async def _call(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._calls.add(task)
        self._callers.add(writer)
        try:
            there, back = await self._postgres()
            ways = [
                asyncio.ensure_future(self._carry(reader, back, doomed := asyncio.Event())),
                asyncio.ensure_future(self._return(there, writer, doomed)),
            ]
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)
                back.transport.abort()
        finally:
            self._callers.discard(writer)
            self._calls.discard(task)
            writer.transport.abort()

    async def _carry(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, doomed: asyncio.Event
    ) -> None:
        said = False
        while data := await reader.read(65536):
            await self._speaks.wait()
            said = said or (bool(self.last_words) and self.last_words in data)
            if said and b"COMMIT" in data:
                doomed.set()
            writer.write(data)
            await writer.drain()

    async def _return(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, doomed: asyncio.Event
    ) -> None:
        while data := await reader.read(65536):
            await self._speaks.wait()
            if doomed.is_set() and b"COMMIT" in data:
                return
            writer.write(data)
            await writer.drain()

    async def _postgres(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        port = self._there.port or 5432
        host = self._there.hostname or parse_qs(self._there.query)["host"][0]
        if host.startswith("/"):
            return await asyncio.open_unix_connection(f"{host}/.s.PGSQL.{port}")
        return await asyncio.open_connection(host, port)
