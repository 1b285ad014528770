"""The gateway's socket: connections accepted, at most so many at once, and let go of when the server stops.

Requests and answers are Hypercorn's (streams over h11), the connection is Flux's own: Hypercorn's sends head
and body in a write each, keeps a task with a timer for each idle connection, waits for slow clients for
ever, and is left hanging by a body that nobody reads.
"""

from __future__ import annotations

import asyncio
import resource
import socket
import time
from typing import Any

from hypercorn.asyncio.worker_context import WorkerContext
from hypercorn.config import Config
from hypercorn.utils import parse_socket_addr

from flux.gateway.connection import Application, Connection, Patience
from flux.gateway.flood import Flood
from flux.gateway.http1 import Refusal
from flux.gateway.plain import NOTHING, Dates

RESERVED = 256
"""File descriptors that are kept for what is not a client's connection: spool, guests, database, code."""
MOST_DESCRIPTORS = 2**16
LAST_CALL = 0.05
"""Seconds after the signal to stop in which idle connections still take a request that is on its way."""
_NO_ROOM: Refusal = (503, "TooManyConnections", "All connections of this server are in use.")


def room_for(connections: int) -> int:
    """How many connections this process can hold, `connections` at most.

    Raises its limit of open files as far as it may: Linux gives a process 1,024 unless it asks.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MOST_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, MOST_DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        soft = most
    files = MOST_DESCRIPTORS if soft == resource.RLIM_INFINITY else soft
    return max(min(connections, files - RESERVED), 1)


async def listen(
    app: Application,
    flood: Flood,
    config: Config,
    sock: socket.socket,
    stop: asyncio.Event,
    *,
    patience: Patience,
    connections: int,
    body_limit: int,
) -> None:
    """Serve `app` on a bound socket until `stop`, then let requests in flight finish.

    Args:
        flood: answers in the application's place what it can.
        config: Hypercorn's; `graceful_timeout` bounds the last step, in seconds. Taken over.
        patience: how long clients are waited for.
        connections: most of them at once, not more than there is room for. One more takes the place of one
            that is idle; where none is, it is answered 503.
        body_limit: bytes that a request's body may have; a chunk that is larger by itself is not waited for.
    """
    context = WorkerContext(None)
    served: dict[asyncio.Task[Any], Connection] = {}
    leaving: set[asyncio.Task[Any]] = set()
    dates = Dates()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        if len(served) >= connections:
            idle = next((task for task, connection in served.items() if connection.idle), None)
            if idle is None:
                leaving.add(task)
                date = dates.at(time.time())
                try:
                    await _turn_away(app, reader, writer, date, patiently=len(leaving) <= RESERVED // 4)
                finally:
                    leaving.discard(task)
                return
            leaving.add(idle)
            await served.pop(idle).end_idle()
        connection = Connection(patience, app, flood, config, context, body_limit, dates, reader, writer)
        served[task] = connection
        try:
            await connection.run()
        except asyncio.CancelledError:
            # Cut off below. asyncio's streams would log a traceback of a task that was cancelled.
            if not context.terminated.is_set():
                raise
        finally:
            served.pop(task, None)
            leaving.discard(task)

    server = await asyncio.start_server(serve, sock=sock, backlog=config.backlog)
    try:
        await stop.wait()
    finally:
        server.close()
        config.keep_alive_max_requests = 0  # answers say `connection: close` from now on
        await context.terminated.set()
        await asyncio.sleep(LAST_CALL)
        for connection in list(served.values()):
            await connection.end_idle()
        if open_still := leaving.union(served):
            _, late = await asyncio.wait(open_still, timeout=config.graceful_timeout)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)


async def _turn_away(
    app: Application,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    date: bytes,
    *,
    patiently: bool,
) -> None:
    """Say that there is no room, and give the client a second to take it where there are not too many."""
    sock = writer.get_extra_info("socket")
    try:
        client = parse_socket_addr(sock.family, sock.getpeername())
        answer = await app.answer(NOTHING, client, _NO_ROOM)
        writer.write(answer.head(date, last=True) + answer.body)
        writer.write_eof()
        async with asyncio.timeout(1 if patiently else 0):
            while await reader.read(2**16):
                pass
    except (OSError, TimeoutError):
        pass
    finally:
        writer.transport.abort()
