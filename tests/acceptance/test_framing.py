"""Where a request ends and the next one begins: what could be read in two ways is refused and closes the
connection, the rest is answered alike however it is cut into packets (RFC 9112).
"""

from __future__ import annotations

import json
import random
import re
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import pytest

from tests.acceptance.conftest import Project, Server
from tests.acceptance.hostile import Raw, beside_a_neighbour, get, post

BODY = b'{"a":1}'
HEAD = b"POST /echo HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
CHUNKS = b"7\r\n" + BODY + b"\r\n0\r\n\r\n"
CHUNKED = b"transfer-encoding: chunked\r\n\r\n"
NEXT = b"GET /next HTTP/1.1\r\nhost: localhost\r\n\r\n"
"""Answered 404 where the server takes it for a request of its own."""

BROKEN = {
    "different lengths": (400, HEAD + b"content-length: 7\r\ncontent-length: 8\r\n\r\n" + BODY),
    "different lengths in a list": (400, HEAD + b"content-length: 7, 8\r\n\r\n" + BODY),
    "a length with a sign": (400, HEAD + b"content-length: +7\r\n\r\n" + BODY),
    "a length in hex": (400, HEAD + b"content-length: 0x7\r\n\r\n" + BODY),
    "a length with a space in it": (400, HEAD + b"content-length: 0 7\r\n\r\n" + BODY),
    "an empty length": (400, HEAD + b"content-length:\r\n\r\n" + BODY),
    "a length beyond 64 bits": (413, HEAD + b"content-length: 99999999999999999999\r\n\r\n" + BODY),
    "a length and chunks": (400, HEAD + b"content-length: 7\r\n" + CHUNKED + CHUNKS),
    "chunks and a length": (400, HEAD + b"transfer-encoding: chunked\r\ncontent-length: 7\r\n\r\n" + CHUNKS),
    "chunks twice": (501, HEAD + b"transfer-encoding: chunked\r\n" + CHUNKED + CHUNKS),
    "chunks of chunks": (501, HEAD + b"transfer-encoding: chunked, chunked\r\n\r\n" + CHUNKS),
    "another coding before chunks": (501, HEAD + b"transfer-encoding: gzip, chunked\r\n\r\n" + CHUNKS),
    "another coding": (501, HEAD + b"transfer-encoding: identity\r\n\r\n" + CHUNKS),
    "an empty coding": (501, HEAD + b"transfer-encoding:\r\n\r\n" + CHUNKS),
    "a coding behind a vertical tab": (400, HEAD + b"transfer-encoding:\x0bchunked\r\n\r\n" + CHUNKS),
    "a space before the coding's colon": (400, HEAD + b"transfer-encoding : chunked\r\n\r\n" + CHUNKS),
    "a chunk of 0x7": (400, HEAD + CHUNKED + b"0x" + CHUNKS),
    "a chunk of -7": (400, HEAD + CHUNKED + b"-" + CHUNKS),
    "a chunk beyond 64 bits": (400, HEAD + CHUNKED + b"f" * 24 + b"\r\n" + CHUNKS),
    "a chunk that ends in bare newlines": (400, HEAD + CHUNKED + CHUNKS.replace(b"\r\n", b"\n")),
    "a chunk longer than it says": (400, HEAD + CHUNKED + CHUNKS.replace(b"7", b"6", 1)),
    "a newline in a chunk's extension": (400, HEAD + CHUNKED + b"7;a\nb" + CHUNKS[1:]),
    "a bare CR in a field": (400, get("/echo", "x-a: b\rcontent-length: 7")),
    "lines that end in a bare CR": (400, get("/echo").replace(b"\r\n", b"\r")),
    "a folded first field": (400, b"GET /echo HTTP/1.1\r\n x: y\r\nhost: localhost\r\n\r\n"),
    "a field without a name": (400, get("/echo", ": b")),
    "two spaces": (400, b"GET  /echo HTTP/1.1\r\nhost: localhost\r\n\r\n"),
    "a tab for a space": (400, b"GET\t/echo HTTP/1.1\r\nhost: localhost\r\n\r\n"),
    "a space behind the version": (400, b"GET /echo HTTP/1.1 \r\nhost: localhost\r\n\r\n"),
    "a version in lower case": (400, b"GET /echo http/1.1\r\nhost: localhost\r\n\r\n"),
    "a later version": (505, b"GET /echo HTTP/1.2\r\nhost: localhost\r\n\r\n"),
}
"""Refused, the connection closed: what follows is no request."""

LAST = {
    "a connection to be closed": get("/echo?a=1", "connection: x, Close"),
    "HTTP/1.0": b"GET /echo?a=1 HTTP/1.0\r\nconnection: keep-alive\r\n\r\n",
    "chunks in HTTP/1.0": HEAD.replace(b"1.1", b"1.0") + CHUNKED + CHUNKS,
}
"""Answered, the connection closed."""

WHOLE = {
    "nothing unusual": post("/echo", BODY),
    "a line end before it": b"\r\n" + post("/echo", BODY),
    "a line end behind it": post("/echo", BODY) + b"\r\n",
    "the same length twice": HEAD + b"content-length: 7\r\ncontent-length: 7\r\n\r\n" + BODY,
    "the same length in a list": HEAD + b"content-length: 7, 7\r\n\r\n" + BODY,
    "a folded length": HEAD + b"content-length:\r\n 7\r\n\r\n" + BODY,
    "chunks": HEAD + CHUNKED + CHUNKS,
    "chunks with an extension": HEAD + CHUNKED + b"7;a=b" + CHUNKS[1:],
    "chunks with a length behind them": HEAD + CHUNKED + CHUNKS[:-2] + b"content-length: 9\r\n\r\n",
    "a folded coding": HEAD + b"transfer-encoding:\r\n chunked\r\n\r\n" + CHUNKS,
    "bare newlines": post("/echo", BODY).replace(b"\r\n", b"\n"),
    "an expectation, the body with it": post("/echo", BODY, "expect: 100-continue"),
    "another expectation": post("/echo", BODY, "expect: 200-ok"),
    "a GET with a body": get("/echo?a=1", "content-length: 5") + b"NEXT!",
    "an upgrade": get(
        "/echo?a=1", "connection: upgrade, http2-settings", "upgrade: h2c", "http2-settings: A"
    ),
}
"""Answered; what follows is the next request."""


