"""Clients that send what they shouldn't, or too much of it, against a real server; beside
each a neighbour that behaves and must notice nothing.
"""

from __future__ import annotations

import json
import os
import re
import socket

import httpx

from tests.acceptance.conftest import Project
from tests.acceptance.hostile import (
    Raw,
    assert_rejected,
    beside_a_neighbour,
    get,
    post,
    rejections,
    resident,
    traced,
)

MB = 2**20


def test_a_body_over_the_limit_is_refused_before_it_is_there(project: Project) -> None:
    project.typescript("echo", "    return input;")
    project.write("flux.toml", 'name = "app"\nbody_limit = "1MiB"\n')
    with beside_a_neighbour(project) as server:
        before = resident(server)
        with Raw(server) as declared:  # nothing of the 50 MB is sent
            answer = declared.send(
                b"POST /echo HTTP/1.1\r\nhost: localhost\r\ncontent-length: 52428800\r\n\r\n"
            ).answer()
        assert answer.error == (413, "BodyTooLarge")
        assert answer.headers["connection"] == "close"
        record = assert_rejected(project, answer.request_id, 413, "BodyTooLarge")
        assert record["request"]["headers"]["content-length"] == "52428800"

        with Raw(server) as expecting:
            answer = expecting.send(
                b"POST /echo HTTP/1.1\r\nhost: localhost\r\nexpect: 100-continue\r\n"
                b"content-length: 52428800\r\n\r\n"
            ).answer()  # and no 100 before it
        assert answer.error == (413, "BodyTooLarge")

        with Raw(server) as chunked:
            chunked.send(b"POST /echo HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n")
            for _ in range(50):  # all of them are taken, so that the answer is not lost in a reset
                chunked.send(b"100000\r\n" + b"x" * MB + b"\r\n")
            chunked.send(b"0\r\n\r\n")
            answer = chunked.answer()
            assert chunked.closed()
        assert answer.error == (413, "BodyTooLarge")

        whole = httpx.post(f"{server.url}/echo", content=b"x" * 50 * MB, timeout=60, trust_env=False)
        assert (whole.status_code, whole.json()["error"]["type"]) == (413, "BodyTooLarge")
        assert resident(server) < before + 24 * MB


def test_a_client_that_expects_100_continue_gets_it_and_its_answer(project: Project) -> None:
    project.typescript("echo", "    return input;")
    with beside_a_neighbour(project) as server, Raw(server) as client:
        head = b"POST /echo HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        client.send(head + b"expect: 100-continue\r\ncontent-length: 7\r\n\r\n")
        assert client.interim() == b"HTTP/1.1 100 "
        assert client.send(b'{"a":1}').answer().body == b'{"a":1}'
        assert client.send(post("/echo", b"2")).answer().body == b"2"


def test_a_content_length_that_lies_costs_its_own_request_only(project: Project) -> None:
    project.typescript("echo", "    return input;")
    with beside_a_neighbour(project) as server:
        head = b"POST /echo HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
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
        assert_rejected(project, rest.request_id, 400, "BadRequest")
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
            assert traced(project, raw.request_id)["request"]["body"] == {"$bytea": "/wD+"}
    assert rejections(project) == refused


def test_paths_and_queries_of_garbage_are_answered_and_recorded(project: Project) -> None:
    project.typescript("item", "    return [ctx.request.params.id, input];", method="GET", route="/item/{id}")
    refused = {}
    with beside_a_neighbour(project) as server, Raw(server) as client:
        found = client.send(get("/item/%E2%82%AC%2F%00?a=%ff&b=%zz&%=&=&a=2")).answer()
        assert json.loads(found.body)[0] == "€/\x00"
        assert json.loads(found.body)[1] == {"a": ["\ufffd", "2"], "b": "%zz", "%": "", "": ""}
        assert traced(project, found.request_id)["request"]["params"]
        for target in ("/item/%ff%fe", "/item/", "//item/1", "/%2e%2e/%2e%2e/etc/passwd", "*", "item", "/\\"):
            answer = client.send(get(target)).answer()
            assert answer.error == (404, "NotFound"), target
            refused[answer.request_id] = answer.error
        lost = client.send(get("/item/%zz%")).answer()
        assert json.loads(lost.body)[0] == "%zz%"
        absolute = client.send(get(f"{server.url}/item/7?x=1")).answer()
        assert json.loads(absolute.body) == ["7", {"x": "1"}]
        record = traced(project, absolute.request_id)
        assert record["request"]["url"] == f"{server.url}/item/7?x=1"
        many = client.send(get("/item/1?" + "&".join(f"k{n}={n}" for n in range(5000)))).answer()
        assert len(json.loads(many.body)[1]) == 5000
        with Raw(server) as other:
            answer = other.send(get(b"/item/\xff\xfe")).answer()
            assert answer.error == (400, "BadRequest")
            assert other.closed()
            refused[answer.request_id] = answer.error
    assert rejections(project) == refused


HEADS = {
    "a header line of 100 KB": (431, get("/kind", "x-bomb: " + "b" * 100_000)),
    "a header line of 100 KB without an end": (431, get("/kind", "x-bomb: " + "b" * 200_000)[:-4]),
    "10,000 headers": (431, get("/kind", *[f"x-{n}: {n}" for n in range(10_000)])),
    "10,000 tiny headers": (431, get("/kind", *["a:b"] * 10_000)),
    "a request line of 1 MB": (431, get("/" + "a" * MB)),
    "two lengths": (
        400,
        b"POST /kind HTTP/1.1\r\nhost: localhost\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\n1234",
    ),
    "a length and chunks": (
        400,
        b"POST /kind HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n"
        b"0\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: localhost\r\n\r\n",
    ),
    "an unknown transfer encoding": (
        501,
        b"POST /kind HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
    ),
    "a negative length": (400, b"POST /kind HTTP/1.1\r\nhost: localhost\r\ncontent-length: -1\r\n\r\n"),
    "no host": (400, b"GET /kind HTTP/1.1\r\n\r\n"),
    "two hosts": (400, b"GET /kind HTTP/1.1\r\nhost: localhost\r\nhost: b\r\n\r\n"),
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
        b"POST /kind HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n\r\n",
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
    assert rejections(project) == answers


def test_old_and_odd_but_lawful_requests_are_served(project: Project) -> None:
    project.typescript("echo", "    return input;", method=["GET", "POST"])
    with beside_a_neighbour(project) as server:
        with Raw(server) as old:
            answer = old.send(b"GET /echo?a=1 HTTP/1.0\r\n\r\n").answer()
            assert answer.body == b'{"a":"1"}'
            assert old.closed()
        with Raw(server) as client:
            assert client.send(b"BREW /echo HTTP/1.1\r\nhost: localhost\r\n\r\n").answer().error == (
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
                b"POST /echo HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
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
        seen, strangers = set(), set()
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
            if host in ("[::1", ":", ""):
                assert (answer.status, answer.body) == (200, b'{"a":"1"}'), host
                seen.add(answer.request_id)
            else:
                assert answer.error == (403, "ForbiddenHost"), host
                strangers.add(answer.request_id)
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
    assert set(rejections(project)) == strangers
    assert project.json("query", "SELECT count(*)::int AS n FROM flux.quarantine") == [{"n": 0}]
