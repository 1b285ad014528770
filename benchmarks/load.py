"""The load generator: keep-alive HTTP/1.1 connections on uvloop, one request in flight each, one write a
request. Run by the benchmarks as a process of its own.

Its `cpu` is the part of one core that it took itself: what it takes, the server on the same machine has not.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time

import uvloop


class Connection(asyncio.Protocol):
    """Sends the same request again and again, `pause` seconds after an answer, and takes the time of each."""

    def __init__(
        self, request: bytes, until: float, pause: float, latencies: list[float], failures: list[bytes]
    ) -> None:
        self._request = request
        self._until = until
        self._pause = pause
        self._latencies = latencies
        self._failures = failures
        self._buffer = bytearray()
        self._finished = False
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._send()

    def _send(self) -> None:
        self._sent = time.perf_counter()
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer
        buffer += data
        end = buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = bytes(buffer[:end]).lower()
        at = head.index(b"content-length: ") + 16
        stop = head.find(b"\r\n", at)
        length = int(head[at : stop if stop > 0 else None])
        if len(buffer) < end + 4 + length:
            return
        now = time.perf_counter()
        self._latencies.append(now - self._sent)
        if not head.startswith(b"http/1.1 2"):
            self._failures.append(bytes(buffer[:200]))
        del buffer[: end + 4 + length]
        if now + self._pause < self._until:
            if self._pause:
                asyncio.get_running_loop().call_later(self._pause, self._send)
            else:
                self._send()
        else:
            self._finished = True
            self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        if not self._finished:
            self._failures.append(b"the connection was lost")
        if not self.done.done():
            self.done.set_result(None)


async def run(
    host: str, ports: list[int], request: bytes, connections: int, seconds: float, pause: float
) -> dict[str, float]:
    """Load the servers, connections dealt out evenly, and report requests/s and latencies in milliseconds."""
    latencies: list[float] = []
    failures: list[bytes] = []
    loop = asyncio.get_running_loop()
    began, spent = time.perf_counter(), time.process_time()
    made = [
        await loop.create_connection(
            lambda: Connection(request, began + seconds, pause, latencies, failures),
            host,
            ports[number % len(ports)],
        )
        for number in range(connections)
    ]
    await asyncio.gather(*(protocol.done for _, protocol in made))
    elapsed = time.perf_counter() - began
    spent = time.process_time() - spent
    ordered = sorted(latencies)
    return {
        "requests": len(ordered),
        "failed": len(failures),
        "rps": len(ordered) / elapsed,
        "p50_ms": ordered[len(ordered) // 2] * 1000,
        "p99_ms": ordered[int(len(ordered) * 0.99)] * 1000,
        "seconds": elapsed,
        "cpu": spent / elapsed,
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("host")
    parser.add_argument("port", type=int, nargs="+")
    parser.add_argument("--method", default="GET")
    parser.add_argument("--path", default="/")
    parser.add_argument("--body", default="")
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--pause", type=float, default=0, help="seconds between answer and next request")
    given = parser.parse_args()
    body = given.body.encode()
    head = f"{given.method} {given.path} HTTP/1.1\r\nhost: {given.host}:{given.port[0]}\r\n"
    if body:
        head += f"content-type: application/json\r\ncontent-length: {len(body)}\r\n"
    request = f"{head}\r\n".encode() + body
    found = run(given.host, given.port, request, given.connections, given.seconds, given.pause)
    print(json.dumps(uvloop.run(found)))


if __name__ == "__main__":
    main()
