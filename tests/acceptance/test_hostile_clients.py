"""Clients that send what they shouldn't, too much, too slowly or too often, against a real server; beside
each a neighbour that behaves and must notice nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.acceptance.conftest import Project, Server
from tests.acceptance.hostile import Raw, beside_a_neighbour, get, post

MB = 2**20


def _record(project: Project, request_id: str) -> Any:
    return project.json("trace", request_id)


def _resident(server: Server) -> int:
    pages = int(Path(f"/proc/{server.process.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _connections(server: Server) -> int:
    """Clients' connections that the server holds a descriptor of."""
    port = f":{httpx.URL(server.url).port:04X}"
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(f[1].endswith(port) and f[3] != "0A" and f[9] != "0" for f in lines)


def _until(condition: Any, what: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def _rejected(project: Project, request_id: str, status: int, kind: str) -> Any:
    record = _record(project, request_id)
    assert (record["status"], record["outcome"], record["error"]["type"]) == (status, "rejected", kind)
    return record


def _rejections(project: Project) -> dict[str, tuple[int, str]]:
    """Status and error type of all that were rejected."""
    rows = project.json(
        "query",
        "SELECT request_id, status, error->>'type' AS kind FROM flux.executions WHERE outcome = 'rejected'",
    )
    return {row["request_id"]: (row["status"], row["kind"]) for row in rows}


def test_a_body_over_the_limit_is_refused_before_it_is_there(project: Project) -> None:
    project.typescript("echo", "    return input;")
    project.write("flux.toml", 'name = "app"\nbody_limit = "1MiB"\n')
    with beside_a_neighbour(project) as server:
        before = _resident(server)
        with Raw(server) as declared:  # nothing of the 50 MB is sent
            answer = declared.send(
                b"POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 52428800\r\n\r\n"
            ).answer()
        assert answer.error == (413, "BodyTooLarge")
        assert answer.headers["connection"] == "close"
        record = _rejected(project, answer.request_id, 413, "BodyTooLarge")
        assert record["request"]["headers"]["content-length"] == "52428800"

        with Raw(server) as expecting:
            answer = expecting.send(
                b"POST /echo HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 52428800\r\n\r\n"
            ).answer()  # and no 100 before it
        assert answer.error == (413, "BodyTooLarge")

        with Raw(server) as chunked:
            chunked.send(b"POST /echo HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n")
            for _ in range(50):  # all of them are taken, so that the answer is not lost in a reset
                chunked.send(b"100000\r\n" + b"x" * MB + b"\r\n")
            chunked.send(b"0\r\n\r\n")
            answer = chunked.answer()
            assert chunked.closed()
        assert answer.error == (413, "BodyTooLarge")

        whole = httpx.post(f"{server.url}/echo", content=b"x" * 50 * MB, timeout=60, trust_env=False)
        assert (whole.status_code, whole.json()["error"]["type"]) == (413, "BodyTooLarge")
        assert _resident(server) < before + 24 * MB


def test_a_client_that_expects_100_continue_gets_it_and_its_answer(project: Project) -> None:
    project.typescript("echo", "    return input;")
    with beside_a_neighbour(project) as server, Raw(server) as client:
        head = b"POST /echo HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n"
        client.send(head + b"expect: 100-continue\r\ncontent-length: 7\r\n\r\n")
        assert client.interim() == b"HTTP/1.1 100 "
        assert client.send(b'{"a":1}').answer().body == b'{"a":1}'
        assert client.send(post("/echo", b"2")).answer().body == b"2"


def test_a_content_length_that_lies_costs_its_own_request_only(project: Project) -> None:
    project.typescript("echo", "    return input;")
    with beside_a_neighbour(project) as server:
        head = b"POST /echo HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n"
        with Raw(server) as short:  # less comes than was said, then the client's end
            short.send(head + b'x-tag: short\r\ncontent-length: 100\r\n\r\n{"a":1}')
            short.socket.shutdown(socket.SHUT_WR)
            assert short.closed()
        with Raw(server) as long:  # more comes than was said: what is left is no request
            long.send(head + b'content-length: 7\r\n\r\n{"a":1}{"and": "this"}\r\n\r\n')
            assert long.answer().body == b'{"a":1}'
            rest = long.answer()
            assert rest.error == (400, "BadRequest")
            assert long.closed()
        _rejected(project, rest.request_id, 400, "BadRequest")
    [row] = project.json(
        "query",
        "SELECT status, outcome, error->>'type' AS error FROM flux.executions"
        ' WHERE request_headers @> \'[["x-tag", "short"]]\'',
    )
    assert row == {"status": 499, "outcome": "rejected", "error": "ClientDisconnected"}


def test_bodies_that_are_no_json_are_refused_and_strange_ones_arrive_as_they_are(project: Project) -> None:
    project.typescript("echo", "    return input;")
    project.write("functions/snake/main.py", "async def handler(input, ctx):\n    return input\n")
    bad = {
        "cut": b'{"a": ',
        "bytes": b'{"a": "\xff\xfe"}',
        "deep": b"[" * 5000 + b"]" * 5000,
        "nan": b"NaN",
        "twice": b"{} {}",
        "nul": b"\x00",
    }
    refused = {}
    with beside_a_neighbour(project) as server:
        for path in ("/echo", "/snake"):
            for name, body in bad.items():
                with Raw(server) as client:
                    answer = client.send(post(path, body)).answer()
                assert answer.error == (400, "BadJSON"), name
                refused[answer.request_id] = answer.error
            with Raw(server) as client:
                answer = client.send(post(path, b'{"a": 1, "a": 2}')).answer()
                assert json.loads(answer.body) == {"a": 2}
                deep = client.send(post(path, b"[" * 500 + b"]" * 500)).answer()
                assert deep.body == b"[" * 500 + b"]" * 500
                raw = client.send(post(path, b"\xff\x00\xfe", kind="application/x-raw")).answer()
                assert (raw.status, raw.body) == (200, b"null")
            assert _record(project, raw.request_id)["request"]["body"] == {"$bytea": "/wD+"}
    assert _rejections(project) == refused


def test_paths_and_queries_of_garbage_are_answered_and_recorded(project: Project) -> None:
    project.typescript("item", "    return [ctx.request.params.id, input];", method="GET", route="/item/{id}")
    refused = {}
    with beside_a_neighbour(project) as server, Raw(server) as client:
        found = client.send(get("/item/%E2%82%AC%2F%00?a=%ff&b=%zz&%=&=&a=2")).answer()
        assert json.loads(found.body)[0] == "€/\x00"
        assert json.loads(found.body)[1] == {"a": ["\ufffd", "2"], "b": "%zz", "%": "", "": ""}
        assert _record(project, found.request_id)["request"]["params"]
        for target in ("/item/%ff%fe", "/item/", "//item/1", "/%2e%2e/%2e%2e/etc/passwd", "*", "item", "/\\"):
            answer = client.send(get(target)).answer()
            assert answer.error == (404, "NotFound"), target
            refused[answer.request_id] = answer.error
        lost = client.send(get("/item/%zz%")).answer()
        assert json.loads(lost.body)[0] == "%zz%"
        absolute = client.send(get(f"{server.url}/item/7?x=1")).answer()
        assert json.loads(absolute.body) == ["7", {"x": "1"}]
        record = _record(project, absolute.request_id)
        assert record["request"]["url"] == f"{server.url}/item/7?x=1"
        many = client.send(get("/item/1?" + "&".join(f"k{n}={n}" for n in range(5000)))).answer()
        assert len(json.loads(many.body)[1]) == 5000
        with Raw(server) as other:
            answer = other.send(get(b"/item/\xff\xfe")).answer()
            assert answer.error == (400, "BadRequest")
            assert other.closed()
            refused[answer.request_id] = answer.error
    assert _rejections(project) == refused


HEADS = {
    "a header line of 100 KB": (431, get("/kind", "x-bomb: " + "b" * 100_000)),
    "a header line of 100 KB without an end": (431, get("/kind", "x-bomb: " + "b" * 200_000)[:-4]),
    "10,000 headers": (431, get("/kind", *[f"x-{n}: {n}" for n in range(10_000)])),
    "10,000 tiny headers": (431, get("/kind", *["a:b"] * 10_000)),
    "a request line of 1 MB": (431, get("/" + "a" * MB)),
    "two lengths": (
        400,
        b"POST /kind HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\n1234",
    ),
    "a length and chunks": (
        400,
        b"POST /kind HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n"
        b"0\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n",
    ),
    "an unknown transfer encoding": (
        501,
        b"POST /kind HTTP/1.1\r\nhost: a\r\ntransfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
    ),
    "a negative length": (400, b"POST /kind HTTP/1.1\r\nhost: a\r\ncontent-length: -1\r\n\r\n"),
    "no host": (400, b"GET /kind HTTP/1.1\r\n\r\n"),
    "two hosts": (400, b"GET /kind HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n"),
    "a header without a colon": (400, get("/kind", "garbage")),
    "a space before the colon": (400, get("/kind", "x-a : b")),
    "a bare newline in a value": (400, get("/kind", "x-a: b\rc")),
    "a NUL in a value": (400, get("/kind", "x-a: b\0c")),
    "bytes": (400, bytes(range(256)) * 40 + b"\r\n\r\n"),
    "a TLS hello": (400, bytes.fromhex("16030100c8010000c40303") + os.urandom(190)),
    "HTTP/2": (505, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes.fromhex("000000040000000000")),
    "HTTP/0.9": (400, b"GET /kind\r\n\r\n"),
    "a chunk that is none": (
        400,
        b"POST /kind HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n\r\n",
    ),
}


def test_heads_that_are_no_http_are_answered_closed_and_recorded(project: Project) -> None:
    answers = {}
    with beside_a_neighbour(project) as server:
        for name, (status, data) in HEADS.items():
            with Raw(server) as client:
                answer = client.send(data).answer()
                assert answer.status == status, (name, answer)
                assert answer.headers.get("connection") == "close", name
                assert client.closed(), name
                # What can't be read may be a credential: it is not told.
                assert not re.search(rb"garbage|x-a|bytearray|\\x", answer.body), (name, answer)
            answers[answer.request_id] = answer.error
        assert len(answers) == len(HEADS)
    assert _rejections(project) == answers


def test_old_and_odd_but_lawful_requests_are_served(project: Project) -> None:
    project.typescript("echo", "    return input;", method=["GET", "POST"])
    with beside_a_neighbour(project) as server:
        with Raw(server) as old:
            answer = old.send(b"GET /echo?a=1 HTTP/1.0\r\n\r\n").answer()
            assert answer.body == b'{"a":"1"}'
            assert old.closed()
        with Raw(server) as client:
            assert client.send(b"BREW /echo HTTP/1.1\r\nhost: a\r\n\r\n").answer().error == (
                405,
                "MethodNotAllowed",
            )
            upgrade = client.send(
                get("/echo?a=2", "connection: upgrade", "upgrade: h2c", "http2-settings: AAMAAABk")
            )
            assert upgrade.answer().body == b'{"a":"2"}'
            upgrade = client.send(get("/echo?a=3", "connection: upgrade", "upgrade: websocket"))
            assert upgrade.answer().body == b'{"a":"3"}'
            numbers = range(100)
            client.send(b"".join(post("/echo", b"%d" % n) for n in numbers))
            assert [client.answer().body for _ in numbers] == [b"%d" % n for n in numbers]
            pieces = b"".join(b"1\r\n%c\r\n" % byte for byte in b'{"in":"pieces"}')
            client.send(
                b"POST /echo HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n"
                b"transfer-encoding: chunked\r\n\r\n" + pieces + b"0\r\n\r\n"
            )
            assert json.loads(client.answer().body) == {"in": "pieces"}


def test_spoofed_ids_and_garbage_in_known_headers_change_nothing(project: Project) -> None:
    project.typescript("echo", "    return input;", method="GET")
    strange = [
        "x-request-id: " + "0" * 32,
        "x-request-id: \xff\xfe'; DROP TABLE flux.executions; --",
        "traceparent: garbage",
        "traceparent: 00-00000000000000000000000000000000-0000000000000000-01",
        "traceparent: ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "traceparent: " + "0" * 5000,
        "content-type: \xff",
        "accept: \xff\xfe",
        "user-agent: \xb2\xb3" + "u" * 5000,
    ]
    with beside_a_neighbour(project) as server, Raw(server) as client:
        seen = set()
        for header in strange:
            answer = client.send(get("/echo?a=1", header)).answer()
            assert (answer.status, answer.body) == (200, b'{"a":"1"}'), header
            assert re.fullmatch(r"[0-9a-f]{32}", answer.request_id)
            assert answer.request_id != "0" * 32
            seen.add(answer.request_id)
        for host in ("a:\xb2", "a:99999999999999999999999", "[::1", "\xff", ":", "a b", "a:b:c", "", "@"):
            answer = client.send(
                b"GET /echo?a=1 HTTP/1.1\r\nhost: %s\r\n\r\n" % host.encode("latin-1")
            ).answer()
            assert (answer.status, answer.body) == (200, b'{"a":"1"}'), host
            seen.add(answer.request_id)
        trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        states = ",".join(f"vendor{n}=value{n}" for n in range(1000))
        answer = client.send(get("/echo?a=1", f"traceparent: {trace}", f"tracestate: {states}")).answer()
        assert answer.headers["traceparent"].split("-")[1] == trace.split("-")[1]
        seen.add(answer.request_id)
        lines = [f"tracestate: vendor{n}=value{n}" for n in range(200)]
        answer = client.send(get("/echo?a=1", f"traceparent: {trace}", *lines)).answer()
        assert answer.headers["traceparent"].split("-")[1] == trace.split("-")[1]
        seen.add(answer.request_id)
    rows = project.json("query", "SELECT request_id FROM flux.executions WHERE function = 'echo'")
    assert {row["request_id"] for row in rows} == seen
    assert project.json("query", "SELECT count(*)::int AS n FROM flux.quarantine") == [{"n": 0}]


def test_slow_heads_and_bodies_end_at_the_read_timeout(project: Project) -> None:
    project.typescript("echo", "    return input;")
    project.write("flux.toml", 'name = "app"\nread_timeout_ms = 700\nkeep_alive_ms = 1500\n')
    with beside_a_neighbour(project) as server:
        silent = Raw(server)
        dripping = [Raw(server) for _ in range(20)]
        stop = threading.Event()

        def drip() -> None:
            for byte in b"GET /kind HTTP/1.1\r\nx-slow: " + b"s" * 2000:
                for client in dripping:
                    try:
                        client.send(bytes([byte]))
                    except OSError:
                        continue
                if stop.wait(0.1):
                    return

        thread = threading.Thread(target=drip)
        thread.start()
        try:
            for client in dripping:
                assert client.answer().error == (408, "RequestTimeout")
        finally:
            stop.set()
            thread.join()
        body = Raw(server).send(b"POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 1000\r\n\r\n{")
        answer = body.answer()
        assert answer.error == (408, "RequestTimeout")
        assert _rejected(project, answer.request_id, 408, "RequestTimeout")["function"] == "echo"
        assert body.closed()
        assert silent.closed()  # idle, so without a word
        with Raw(server) as steady:  # longer than the timeout, but it comes on
            piece = b" " * 200
            steady.send(post("/echo", b'{"a":1}' + piece * 20)[: -20 * 200])
            for _ in range(20):
                steady.send(piece)
                time.sleep(0.1)
            assert json.loads(steady.answer().body) == {"a": 1}
        for client in (silent, body, *dripping):
            client.socket.close()


def test_a_slow_reader_is_cut_off_and_holds_no_more_than_its_answer(project: Project) -> None:
    project.typescript("big", f"    return new Response(new Uint8Array({16 * MB}));")
    project.write("flux.toml", 'name = "app"\nwrite_timeout_ms = 1500\n')
    with beside_a_neighbour(project) as server:
        with Raw(server) as quick:
            answer = quick.send(post("/big")).answer()
            assert len(answer.body) == 16 * MB
        before = _resident(server)
        readers = [Raw(server, receive_buffer=4096) for _ in range(4)]
        for reader in readers:
            reader.send(post("/big"))
            assert reader.socket.recv(12) == b"HTTP/1.1 200"  # it begins, and is not taken any further
        assert _resident(server) < before + 2 * 4 * 16 * MB
        _until(lambda: _connections(server) <= 1, "the slow readers' connections stay open")
        for reader in readers:
            with pytest.raises((ConnectionResetError, EOFError)):
                reader.drain()
            reader.socket.close()
        _until(lambda: _resident(server) < before + 2 * 16 * MB, "the slow readers' answers stay in memory")
    rows = project.json("query", "SELECT outcome, status FROM flux.executions WHERE function = 'big'")
    assert rows == [{"outcome": "ok", "status": 200}] * 5


def test_an_execution_goes_on_when_its_client_has_gone(project: Project) -> None:
    project.write("schema/001.sql", "CREATE TABLE done (what text)")
    project.typescript(
        "work",
        "    const state = globalThis as unknown as { begun?: number };\n"
        "    if (input.ask) return state.begun ?? 0;\n"
        "    state.begun = (state.begun ?? 0) + 1;\n"
        "    await ctx.sleep(300);\n"
        '    await ctx.db.query({ table: "done", operation: "insert", data: { what: input.what } });\n'
        "    return input;",
    )
    project.flux("db", "push")
    with beside_a_neighbour(project) as server:
        reset = Raw(server).send(post("/work", b'{"what":"reset"}'))
        ask = {"ask": True}
        _until(lambda: httpx.post(f"{server.url}/work", json=ask).json() == 1, "it doesn't begin")
        reset.reset()
        Raw(server).send(post("/work", b'{"what":"closed"}')).socket.close()
        with Raw(server) as half:
            half.send(post("/work", b'{"what":"half-closed"}'))
            half.socket.shutdown(socket.SHUT_WR)
            assert half.answer().body == b'{"what":"half-closed"}'
            assert half.closed()
        Raw(server).send(post("/work", b'{"what":"never"}')[:-5]).socket.close()
        done = (
            "SELECT count(*)::int AS n FROM flux.executions"
            " WHERE function = 'work' AND input_json->>'ask' IS NULL"
        )
        _until(lambda: project.json("query", done) == [{"n": 4}], "the executions are not recorded")
        _until(lambda: _connections(server) <= 1, "connections of clients that have gone stay open")
    rows = project.json(
        "query",
        "SELECT outcome, status, output_json->>'what' AS what FROM flux.executions"
        " WHERE function = 'work' AND input_json->>'ask' IS NULL ORDER BY what",
    )
    assert rows == [
        {"outcome": "ok", "status": 200, "what": "closed"},
        {"outcome": "ok", "status": 200, "what": "half-closed"},
        {"outcome": "ok", "status": 200, "what": "reset"},
        {"outcome": "rejected", "status": 499, "what": None},
    ]
    found = project.json("query", "SELECT what FROM done ORDER BY what")
    assert found == [{"what": "closed"}, {"what": "half-closed"}, {"what": "reset"}]


def test_five_hundred_connections_at_once_are_all_served(project: Project) -> None:
    project.typescript("slow", "    await ctx.sleep(200);\n    return input;")
    with beside_a_neighbour(project) as server:
        clients = [Raw(server) for _ in range(500)]
        for number, client in enumerate(clients):
            client.send(post("/slow", b"%d" % number))
        for number, client in enumerate(clients):
            answer = client.answer()
            assert (answer.status, answer.body) == (200, b"%d" % number)
            client.socket.close()
        for _ in range(300):  # churn
            with Raw(server) as client:
                client.send(b"GET ")
    [row] = project.json(
        "query",
        "SELECT count(*)::int AS n, count(DISTINCT output_json)::int AS different FROM flux.executions"
        " WHERE function = 'slow' AND outcome = 'ok'",
    )
    assert row == {"n": 500, "different": 500}


def test_one_connection_too_many_takes_the_place_of_an_idle_one(project: Project) -> None:
    project.typescript("slow", "    await ctx.sleep(2000);\n    return input;")
    project.write("flux.toml", 'name = "app"\nmax_connections = 10\n')
    with beside_a_neighbour(project) as server:
        idle = [Raw(server) for _ in range(30)]
        with Raw(server) as client:
            assert client.send(post("/slow", b"1")).answer().status == 200
        closed = 0
        for connection in idle:
            connection.socket.settimeout(0.2)
            with contextlib.suppress(TimeoutError):
                closed += connection.closed()
            connection.socket.close()
        assert closed >= 20
    project.write("flux.toml", 'name = "app"\nmax_connections = 4\n')
    with project.serving() as client:
        server = project.servers[-1]
        busy = [Raw(server).send(post("/slow", b"%d" % n)) for n in range(4)]
        _until(lambda: _connections(server) == 4, "the connections are not accepted")
        with Raw(server) as fifth:
            answer = fifth.send(post("/slow", b"5")).answer()
            assert fifth.closed()
        assert answer.error == (503, "TooManyConnections")
        assert answer.headers["retry-after"] == "1"
        shown = project.json("trace", answer.headers["x-request-id"])
        assert (shown["status"], shown["outcome"], shown["method"]) == (503, "rejected", None)
        for number, connection in enumerate(busy):
            assert connection.answer().body == b"%d" % number
            connection.socket.close()
        assert client.post("/slow", json=6).json() == 6
