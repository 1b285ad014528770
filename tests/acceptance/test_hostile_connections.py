"""Clients that are slow, go away, or are many: who waits, how long, and what their executions come to."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from pathlib import Path

import httpx
import pytest

from tests.acceptance.conftest import Project, Server
from tests.acceptance.hostile import (
    Raw,
    assert_rejected,
    beside_a_neighbour,
    post,
    resident,
    until,
)

MB = 2**20


def _connections(server: Server) -> int:
    """Clients' connections that the server holds a descriptor of."""
    port = f":{httpx.URL(server.url).port:04X}"
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(f[1].endswith(port) and f[3] != "0A" and f[9] != "0" for f in lines)


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
        body = Raw(server).send(b"POST /echo HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000\r\n\r\n{")
        answer = body.answer()
        assert answer.error == (408, "RequestTimeout")
        assert assert_rejected(project, answer.request_id, 408, "RequestTimeout")["function"] == "echo"
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
    project.write("flux.toml", 'name = "app"\nwrite_timeout_ms = 4000\n')
    with beside_a_neighbour(project) as server:
        with Raw(server) as quick:
            answer = quick.send(post("/big")).answer()
            assert len(answer.body) == 16 * MB
        before = resident(server)
        readers = [Raw(server, receive_buffer=4096) for _ in range(4)]
        for reader in readers:
            reader.send(post("/big"))
            assert reader.socket.recv(12) == b"HTTP/1.1 200"  # it begins, and is not taken any further
        assert resident(server) < before + 2 * 4 * 16 * MB
        until(lambda: _connections(server) <= 1, "the slow readers' connections stay open")
        for reader in readers:
            with pytest.raises((ConnectionResetError, EOFError)):
                reader.drain()
            reader.socket.close()
        until(lambda: resident(server) < before + 2 * 16 * MB, "the slow readers' answers stay in memory")
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
        until(lambda: httpx.post(f"{server.url}/work", json=ask).json() == 1, "it doesn't begin")
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
        until(lambda: project.json("query", done) == [{"n": 4}], "the executions are not recorded")
        until(lambda: _connections(server) <= 1, "connections of clients that have gone stay open")
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
        until(lambda: _connections(server) == 4, "the connections are not accepted")
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
