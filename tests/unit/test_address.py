"""Addresses in URLs and Host headers."""

from __future__ import annotations

import pytest

from flux.address import authority, base_url, is_local


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:4000"),
        ("localhost", "http://localhost:4000"),
        ("::1", "http://[::1]:4000"),
        ("fe80::1%eth0", "http://[fe80::1%25eth0]:4000"),
        ("0.0.0.0", "http://127.0.0.1:4000"),
        ("::", "http://[::1]:4000"),
    ],
)
def test_a_url_of_each_kind_of_address(host: str, url: str) -> None:
    assert base_url(host, 4000) == url


@pytest.mark.parametrize(
    ("text", "name", "port"),
    [
        ("h", "h", None),
        ("H.Example.:80", "h.example", 80),
        ("[::1]:4000", "::1", 4000),
        ("[::1]", "::1", None),
        ("::1", "::1", None),
        ("h:", "h", None),
        ("h:port", "h:port", None),
        ("h:123456", "h:123456", None),
        ("h:²", "h:²", None),
        ("", "", None),
    ],
)
def test_a_host_header_is_read_whatever_it_holds(text: str, name: str, port: int | None) -> None:
    assert authority(text) == (name, port)


def test_which_names_are_this_machines() -> None:
    assert all(is_local(name) for name in ("localhost", "a.localhost", "127.0.0.1", "127.1.2.3", "::1"))
    assert not any(is_local(name) for name in ("", "localhost.evil.example", "10.0.0.1", "0.0.0.0", "evil"))
