"""Who is let in, and what is the same request for everybody who reads it. Each refusal is a record."""

from __future__ import annotations

import json
from typing import Any

import httpx

from tests.acceptance.conftest import Project
from tests.acceptance.hostile import Raw, get, rejections

FORM = {"content-type": "application/x-www-form-urlencoded"}
EVIL = {"origin": "http://evil.example"}


def test_pages_of_others_run_nothing_in_dev_and_each_refusal_names_its_check(project: Project) -> None:
    project.typescript("add", "    return 1;")
    project.typescript("look", "    return 1;", method="GET")
    refusals = {}
    with project.serving("dev") as client:
        host = str(client.base_url).removeprefix("http://")
        for kind, headers in (
            ("ForbiddenOrigin", {**FORM, **EVIL}),
            ("ForbiddenOrigin", {**EVIL}),
            ("ForbiddenOrigin", {**FORM, "origin": "null"}),
            ("ForbiddenSite", {**FORM, "sec-fetch-site": "cross-site"}),
            ("ForbiddenHost", {"host": "evil.example"}),
            ("ForbiddenHost", {**EVIL, "host": f"evil.example:{client.base_url.port}"}),
        ):
            for method, path in (
                ("POST", "/add"),
                ("GET", "/look"),
                ("GET", "/"),
                ("GET", "/_flux/api/v1/functions"),
            ):
                answer = client.request(method, path, headers=headers)
                assert (answer.status_code, answer.json()["error"]["type"]) == (403, kind), (path, headers)
                refusals[answer.headers["x-request-id"]] = kind
        own = {"origin": f"http://{host}", "sec-fetch-site": "same-origin"}
        for headers in ({}, own, {"host": "localhost"}, {"host": f"[::1]:{client.base_url.port}"}):
            assert client.post("/add", headers=headers).json() == 1
            assert client.get("/_flux/api/v1/functions", headers=headers).status_code == 200
    assert rejections(project) == {request_id: (403, kind) for request_id, kind in refusals.items()}


def test_names_behind_a_proxy_are_answered_once_they_are_listed(project: Project) -> None:
    project.typescript("add", "    return 1;")
    project.write("flux.toml", 'name = "app"\nallowed_hosts = ["api.example.com", ".shop.example"]\n')
    with project.serving() as client:
        for name in ("api.example.com", "one.shop.example", "localhost"):
            assert client.post("/add", headers={"host": name}).json() == 1
        refused = client.post("/add", headers={"host": "other.example"})
        assert refused.status_code == 403
        assert "allowed_hosts" in refused.json()["error"]["message"]


