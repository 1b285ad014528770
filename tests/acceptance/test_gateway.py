"""What an HTTP client sees: routes, errors, headers, and that each request is a record."""

from __future__ import annotations

import json
import os
import re
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx

from tests.acceptance.conftest import Project
from tests.acceptance.processes import guests


def _error(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["type"]


def test_each_error_is_json_and_an_execution(project: Project) -> None:
    project.typescript("hello", "    return { hello: input.name };", method="GET", route="/hello/{id}")
    project.typescript("echo", "    return input;")
    project.typescript("throws", '    throw new TypeError("no such thing");')
    project.typescript("never", "    await new Promise(() => {});", timeout_ms=200)
    project.typescript("spins", "    while (true) {}", timeout_ms=200)
    project.write("flux.toml", 'name = "app"\nbody_limit = 1000\n')
    with project.serving() as client:
        responses = {
            "404": client.get("/nowhere"),
            "405": client.get("/echo"),
            "413": client.post("/echo", content=b"x" * 1001),
            "400": client.post("/echo", content=b'{"a": ', headers={"content-type": "application/json"}),
            "500": client.post("/throws"),
            "504": client.post("/never"),
            "504s": client.post("/spins"),
            "ok": client.get("/hello/7?name=Ada&x=1&x=2"),
        }
        assert _error(responses["404"]) == (404, "NotFound")
        assert _error(responses["405"]) == (405, "MethodNotAllowed")
        assert responses["405"].headers["allow"] == "POST"
        assert _error(responses["413"]) == (413, "BodyTooLarge")
        assert _error(responses["400"]) == (400, "BadJSON")
        assert _error(responses["500"]) == (500, "TypeError")
        assert "stack" not in responses["500"].json()["error"]
        assert _error(responses["504"]) == (504, "DeadlineExceeded")
        assert _error(responses["504s"]) == (504, "DeadlineExceeded")
        assert responses["ok"].json() == {"hello": "Ada"}
        for response in responses.values():
            request_id = response.headers["x-request-id"]
            assert re.fullmatch(r"[0-9a-f]{32}", request_id)
            record = project.json("trace", request_id)
            assert record["status"] == response.status_code
            wanted = (
                "ok"
                if response.status_code == 200
                else "error"
                if response.status_code >= 500
                else "rejected"
            )
            assert record["outcome"] == wanted
            if response.status_code != 200:
                assert record["error"]["type"] == response.json()["error"]["type"]
                assert response.json()["error"]["request_id"] == request_id
        thrown = project.json("trace", responses["500"].headers["x-request-id"])["error"]
        assert (thrown["file"], thrown["line"]) == ("functions/throws/index.ts", 6)
        record = project.json("trace", responses["ok"].headers["x-request-id"])
        assert record["input"] == {"name": "Ada", "x": ["1", "2"]}
        assert record["request"]["params"] == {"id": "7"}


def test_a_guest_without_room_is_answered_503_with_retry_after(project: Project) -> None:
    project.typescript("slow", "    await ctx.sleep(input);\n    return 'done';")
    project.write("flux.toml", 'name = "app"\nconcurrency = 2\n')
    with project.serving() as client, ThreadPoolExecutor() as threads:
        answers = [
            future.result() for future in [threads.submit(client.post, "/slow", json=700) for _ in range(4)]
        ]
        assert sorted(answer.status_code for answer in answers) == [200, 200, 503, 503]
        for answer in answers:
            record = project.json("trace", answer.headers["x-request-id"])
            if answer.status_code == 503:
                assert _error(answer) == (503, "Overloaded")
                assert answer.headers["retry-after"] == "1"
                assert record["outcome"] == "rejected"
            else:
                assert record["outcome"] == "ok"


def test_a_guest_that_dies_costs_its_own_requests_only(project: Project) -> None:
    project.write(
        "functions/slow/main.py",
        "async def handler(input, ctx):\n    await ctx.sleep(input)\n    return 'awake'\n",
    )
    project.typescript("fine", "    await ctx.sleep(input);\n    return 'fine';")
    with project.serving() as client, ThreadPoolExecutor() as threads:
        server = project.servers[-1]
        doomed = [threads.submit(client.post, "/slow", json=20_000) for _ in range(5)]
        other = threads.submit(client.post, "/fine", json=1_000)
        assert client.post("/slow", json=1).json() == "awake"  # by now the five are in flight
        for pid in guests(server):
            if "/guest/python" in Path(f"/proc/{pid}/cmdline").read_text():
                os.kill(pid, signal.SIGKILL)
        for answer in (future.result() for future in doomed):
            assert _error(answer) == (502, "GuestDied")
            assert project.json("trace", answer.headers["x-request-id"])["outcome"] == "error"
        assert other.result().json() == "fine"
        assert client.post("/slow", json=1).json() == "awake"


def test_trace_context_comes_in_and_goes_out_whatever_its_sampled_flag(project: Project) -> None:
    project.typescript("hello", "    return ctx.request.headers.get('x-tag');")
    trace_id, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    with project.serving() as client:
        answer = client.post(
            "/hello",
            headers={"traceparent": f"00-{trace_id}-{parent}-00", "x-request-id": "mine", "x-tag": "t"},
        )
        assert answer.json() == "t"
        assert answer.headers["traceparent"].split("-")[1] == trace_id
        assert answer.headers["x-request-id"] != "mine"
        record = project.json("trace", trace_id)
        assert record["request_id"] == answer.headers["x-request-id"]
        root = next(span for span in record["spans"] if span["kind"] == "SERVER")
        assert root["parent_span_id"] == parent
        assert root["attributes"]["flux.client_request_id"] == "mine"


def test_a_response_keeps_its_status_headers_and_bytes(project: Project) -> None:
    project.typescript(
        "raw",
        '    const headers = { "x-a": "b", "content-type": "application/x-raw" };\n'
        "    return new Response(new Uint8Array([0, 255, 1]), { status: 201, headers });",
    )
    project.typescript("empty", "    return new Response(null, { status: 204 });")
    with project.serving() as client:
        raw = client.post("/raw")
        assert (raw.status_code, raw.content, raw.headers["x-a"]) == (201, b"\x00\xff\x01", "b")
        assert raw.headers["content-type"] == "application/x-raw"
        assert client.post("/empty").status_code == 204
        assert client.get("/_flux/health").json()["ok"] is True
        assert client.get("/_flux/ready").json()["ok"] is True
        assert client.get("/_flux/api/v1/functions").status_code == 403


def test_a_request_that_needs_the_database_is_recorded_with_its_calls_rows_and_spans(
    project: Project,
) -> None:
    project.write(
        "schema/001.sql",
        "CREATE TABLE users (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, email text UNIQUE)",
    )
    project.typescript(
        "create",
        "    const data = { email: input.email };\n"
        '    const [user] = await ctx.db.query({ table: "users", operation: "insert", data });\n'
        '    ctx.log.info("made", { id: user.id });\n'
        "    return { id: user.id };",
    )
    project.flux("db", "push")
    with project.serving() as client:
        answer = client.post("/create", json={"email": "ada@example.com"})
        assert answer.json() == {"id": "1"}
        record = project.json("trace", answer.headers["x-request-id"][:10])
        assert record["output"] == {"id": "1"}
        assert record["input"] == {"email": "ada@example.com"}
        ops = [call["op"] for call in record["host_calls"]]
        assert ops in (["db.query", "log"], ["db.query"])
        call = record["host_calls"][0]
        assert call["status"] == "done"
        assert call["result"]["rows"] == [{"id": "1", "email": "ada@example.com"}]
        [mutation] = record["mutations"]
        assert (mutation["table"], mutation["op"], mutation["rolled_back"]) == ("users", "INSERT", False)
        assert mutation["after"] == {"id": 1, "email": "ada@example.com"}
        assert mutation["span_id"] == call["span_id"]
        names = {span["name"] for span in record["spans"]}
        assert {"POST /create", "create"} <= names
        [line] = record["logs"]
        assert (line["level"], line["message"]) == ("info", "made")

        again = client.post("/create", json={"email": "ada@example.com"})
        assert again.status_code == 500
        why = project.json("why", "last")
        assert why["root_cause"]["type"] == "unique_violation"
        assert (why["location"]["file"], why["location"]["line"]) == ("functions/create/index.ts", 7)
        assert "ctx.db.query" in why["location"]["source"]
        assert why["previous_success"] == answer.headers["x-request-id"]
        assert json.loads(project.flux("query", "select count(*)::int as n from users", "--json").stdout) == [
            {"n": 1}
        ]
