"""FetchClient against a real server that answers, fails, hangs, redirects, compresses and breaks off."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import socket
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from flux.host.fetch import FetchClient
from flux.record.call import HostCall, Outcome
from flux.record.ops import InvalidArguments
from tests.integration.host.local_http import HttpServer, Received, answer

KEY = "0123456789abcdef0123456789abcdef-3"


@pytest.fixture
async def client(provider: TracerProvider) -> AsyncIterator[FetchClient]:
    made = FetchClient(tracer=provider.get_tracer("test"), largest_body=100_000, connect_timeout=2.0)
    yield made
    await made.close()


async def fetch(client: FetchClient, url: str, **arguments: Any) -> Outcome:
    call = HostCall(op="fetch", arguments=json.dumps({"url": url, **arguments}).encode(), n=1, seq=3)
    async with asyncio.timeout(10):
        return await client.perform(call, idempotency_key=KEY)


def result(outcome: Outcome) -> dict[str, Any]:
    assert outcome.error is None, outcome.error
    assert outcome.result is not None
    return dict(json.loads(outcome.result))


def error(outcome: Outcome) -> str:
    assert outcome.error is not None, outcome.result
    assert outcome.result is None
    return outcome.error.type


async def test_a_response_comes_back_as_the_contract_says(client: FetchClient, server: HttpServer) -> None:
    server.routes["/hi"] = answer(
        "201 Made", "grüß".encode(), ("X-Two: a", "X-Two: b", "Content-Type: text/plain")
    )
    got = result(await fetch(client, server.url("/hi?q=1#part"), method="get", headers=[["X-Mine", "ü"]]))
    assert got == {
        "status": 201,
        "status_text": "Made",
        "url": server.url("/hi?q=1"),
        "headers": [
            ["content-length", "6"],
            ["x-two", "a"],
            ["x-two", "b"],
            ["content-type", "text/plain"],
        ],
        "body": "grüß",
        "redirected": False,
    }
    assert server.got[0].method == "GET"
    assert server.got[0].target == "/hi?q=1"
    assert server.got[0].values("x-mine") == ["ü"]


async def test_bytes_go_out_and_come_back_exactly(client: FetchClient, server: HttpServer) -> None:
    data = bytes(range(256))
    server.routes["/b"] = answer(body=data[::-1])
    sent = {"$bytea": base64.b64encode(data).decode()}
    got = result(await fetch(client, server.url("/b"), method="PUT", body=sent))
    assert server.got[0].body == data
    assert got["body"] == {"$bytea": base64.b64encode(data[::-1]).decode()}


async def test_a_compressed_body_is_decoded_and_its_headers_no_longer_say_so(
    client: FetchClient, server: HttpServer
) -> None:
    server.routes["/z"] = answer(body=gzip.compress(b"plain " * 100), headers=("Content-Encoding: gzip",))
    got = result(await fetch(client, server.url("/z")))
    assert got["body"] == "plain " * 100
    assert got["headers"] == []


async def test_an_encoding_that_cannot_be_decoded_is_handed_on_as_it_is(
    client: FetchClient, server: HttpServer
) -> None:
    server.routes["/br"] = answer(body=b"\x00\xff", headers=("Content-Encoding: br",))
    got = result(await fetch(client, server.url("/br")))
    assert got["body"] == {"$bytea": "AP8="}
    assert ["content-encoding", "br"] in got["headers"]


async def test_a_body_that_is_not_what_its_encoding_says_is_a_decoding_error(
    client: FetchClient, server: HttpServer
) -> None:
    server.routes["/z"] = answer(body=b"no gzip", headers=("Content-Encoding: gzip",))
    assert error(await fetch(client, server.url("/z"))) == "DecodingError"


async def test_a_4xx_is_a_result_and_its_span_an_error(
    client: FetchClient, server: HttpServer, spans: InMemorySpanExporter
) -> None:
    server.routes["/gone"] = answer("404 Not Found", b"{}")
    outcome = await fetch(client, server.url("/gone").replace("http://", "http://me:pass@"))
    assert result(outcome)["status"] == 404
    assert result(outcome)["url"] == server.url("/gone")
    assert server.got[0].values("authorization") == ["Basic " + base64.b64encode(b"me:pass").decode()]
    (span,) = spans.get_finished_spans()
    assert span.context is not None
    assert outcome.span_id == format(span.context.span_id, "016x")
    assert span.name == "GET"
    assert span.kind.name == "CLIENT"
    assert span.status.status_code.name == "ERROR"
    assert dict(span.attributes or {}) == {
        "http.request.method": "GET",
        "url.full": server.url("/gone"),
        "server.address": "127.0.0.1",
        "server.port": server.port,
        "http.response.status_code": 404,
        "error.type": "404",
    }


async def test_the_request_carries_the_client_spans_traceparent_whatever_the_function_set(
    client: FetchClient, server: HttpServer, spans: InMemorySpanExporter
) -> None:
    server.routes["/t"] = answer()
    await fetch(client, server.url("/t"), headers=[["traceparent", f"00-{1:032x}-{2:016x}-01"]])
    context = spans.get_finished_spans()[0].context
    assert context is not None
    (sent,) = server.got[0].values("traceparent")
    assert sent.startswith(f"00-{context.trace_id:032x}-{context.span_id:016x}-0")


@pytest.mark.parametrize(
    ("method", "headers", "keys"),
    [
        ("POST", [], [KEY]),
        ("patch", [], [KEY]),
        ("POST", [["idempotency-KEY", "mine"]], ["mine"]),
        ("PUT", [], []),
        ("GET", [], []),
    ],
)
async def test_a_request_that_is_not_idempotent_carries_a_stable_key(
    client: FetchClient, server: HttpServer, method: str, headers: list[list[str]], keys: list[str]
) -> None:
    server.routes["/k"] = answer()
    await fetch(client, server.url("/k"), method=method, headers=headers)
    assert server.got[0].method == method.upper()
    assert server.got[0].values("idempotency-key") == keys


async def test_redirects_are_followed_and_the_last_url_is_told(
    client: FetchClient, server: HttpServer
) -> None:
    server.routes["/a"] = answer("302 Found", headers=("Location: /b",))
    server.routes["/b"] = answer(body=b"there")
    got = result(await fetch(client, server.url("/a")))
    assert (got["status"], got["body"], got["url"], got["redirected"]) == (
        200,
        "there",
        server.url("/b"),
        True,
    )


async def test_a_redirect_can_be_handed_over_or_forbidden(client: FetchClient, server: HttpServer) -> None:
    server.routes["/a"] = answer("302 Found", headers=("Location: /b",))
    manual = result(await fetch(client, server.url("/a"), redirect="manual"))
    assert (manual["status"], manual["redirected"]) == (302, False)
    assert ["location", "/b"] in manual["headers"]
    assert error(await fetch(client, server.url("/a"), redirect="error")) == "UnexpectedRedirect"
    assert [request.target for request in server.got] == ["/a", "/a"]


async def test_an_endless_chain_of_redirects_ends(client: FetchClient, server: HttpServer) -> None:
    server.routes["/a"] = answer("302 Found", headers=("Location: /a",))
    assert error(await fetch(client, server.url("/a"))) == "TooManyRedirects"
    assert len(server.got) == 21


async def test_credentials_do_not_follow_a_redirect_to_another_origin(
    client: FetchClient, server: HttpServer
) -> None:
    server.routes["/a"] = answer("302 Found", headers=(f"Location: http://localhost:{server.port}/b",))
    server.routes["/b"] = answer()
    headers = [["Authorization", "Bearer x"], ["Cookie", "a=1"]]
    result(await fetch(client, server.url("/a"), headers=headers))
    assert [request.values("authorization") for request in server.got] == [["Bearer x"], []]
    assert [request.values("cookie") for request in server.got] == [["a=1"], []]


async def test_a_redirect_to_another_scheme_is_refused(client: FetchClient, server: HttpServer) -> None:
    server.routes["/a"] = answer("302 Found", headers=("Location: file:///etc/passwd",))
    assert error(await fetch(client, server.url("/a"))) == "InvalidURL"


async def test_a_cookie_set_for_one_execution_is_never_sent_for_another(
    client: FetchClient, server: HttpServer
) -> None:
    server.routes["/login"] = answer(headers=("Set-Cookie: session=one; Path=/",))
    server.routes["/next"] = answer()
    assert ["set-cookie", "session=one; Path=/"] in result(await fetch(client, server.url("/login")))[
        "headers"
    ]
    await fetch(client, server.url("/next"))
    assert server.got[1].values("cookie") == []


async def test_connections_are_kept_alive(client: FetchClient, server: HttpServer) -> None:
    server.routes["/k"] = answer(body=b"x")
    for _ in range(5):
        result(await fetch(client, server.url("/k")))
    assert server.connections == 1


async def test_a_response_over_the_limit_is_refused(client: FetchClient, server: HttpServer) -> None:
    server.routes["/full"] = answer(body=b"x" * 100_000)
    server.routes["/over"] = answer(body=gzip.compress(b"x" * 100_001), headers=("Content-Encoding: gzip",))
    assert len(result(await fetch(client, server.url("/full")))["body"]) == 100_000
    assert error(await fetch(client, server.url("/over"))) == "ResponseTooLarge"


async def test_a_connection_that_breaks_off_is_an_error(client: FetchClient, server: HttpServer) -> None:
    async def hang_up(request: Received, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async def half(request: Received, writer: asyncio.StreamWriter) -> None:
        await answer(body=b"half", length=100)(request, writer)
        writer.close()

    async def garbage(request: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SMTP ready\r\n\r\n")

    server.routes = {"/none": hang_up, "/half": half, "/garbage": garbage}
    for path in server.routes:
        outcome = await fetch(client, server.url(path))
        assert error(outcome) == "ConnectionBroken"
        assert outcome.error is not None
        assert server.url(path) in outcome.error.message


async def test_a_refused_connection_is_named_and_its_span_an_error(
    client: FetchClient, spans: InMemorySpanExporter
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://u:secret@127.0.0.1:{unused.getsockname()[1]}/x"
        outcome = await fetch(client, url)
    assert error(outcome) == "ConnectError"
    assert outcome.error is not None
    assert "Connection refused" in outcome.error.message
    assert "secret" not in outcome.error.message
    (span,) = spans.get_finished_spans()
    assert span.attributes is not None
    assert span.attributes["error.type"] == "ConnectError"
    assert "http.response.status_code" not in span.attributes


async def test_a_name_that_does_not_resolve_is_a_dns_error(client: FetchClient) -> None:
    assert error(await fetch(client, "http://nowhere.invalid/")) == "DNSError"
    assert error(await fetch(client, f"http://{'a' * 70}.example/")) in {"DNSError", "InvalidURL"}


async def test_ipv6_hosts_can_be_reached(client: FetchClient) -> None:
    server = HttpServer(routes={"/six": answer(body=b"six")})
    async with server.listening("::1"):
        assert result(await fetch(client, f"http://[::1]:{server.port}/six"))["body"] == "six"


@pytest.mark.parametrize(
    "url", ["ftp://example.org/", "file:///etc/passwd", "//x/", "/path", "", "http://", "http://x:99999999/"]
)
async def test_only_http_urls_can_be_fetched(client: FetchClient, url: str) -> None:
    assert error(await fetch(client, url)) == "InvalidURL"


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ({"method": "GE T"}, "$.method"),
        ({"method": "CONNECT"}, "$.method"),
        ({"method": 5}, "$.method"),
        ({"headers": [["a", "b", "c"]]}, "$.headers"),
        ({"headers": [["a", "€"]]}, "$.headers"),
        ({"body": {"$bytea": "?"}}, "$.body"),
        ({"redirect": "maybe"}, "$.redirect"),
    ],
)
async def test_bad_arguments_are_refused_by_name(
    client: FetchClient, server: HttpServer, arguments: dict[str, Any], part: str
) -> None:
    with pytest.raises(InvalidArguments, match=r"^fetch: .*" + part.replace("$", r"\$")):
        await fetch(client, server.url("/x"), **arguments)
    assert server.got == []


async def test_a_header_cannot_smuggle_another(client: FetchClient, server: HttpServer) -> None:
    outcome = await fetch(client, server.url("/x"), headers=[["a", "b\r\nc: d"]])
    assert error(outcome) == "invalid_arguments"
    assert server.got == []


async def test_the_connections_own_headers_are_not_the_functions_to_set(
    client: FetchClient, server: HttpServer
) -> None:
    server.routes["/x"] = answer(body=b"ok")
    headers = [["Content-Length", "999"], ["Transfer-Encoding", "chunked"], ["Connection", "close"]]
    assert result(await fetch(client, server.url("/x"), method="POST", body="abc", headers=headers))
    assert server.got[0].body == b"abc"
    assert server.got[0].values("content-length") == ["3"]


async def test_a_hanging_call_is_let_go_of_when_its_execution_cancels_it(
    client: FetchClient, server: HttpServer, spans: InMemorySpanExporter
) -> None:
    async def hang(request: Received, writer: asyncio.StreamWriter) -> None:
        return

    server.routes = {"/hang": hang}
    call = asyncio.create_task(fetch(client, server.url("/hang")))
    await server.arrived.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await server.dropped.wait()
    (span,) = spans.get_finished_spans()
    assert span.attributes is not None
    assert span.attributes["error.type"] == "cancelled"


async def test_a_calls_own_timeout_ends_it(client: FetchClient, server: HttpServer) -> None:
    server.routes["/silent"] = lambda request, writer: asyncio.sleep(0)
    outcome = await fetch(client, server.url("/silent"), method="POST", timeout={"read": 50})
    assert outcome.error is not None
    assert (outcome.error.type, outcome.error.detail) == ("TimeoutError", {"phase": "read"})
    assert outcome.error.message == f"POST {server.url('/silent')}: no answer within 0.05 s"
    async with asyncio.timeout(10):
        await server.dropped.wait()


async def test_a_timeout_that_is_not_reached_changes_nothing(client: FetchClient, server: HttpServer) -> None:
    server.routes["/"] = answer(body=b"here")
    timeout = {"connect": 9_000, "read": 9_000, "write": None, "pool": 9_000}
    assert result(await fetch(client, server.url("/"), timeout=timeout))["body"] == "here"


async def test_proxies_of_the_environment_are_not_used(
    server: HttpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    server.routes["/x"] = answer(body=b"direct")
    client = FetchClient()
    assert result(await fetch(client, server.url("/x")))["body"] == "direct"
    await client.close()


async def test_a_certificate_nobody_vouches_for_is_a_tls_error(client: FetchClient, tmp_path: Path) -> None:
    server = HttpServer()
    async with server.listening(tls=_self_signed(tmp_path)):
        assert error(await fetch(client, f"https://127.0.0.1:{server.port}/")) == "TLSError"
    assert server.got == []


def _self_signed(folder: Path) -> ssl.SSLContext:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    pem = folder / "server.pem"
    pem.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    return context