def test_a_request_reads_alike_for_everybody(project: Project) -> None:
    """Repeated fields, methods by case, versions, encoded slashes, paths that only begin like Flux's own."""
    project.typescript(
        "echo",
        "    return [ctx.request.method, ctx.request.params, input];",
        method=["GET", "POST"],
        route="/echo/{id}",
    )
    project.typescript("root", "    return 'root';", method="POST", route="/")
    project.typescript("near", "    return 'near';", method="GET", route="/_fluxy")
    project.typescript("traces", "    return 'traces';", method="GET", route="/v1/traces-x")
    project.typescript(
        "dated",
        "    return new Response('x', {headers: {date: 'Mon, 01 Jan 2024 00:00:00 GMT'}});",
        method=["GET", "POST"],
    )
    one, two = (f"00-{digit * 32}-b7ad6b7169203331-01" for digit in "12")
    with project.serving("dev") as client, Raw(project.servers[-1]) as raw:

        def ask(data: bytes) -> Any:
            return raw.send(data).answer()

        assert ask(get("/_fluxy")).body == b'"near"'
        assert ask(get("/v1/traces-x")).body == b'"traces"'
        assert json.loads(ask(get("/echo/a%2Fb%2f..%2Fc")).body)[1] == {"id": "a/b/../c"}
        wrong_case = ask(b"get /echo/1 HTTP/1.1\r\nhost: localhost\r\n\r\n")
        assert (wrong_case.error, wrong_case.headers["allow"]) == (
            (405, "MethodNotAllowed"),
            "GET, HEAD, POST",
        )
        several = ask(get("/echo/1", f"traceparent: {one}", f"traceparent: {two}"))
        assert several.headers["traceparent"].split("-")[1] not in {"1" * 32, "2" * 32}
        assert ask(get("/echo/1", f"traceparent: {one}")).headers["traceparent"].split("-")[1] == "1" * 32
        twice = ask(get("/echo/1", "authorization: Bearer a", "authorization: Bearer b"))
        assert twice.error == (400, "BadRequest")
        kinds = [f"content-type: {kind}" for kind in ("text/plain", "application/json")]
        assert ask(get("/echo/1", *kinds)).error == (400, "BadRequest")
        for answer in (ask(get("/dated")), ask(get("/dated", "te: trailers"))):  # by plain, by h11
            assert answer.headers["date"] == "Mon, 01 Jan 2024 00:00:00 GMT"
        assert [name for name, _ in client.get("/dated").headers.multi_items()].count("date") == 1
        for path in ("/", "/_flux/health", "/echo/1"):
            with Raw(project.servers[-1]) as other:
                late = other.send(f"GET {path} HTTP/2.0\r\nhost: localhost\r\n\r\n".encode()).answer()
                assert late.error == (505, "VersionNotSupported"), path
                assert project.json("trace", late.request_id)["outcome"] == "rejected"
        for size in (b"fffffffffffffffff", b"4000001"):
            with Raw(project.servers[-1], 10) as other:
                head = b"POST /echo/1 HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n"
                waiting = other.send(head + size + b"\r\n").answer()
                assert waiting.error == (413, "BodyTooLarge")
                assert project.json("trace", waiting.request_id)["outcome"] == "rejected"


def test_json_that_no_two_readers_agree_on_is_right_or_refused_and_recorded(project: Project) -> None:
    project.typescript("ts", "    return [typeof input, JSON.stringify(input)?.length];")
    project.write(
        "functions/py/main.py",
        "async def handler(input, ctx):\n"
        "    return [type(input).__name__, input if isinstance(input, list) else None]\n",
    )
    deep = b"[" * 1000 + b"]" * 1000
    bodies = {
        b"1" * 5000: 400,
        b'{"n": 1' + b"0" * 400 + b"}": 400,
        b"1e999999": 400,
        b"[NaN]": 400,
        b"[" * 5000 + b"]" * 5000: 400,
        deep: 200,
        b'{"a": 1, "a": 2}': 200,
        b'{"a": "\\ud800"}': 200,
        b"123456789012345678901234567890": 200,
    }
    ids = []
    with project.serving() as client:
        for path in ("/ts", "/py"):
            for body, status in bodies.items():
                answer = client.post(path, content=body, headers={"content-type": "application/json"})
                assert answer.status_code == status, (path, body[:40], answer.text)
                ids.append(answer.headers["x-request-id"])
        assert client.post("/py", content=deep).content == b'["list",' + deep + b"]"
    rows = project.json("query", "SELECT request_id, status FROM flux.executions")
    assert set(ids) <= {row["request_id"] for row in rows}
    assert {row["status"] for row in rows} == {200, 400}


def test_ipv6_loopback_is_an_address_like_any_other(project: Project) -> None:
    project.typescript("add", "    return input;")
    server = project.start("dev", "--host", "::1")
    assert server.url.startswith("http://[::1]:")
    assert f"curl -X POST '{server.url}/add'" in server.text()
    with httpx.Client(base_url=server.url, trust_env=False) as client:
        assert client.post("/add", json=1).json() == 1
        [listed] = client.get("/").json()["functions"]
        assert server.url in listed["curl"]
    assert project.flux("invoke", "add", "3").stdout.strip() == "3"
    checks = {check["name"]: check for check in project.json("doctor")["checks"]}
    assert server.url in checks["server"]["detail"]
    assert server.stop() == 0