def _talk(server: Server, pieces: list[bytes], answers: int) -> tuple[list[Any], bool]:
    """Send the pieces one by one; what so many answers say, and whether the connection ends then."""
    with Raw(server) as client:
        client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        told = []
        for piece in pieces:
            try:
                client.send(piece)
            except OSError:
                break  # closed: the answer is there
            if len(pieces) > 1:
                time.sleep(0.0002)  # so that most of them are read one by one
        while len(told) < answers:
            answer = client.answer()
            if answer.status != 100:
                value = re.sub(rb'"request_id":"\w+"', b"", answer.body)
                told.append((answer.status, value))
        return told, _ends(client)


def _ends(client: Raw) -> bool:
    """Whether the server closes; it says whether it takes another request."""
    try:
        client.send(b"GET /last HTTP/1.1\r\nhost: localhost\r\n\r\n")
        return client.answer().status != 404
    except (OSError, EOFError):
        return True


@pytest.fixture
def echo(project: Project) -> Project:
    project.typescript("echo", "    return input;", method=["GET", "POST"])
    return project


def test_each_form_is_read_in_one_way_however_it_is_cut(echo: Project) -> None:
    cases: list[tuple[str, bytes, list[int], bool]] = [
        *((name, data, [status], True) for name, (status, data) in BROKEN.items()),
        *((name, data, [200], True) for name, data in LAST.items()),
        *((name, data, [200, 404], False) for name, data in WHOLE.items()),
    ]
    with beside_a_neighbour(echo) as server, ThreadPoolExecutor(8) as threads:

        def check(case: tuple[str, bytes, list[int], bool]) -> None:
            name, data, statuses, ends = case
            data += NEXT
            at = data.index(b"\r\n\r\n") + 4 if b"\r\n\r\n" in data[:-4] else len(data) // 2
            for pieces in ([data], [data[:at], data[at:]], [data[n : n + 1] for n in range(len(data))]):
                told, ended = _talk(server, pieces, len(statuses))
                assert ([status for status, _ in told], ended) == (statuses, ends), (name, len(pieces), told)
                if statuses[0] == 200:
                    assert json.loads(told[0][1]) in ({"a": 1}, {"a": "1"}), (name, told)

        for done in [threads.submit(check, case) for case in cases]:
            done.result()
    rows = echo.json(
        "query",
        "SELECT status, sum(count)::int AS n FROM flux.executions WHERE path IS NULL OR path <> '/kind'"
        " GROUP BY 1 ORDER BY 1",
    )
    wanted: dict[int, int] = {200: 3 * (len(LAST) + len(WHOLE)), 404: 2 * 3 * len(WHOLE)}
    for status, _ in BROKEN.values():
        wanted[status] = wanted.get(status, 0) + 3
    assert {row["status"]: row["n"] for row in rows} == wanted
    assert echo.json("query", "SELECT count(*)::int AS n FROM flux.quarantine") == [{"n": 0}]


def test_series_of_requests_cut_anywhere_are_answered_alike(echo: Project) -> None:
    chance = random.Random(3)
    kinds = [
        (get("/echo?a=1"), 200),
        (post("/echo", BODY), 200),
        (post("/echo", b"{"), 400),
        (get("/nowhere"), 404),
        (b"PUT /echo HTTP/1.1\r\nhost: localhost\r\n\r\n", 405),
        (HEAD + CHUNKED + CHUNKS, 200),
        (WHOLE["a line end behind it"], 200),
    ]
    series = [chance.choices(kinds, k=12) for _ in range(60)]

    def check(number: int) -> int:
        data = b"".join(data for data, _ in series[number])
        wanted = [status for _, status in series[number]]
        cuts = sorted({0, len(data), *(chance.randrange(len(data)) for _ in range(number % 12))})
        pieces = [data[a:b] for a, b in pairwise(cuts)]
        told, ended = _talk(server, pieces, len(wanted))
        assert ([status for status, _ in told], ended) == (wanted, False), cuts
        return len(wanted)

    with beside_a_neighbour(echo) as server, ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(check, range(len(series)))) == 720
    [row] = echo.json(
        "query", "SELECT sum(count)::int AS n FROM flux.executions WHERE path <> '/kind' OR path IS NULL"
    )
    assert row["n"] == 720 + len(series)


def test_an_answer_does_not_wait_for_the_request_behind_it(project: Project) -> None:
    project.typescript(
        "gate",
        "    const state = globalThis as unknown as { open?: boolean };\n"
        "    if (input.open) state.open = true;\n"
        "    while (!state.open) await ctx.sleep(20);\n"
        "    return input;",
    )
    with beside_a_neighbour(project) as server, Raw(server) as client, Raw(server) as other:
        client.send(get("/nowhere") + get("/nowhere/else") + post("/gate", b'{"waits":true}') + get("/last"))
        assert [client.answer().status for _ in range(2)] == [404, 404]  # the third can't have ended
        assert other.send(post("/gate", b'{"open":true}')).answer().status == 200
        assert (client.answer().body, client.answer().status) == (b'{"waits":true}', 404)
