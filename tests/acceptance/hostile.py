"""What the tests of hostile clients need: a socket that says anything, and a neighbour who behaves."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.acceptance.conftest import Project, Server


@dataclass
class Answer:
    """One HTTP response."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def error(self) -> tuple[int, str]:
        """Status and the error's type."""
        return self.status, json.loads(self.body)["error"]["type"]

    @property
    def request_id(self) -> str:
        return self.headers["x-request-id"]


class Raw:
    """A TCP connection to the server."""

    def __init__(self, server: Server, seconds: float = 60, receive_buffer: int | None = None) -> None:
        self.socket = socket.socket()
        if receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(seconds)
        self.socket.connect(("127.0.0.1", httpx.URL(server.url).port))
        self._buffer = b""

    def __enter__(self) -> Raw:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> Raw:
        self.socket.sendall(data)
        return self

    def answer(self) -> Answer:
        """Read one response (with a content-length)."""
        head, _, rest = self._until(b"\r\n\r\n").partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        length = int(headers.get("content-length", "0"))
        while len(rest) < length:
            rest += self._more()
        self._buffer = rest[length:]
        return Answer(int(first.split()[1]), headers, rest[:length])

    def interim(self) -> bytes:
        """Read a head without a body (100 Continue)."""
        head, _, self._buffer = self._until(b"\r\n\r\n").partition(b"\r\n\r\n")
        return head

    def closed(self) -> bool:
        """Whether the server closes now; anything that it says instead fails."""
        try:
            found = self._buffer + self.socket.recv(1)
        except ConnectionResetError:
            return True
        assert found == b"", found
        return True

    def reset(self) -> None:
        """Close with a RST."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def drain(self) -> None:
        """Read until the server ends it; raises ConnectionResetError or EOFError."""
        while True:
            self._more()

    def _until(self, mark: bytes) -> bytes:
        while mark not in self._buffer:
            self._buffer += self._more()
        return self._buffer

    def _more(self) -> bytes:
        data = self.socket.recv(2**16)
        if not data:
            raise EOFError(f"the server closed after {self._buffer[:200]!r}")
        return data


def post(path: str, body: bytes = b"", *headers: str, kind: str = "application/json") -> bytes:
    """A POST as bytes."""
    lines = [f"POST {path} HTTP/1.1", "host: localhost", f"content-type: {kind}"]
    lines += [*headers, f"content-length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def get(target: str | bytes, *headers: str | bytes) -> bytes:
    """A GET as bytes; the target and the headers as they are."""
    lines: list[str | bytes] = [b"GET " + _bytes(target) + b" HTTP/1.1", "host: localhost", *headers, "", ""]
    return b"\r\n".join(_bytes(line) for line in lines)


def _bytes(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode("latin-1")


@dataclass
class Neighbour:
    """A client that behaves, on a thread of its own: whatever others do, it gets what it should."""

    url: str
    answers: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._stop, self._first = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        self._first.wait(60)

    def _run(self) -> None:
        with httpx.Client(base_url=self.url, timeout=60, trust_env=False) as client:
            number = 0
            while not self._stop.is_set():
                number += 1
                try:
                    answer = client.post("/kind", json={"number": number})
                    if (answer.status_code, answer.json()) != (200, {"number": number, "kind": True}):
                        self.problems.append(f"{number}: {answer.status_code} {answer.text[:200]}")
                    self.answers[answer.headers["x-request-id"]] = answer.json()
                except Exception as error:
                    self.problems.append(f"{number}: {error!r}")
                self._first.set()
                self._stop.wait(0.02)

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()


@contextlib.contextmanager
def beside_a_neighbour(project: Project) -> Iterator[Server]:
    """A server with a well-behaved client all the while; at the end its answers and records must be right,
    nothing must have gone wrong in the server, and it must stop in order.
    """
    project.typescript("kind", "    return { ...input, kind: true };")
    server = project.start("serve")
    neighbour = Neighbour(server.url)
    try:
        yield server
    finally:
        neighbour.stop()
        code = server.stop()
    assert code == 0, server.text()
    assert not neighbour.problems, neighbour.problems
    assert "Traceback" not in server.text(), server.text()
    [row] = project.json(
        "query",
        "SELECT jsonb_object_agg(request_id, output_json)::text AS answers FROM flux.executions"
        " WHERE function = 'kind' AND outcome = 'ok' AND status = 200",
    )
    assert json.loads(row["answers"]) == neighbour.answers
    assert neighbour.answers


def traced(project: Project, request_id: str) -> Any:
    return project.json("trace", request_id)


def resident(server: Server) -> int:
    pages = int(Path(f"/proc/{server.process.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def until(condition: Any, what: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def assert_rejected(project: Project, request_id: str, status: int, kind: str) -> Any:
    record = traced(project, request_id)
    assert (record["status"], record["outcome"], record["error"]["type"]) == (status, "rejected", kind)
    return record


def rejections(project: Project) -> dict[str, tuple[int, str]]:
    """Status and error type of all that were rejected."""
    rows = project.json(
        "query",
        "SELECT request_id, status, error->>'type' AS kind FROM flux.executions WHERE outcome = 'rejected'",
    )
    return {row["request_id"]: (row["status"], row["kind"]) for row in rows}
