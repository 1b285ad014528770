"""Load on a running server: clients on keep-alive connections, each sending one request after the other.

What a client saw is kept to the byte, because the fault tests compare it with the record.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class Answer:
    """A whole answer, and the request that it is to."""

    token: str
    path: str
    request_id: str
    status: int
    headers: dict[str, str]
    body: bytes


@dataclass
class Load:
    """Clients of one server.

    Attributes:
        url: the server's.
        path: the function for a client's n-th request.
        answers: every answer that came whole, in order.
        sent: the token of every request that was written, with its path.
        ends: how each client's connection ended: `closed` (nothing of an answer under way), `cut` (in the
            middle of an answer), or `reset`.
    """

    url: str
    path: Callable[[int], str]
    answers: list[Answer] = field(default_factory=list)
    sent: dict[str, str] = field(default_factory=dict)
    ends: list[Literal["closed", "cut", "reset"]] = field(default_factory=list)

    @property
    def unanswered(self) -> set[str]:
        """Tokens of requests that were written and got no whole answer."""
        return set(self.sent) - {answer.token for answer in self.answers}

    def clients(self, count: int, prefix: str) -> list[asyncio.Task[None]]:
        """Start `count` clients; each ends when its connection does."""
        return [asyncio.create_task(self._client(f"{prefix}-{n}", n)) for n in range(count)]

    async def answered(self, count: int, seconds: float = 60.0) -> None:
        """Wait until there are `count` answers."""
        async with asyncio.timeout(seconds):
            while len(self.answers) < count:
                await asyncio.sleep(0.005)

    async def request(self, path: str, token: str) -> Answer:
        """One request on a connection of its own."""
        reader, writer = await self._connect()
        try:
            return await self._exchange(reader, writer, path, token)
        finally:
            await _close(writer)

    async def _client(self, prefix: str, offset: int) -> None:
        reader, writer = await self._connect()
        count = offset
        try:
            while True:
                count += 1
                await self._exchange(reader, writer, self.path(count), f"{prefix}-{count}")
        except asyncio.IncompleteReadError as error:
            self.ends.append("cut" if error.partial else "closed")
        except OSError:
            self.ends.append("reset")
        finally:
            await _close(writer)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        host, port = self.url.removeprefix("http://").split(":")
        return await asyncio.open_connection(host, int(port))

    async def _exchange(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str, token: str
    ) -> Answer:
        body = json.dumps({"token": token}).encode()
        head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        head += f"content-length: {len(body)}\r\n\r\n"
        self.sent[token] = path
        writer.write(head.encode() + body)
        lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
        output = await reader.readexactly(int(headers["content-length"]))
        answer = Answer(token, path, headers["x-request-id"], int(lines[0].split()[1]), headers, output)
        self.answers.append(answer)
        if headers.get("connection") == "close":
            output = await reader.read()
            raise asyncio.IncompleteReadError(output, None)
        return answer


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
