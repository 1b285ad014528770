"""The load generator for requests that are refused: pre-built batches over raw sockets, answers counted and
not looked into. Run by rejections.py as a process of its own.

A batch is written whole and answered whole before the next one follows on the same connection. Where an
answer ends its connection (a body over the limit, a head that is no HTTP), each request has one of its own.
"""

from __future__ import annotations

import argparse
import json
import selectors
import socket
import sys
import time

READ = 2**18
MARK = b"HTTP/1.1 "
TAIL = len(MARK) + 3
"""Bytes that say an answer's status: the mark and three digits."""
PATIENCE = 30.0
"""Seconds that an answer may take before the run is given up."""

REQUESTS = {
    "404": b"GET /nowhere HTTP/1.1\r\nhost: localhost\r\n\r\n",
    "405": b"DELETE /hello HTTP/1.1\r\nhost: localhost\r\n\r\n",
    "400 JSON": b"POST /insert HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    b"content-length: 1\r\n\r\n{",
    "413": b"POST /insert HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000000000\r\n\r\n",
    "400 head": b"GET /hello HTTP/1.1\r\nhost: localhost\r\nno header\r\n\r\n",
}
"""By what they are refused with; the number is the status. benchmarks/project.py has the functions."""
CLOSING = frozenset({"413", "400 head"})
"""Those whose answer ends the connection."""


class Client:
    """One connection and what is still to come on it."""

    def __init__(self, port: int, batch: bytes, size: int, status: bytes) -> None:
        self._address = ("127.0.0.1", port)
        self._batch = batch
        self._size = size
        self._wanted = MARK + status
        self.answered = self.others = 0

    def begin(self) -> None:
        """Connect, and send the first batch."""
        self.socket = socket.create_connection(self._address, timeout=PATIENCE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.send()

    def send(self) -> None:
        """The next batch."""
        self._seen, self._tail = 0, b""
        self.socket.sendall(self._batch)

    def read(self) -> tuple[bool, bool]:
        """Take what has come: whether the batch is answered, and whether the connection has ended."""
        data = self.socket.recv(READ)
        if not data:
            return self._seen == self._size, True
        data = self._tail + data
        heads, wanted = data.count(MARK), data.count(self._wanted)
        if MARK in data[-TAIL + 1 :]:  # its status is still to come
            heads -= 1
        self._tail = data[-TAIL + 1 :]
        self.answered += wanted
        self.others += heads - wanted
        self._seen += heads
        return self._seen == self._size, False


def run(port: int, kind: str, connections: int, depth: int, seconds: float) -> dict[str, float]:
    """Send requests of a kind for so long, and count."""
    closing = kind in CLOSING
    size = 1 if closing else depth
    clients = [Client(port, REQUESTS[kind] * size, size, kind[:3].encode()) for _ in range(connections)]
    selector = selectors.DefaultSelector()
    began, spent = time.perf_counter(), time.process_time()
    until = began + seconds
    for client in clients:
        client.begin()
        selector.register(client.socket, selectors.EVENT_READ, client)
    working = len(clients)
    while working:
        events = selector.select(PATIENCE)
        if not events:
            sys.exit("the server has stopped answering")
        for event, _ in events:
            client = event.data
            done, ended = client.read()
            if ended:
                selector.unregister(client.socket)
                client.socket.close()
                if not (closing and done):
                    client.others += 1
            elif not done or closing:
                continue
            if time.perf_counter() >= until or (ended and not closing):
                if not ended:
                    selector.unregister(client.socket)
                    client.socket.close()
                working -= 1
            elif ended:
                client.begin()
                selector.register(client.socket, selectors.EVENT_READ, client)
            else:
                client.send()
    elapsed = time.perf_counter() - began
    answered = sum(client.answered for client in clients)
    return {
        "answered": answered,
        "others": sum(client.others for client in clients),
        "rate": answered / elapsed,
        "seconds": elapsed,
        "cpu": (time.process_time() - spent) / elapsed,
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("kind", choices=tuple(REQUESTS))
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--depth", type=int, default=1, help="requests of a batch")
    parser.add_argument("--seconds", type=float, default=5)
    given = parser.parse_args()
    print(json.dumps(run(given.port, given.kind, given.connections, given.depth, given.seconds)))


if __name__ == "__main__":
    main()
