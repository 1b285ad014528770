"""A real HTTP server that misbehaves on demand."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field


@dataclass
class Received:
    """A request as the server got it."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes

    def values(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name]


Answer = Callable[[Received, asyncio.StreamWriter], Awaitable[None]]


def answer(
    status: str = "200 OK", body: bytes = b"", headers: tuple[str, ...] = (), length: int | None = None
) -> Answer:
    """A fixed answer; `length` may lie about the body's."""

    async def send(request: Received, writer: asyncio.StreamWriter) -> None:
        lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body) if length is None else length}", *headers]
        writer.write("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body)

    return send


@dataclass
class HttpServer:
    """Answers by path; `got` is what it received. An answer that closes the writer ends the connection."""

    port: int = 0
    routes: dict[str, Answer] = field(default_factory=dict)
    got: list[Received] = field(default_factory=list)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    dropped: asyncio.Event = field(default_factory=asyncio.Event)
    connections: int = 0
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self.serve(reader, writer))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    @asynccontextmanager
    async def listening(
        self, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None
    ) -> AsyncIterator[None]:
        listener = await asyncio.start_server(self.accept, host, 0, ssl=tls)
        self.port = listener.sockets[0].getsockname()[1]
        try:
            yield
        finally:
            listener.close()
            for task in self.tasks:
                task.cancel()
            await asyncio.gather(*self.tasks, return_exceptions=True)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while not writer.is_closing():
                request = await self._read(reader)
                self.got.append(request)
                self.arrived.set()
                await self.routes[request.target.partition("?")[0]](request, writer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            self.dropped.set()
        finally:
            writer.close()

    async def _read(self, reader: asyncio.StreamReader) -> Received:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, target, _ = head[0].split(" ")
        headers = [(key, value.strip()) for key, _, value in (line.partition(":") for line in head[1:-2])]
        length = next((int(value) for key, value in headers if key.lower() == "content-length"), 0)
        return Received(method, target, headers, await reader.readexactly(length))
