"""Which requests a server on this machine answers: not those of other people's web pages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flux.config import Config
from flux.gateway.origins import Origins


def kind(headers: dict[str, str], method: str = "POST", path: str = "/f", **settings: Any) -> str | None:
    """The type of the refusal of a request."""
    found = Origins(Config(root=Path("/app"), **settings)).refusal(method, path, headers)
    return None if found is None else found.type


LOCAL = "localhost:4000"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"host": ""},
        {"host": LOCAL},
        {"host": "127.0.0.1:4000"},
        {"host": "127.8.8.8"},
        {"host": "[::1]:4000"},
        {"host": "LocalHost.:4000"},
        {"host": "shop.localhost:4000"},
        {"host": LOCAL, "origin": f"http://{LOCAL}", "sec-fetch-site": "same-origin"},
        {"host": LOCAL, "origin": f"https://{LOCAL}"},
        {"host": LOCAL, "sec-fetch-site": "none"},
    ],
)
def test_what_is_from_here_is_answered(headers: dict[str, str]) -> None:
    assert kind(headers) is None
    assert kind(headers, dev=True, path="/_flux/api/v1/functions") is None


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:4000",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "a@b",
        "10.0.0.1",
    ],
)
@pytest.mark.parametrize("path", ["/f", "/", "/_flux/api/v1/functions", "/_flux/metrics"])
def test_another_name_is_refused_everywhere(host: str, path: str) -> None:
    assert kind({"host": host}, "GET", path) == "ForbiddenHost"


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "null",
        "http://localhost:5173",
        "http://localhost",
        f"http://{LOCAL}.evil.example",
        "",
    ],
)
def test_a_foreign_origin_is_refused(origin: str) -> None:
    for method in ("GET", "POST", "OPTIONS"):
        assert kind({"host": LOCAL, "origin": origin}, method) == "ForbiddenOrigin"


def test_another_site_is_refused_unless_its_user_goes_here() -> None:
    foreign = {"host": LOCAL, "sec-fetch-site": "cross-site"}
    going = {**foreign, "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
    framed = {**going, "sec-fetch-dest": "iframe"}
    assert kind(foreign, "GET") == kind(going, "POST") == kind(framed, "GET") == "ForbiddenSite"
    assert kind(going, "GET") is None


def test_health_is_said_under_any_name() -> None:
    assert kind({"host": "probe.example"}, "GET", "/_flux/health") is None
    assert kind({"host": "probe.example"}, "GET", "/_flux/healthy") == "ForbiddenHost"


def test_further_names_are_allowed_by_name_and_their_pages_are_not_this_machines() -> None:
    names = {"allowed_hosts": ("API.example.com", ".shop.example")}
    for host in ("api.example.com", "api.example.com:443", "a.shop.example", "a.b.shop.example"):
        assert kind({"host": host, "origin": "https://elsewhere.example"}, **names) is None
    for host in ("example.com", "shop.example", "evilshop.example"):
        assert kind({"host": host}, **names) == "ForbiddenHost"
    assert kind({"host": "anything.example"}, allowed_hosts=("*",)) is None
    assert kind({"host": LOCAL, "origin": "https://evil.example"}, allowed_hosts=("*",)) == "ForbiddenOrigin"


def test_on_another_address_any_name_is_answered_until_names_are_listed() -> None:
    assert kind({"host": "api.example.com"}, host="0.0.0.0") is None
    listed: dict[str, Any] = {"host": "10.0.0.5", "allowed_hosts": ("api.example.com",)}
    found = Origins(Config(root=Path("/app"), **listed))
    assert found.refusal("GET", "/f", {"host": "10.0.0.5:4000"}) is None
    refused = found.refusal("GET", "/f", {"host": "localhost"})
    assert refused is not None
    assert "allowed_hosts" in refused.message


def test_a_flood_of_names_is_not_kept() -> None:
    origins = Origins(Config(root=Path("/app")))
    for n in range(5000):
        origins.host(f"h{n}.example")
    assert len(origins._known) <= 1024
