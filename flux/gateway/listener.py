"""Hypercorn's connections on the gateway's socket, with two things made cheaper that every request pays for.

Hypercorn sends a response's head and body in a write each, and keeps a task with a timer for each idle
connection, made and
cancelled anew around every request. Here head and body leave in one write, and one timer per connection
looks at a
deadline when it fires. Protocols, limits and configuration are Hypercorn's.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine
from typing import Any

from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.asyncio.tcp_server import MAX_RECV, TCPServer
from hypercorn.asyncio.worker_context import WorkerContext
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData

LINGER = 0.05
"""Seconds after the signal to stop in which idle connections still take a request that is on its way."""


class IdleTimer:
    """Ends a connection that has been idle for too long. Stands in for Hypercorn's AsyncioSingleTask."""

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        self._loop = loop
        self._seconds = seconds
        self._deadline: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._close: Callable[[], Coroutine[Any, Any, None]] | None = None
        self._closing: asyncio.Task[None] | None = None

    @property
    def idle(self) -> bool:
        """Whether no request is being answered."""
        return self._deadline is not None

    def closes(self, close: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """What to do when the time is up."""
        self._close = close

    async def restart(self, _task_group: object, _action: object) -> None:
        """The connection is idle from now on."""
        self._deadline = self._loop.time() + self._seconds
        if self._timer is None:
            self._timer = self._loop.call_later(self._seconds, self._look)

    async def stop(self) -> None:
        """The connection is in use, or closed."""
        self._deadline = None

    def cancel(self) -> None:
        """The connection is gone."""
        self._deadline = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        if self._deadline is None:
            return
        left = self._deadline - self._loop.time()
        if left > 0:
            self._timer = self._loop.call_later(left, self._look)
        elif self._close is not None:
            self._closing = self._loop.create_task(self._close())


class Connection(TCPServer):
    """One client's connection."""

    idle_task: Any

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.idle_task = IdleTimer(self.loop, self.config.keep_alive_timeout)
        self.idle_task.closes(self._initiate_server_close)
        self._held = b""

    async def run(self) -> None:
        """Serve until the connection closes."""
        try:
            await super().run()
        finally:
            self.idle_task.cancel()

    async def protocol_send(self, event: Event) -> None:
        """Send what the protocol has to say; a response's head waits for what follows it in the same step."""
        if not isinstance(event, RawData):
            if isinstance(event, Closed):
                self._flush()
            await super().protocol_send(event)
            return
        data = event.data
        if not data:
            self._flush()
        elif not self._held and data.startswith(b"HTTP/1.1 ") and data.endswith(b"\r\n\r\n"):
            self._held = data
            self.loop.call_soon(self._flush)
        else:
            held, self._held = self._held, b""
            await super().protocol_send(RawData(held + data))

    def _flush(self) -> None:
        held, self._held = self._held, b""
        if held and not self.writer.is_closing():
            self.writer.write(held)

    async def _read_data(self) -> None:
        """Take what comes until the connection ends. Bytes that are read only when this side has been closed
        already begin no request: it would run, and nobody could be answered."""
        while not self.reader.at_eof():
            try:
                data = await asyncio.wait_for(self.reader.read(MAX_RECV), self.config.read_timeout)
            except (OSError, TimeoutError):
                break
            if self.writer.is_closing():
                break
            await self.protocol.handle(RawData(data))
        await self.protocol.handle(Closed())

    async def end_idle(self) -> None:
        """The server stops: close unless a request is being answered."""
        if self.idle_task.idle:
            await self._initiate_server_close()


async def listen(app: Any, config: Config, sock: socket.socket, stop: asyncio.Event) -> None:
    """Serve `app` (ASGI) on a bound socket until `stop`, then let requests in flight finish.

    Args:
        config: Hypercorn's; `graceful_timeout` bounds the last step, in seconds. Taken over.
    """
    loop = asyncio.get_running_loop()
    wrapped = ASGIWrapper(app)
    context = WorkerContext(None)
    connections: dict[asyncio.Task[Any], Connection] = {}

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        connection = Connection(wrapped, loop, config, context, {}, reader, writer)
        connections[task] = connection
        try:
            await connection.run()
        finally:
            del connections[task]

    server = await asyncio.start_server(serve, sock=sock, backlog=config.backlog)
    try:
        await stop.wait()
    finally:
        server.close()
        config.keep_alive_max_requests = 0  # answers say `connection: close` from now on
        await context.terminated.set()
        await asyncio.sleep(LINGER)
        for connection in list(connections.values()):
            await connection.end_idle()
        if connections:
            _, late = await asyncio.wait(set(connections), timeout=config.graceful_timeout)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
