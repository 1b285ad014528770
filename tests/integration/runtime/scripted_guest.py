"""A guest without a language: it speaks frames and does what an invocation's body says. The tests run it."""

from __future__ import annotations

import json
import os
import socket
import struct
import sys
import time
from typing import Any

wire = socket.socket(fileno=0)
cancelled: list[int] = []
LATE: dict[str, dict[str, Any]] = {
    "done": {"t": "done"},
    "error": {"t": "error", "error": {"type": "E", "message": "late"}},
    "call": {"t": "call", "n": 7, "op": "db.sql"},
    "note": {"t": "note", "n": 8, "op": "log"},
    "abort": {"t": "abort", "n": 7},
}


def send(header: dict[str, Any], body: bytes = b"") -> None:
    head = json.dumps(header).encode()
    wire.sendall(struct.pack(">II", 4 + len(head) + len(body), len(head)) + head + body)


def receive() -> tuple[dict[str, Any], bytes]:
    length, head = struct.unpack(">II", exactly(8))
    return json.loads(exactly(head)), exactly(length - 4 - head)


def exactly(size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = wire.recv(size - len(data))
        if not more:
            sys.exit(0)
        data += more
    return data


def act(i: int, what: str) -> None:
    if what == "echo":
        send({"t": "done", "i": i}, b'"echo"')
    elif what == "die":
        os._exit(7)
    elif what == "block":
        time.sleep(60)
    elif what == "pause":
        time.sleep(0.5)
        send({"t": "done", "i": i}, b'"paused"')
    elif what == "call":
        send({"t": "call", "i": i, "n": 1, "op": "db.sql"}, b"{}")
    elif what == "call and done":
        send({"t": "call", "i": i, "n": 1, "op": "queue.push"}, b"{}")
        send({"t": "done", "i": i}, b"1")
    elif what == "abort":
        send({"t": "call", "i": i, "n": 1, "op": "fetch"}, b"{}")
        send({"t": "abort", "i": i, "n": 1})
        send({"t": "done", "i": i}, b"1")
    elif what == "done twice":
        send({"t": "done", "i": i}, b"1")
        send({"t": "done", "i": i}, b"1")
    elif what == "cancelled":
        send({"t": "done", "i": i}, json.dumps(cancelled).encode())
    elif what.startswith("late "):
        for number in cancelled:
            for kind in what.split()[1:]:
                send({**LATE[kind], "i": number}, b"{}")
        send({"t": "done", "i": i}, b'"late"')
    elif what == "stop reading":
        for n in range(1, 2000):
            send({"t": "call", "i": i, "n": n, "op": "fetch"}, b"{}")
        time.sleep(60)
    elif what == "stray":
        print("stray line", file=sys.stderr, flush=True)
        send({"t": "done", "i": i}, b"null")
    elif what.startswith("flood of "):
        flood(i, what.removeprefix("flood of "))
        send({"t": "done", "i": i}, b'"flooded"')
    elif what.startswith("bytes "):
        wire.sendall(bytes.fromhex(what.removeprefix("bytes ")))
    elif what == "close":
        wire.close()
        os.close(1)
        time.sleep(60)
    elif what.startswith("{"):
        send({key: i if value == "i" else value for key, value in json.loads(what).items()}, b"{}")
    elif what == "oversize":
        wire.sendall(struct.pack(">II", 2**31, 10))
    elif what == "garbage":
        wire.sendall(b"\x00\x00\x00\x0c\x00\x00\x00\x08not json")


def flood(i: int, what: str) -> None:
    if what == "lines":
        for n in range(100_000):
            print("stray line", n, file=sys.stderr)
        sys.stderr.flush()
    elif what == "notes":
        for n in range(1, 50_001):
            send({"t": "note", "i": i, "n": n, "op": "log"}, b"{}")
    elif what == "nothing":
        wire.sendall(bytes(2**20))
    else:
        kinds: dict[str, dict[str, Any]] = {
            "pongs": {"t": "pong", "k": 1},
            "calls": {"t": "call", "i": i, "n": 1, "op": "db.sql"},
            "aborts": {"t": "abort", "i": i, "n": 5},
        }
        for _ in range(50_000):
            send(kinds[what])


def main() -> None:
    if sys.argv[1:] == ["never boots"]:
        time.sleep(60)
    if sys.argv[1:] == ["dies"]:
        print("no room", file=sys.stderr)
        sys.exit(3)
    send({"t": "booted", "guest": {"scripted": "1"}})
    while True:
        header, body = receive()
        if header["t"] == "start":
            send({"t": "ready"})
        elif header["t"] == "invoke":
            act(header["i"], json.loads(body))
        elif header["t"] == "reply":
            send({"t": "done", "i": header["i"]}, body or b'"error"')
        elif header["t"] == "cancel":
            cancelled.append(header["i"])
        elif header["t"] == "ping":
            send({"t": "pong", "k": header["k"]})


main()
