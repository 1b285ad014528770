"""Response: an answer with a status, headers and a body of its own."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")

LONGEST_HEADERS = 64 * 1024

Headers = Mapping[str, str] | Iterable[tuple[str, str]]


class Response:
    """What a handler returns to set more than the value.

    Args:
        body: bytes as they are; a str as UTF-8 text; None is empty; anything else as JSON.
        status: 200 to 599.
        headers: a mapping, or pairs where a name is repeated. `content-type` follows from the body unless
            given.
    """

    __slots__ = ("body", "headers", "status")

    def __init__(self, body: Any = None, status: int = 200, headers: Headers | None = None) -> None:
        self.status = _status(status)
        self.headers = _headers(headers)
        self.body: Any = body

    @classmethod
    def json(cls, value: Any, status: int = 200, headers: Headers | None = None) -> Response:
        """`value` as JSON, strings included."""
        pairs = list(_pairs(headers))
        if not any(str(name).lower() == "content-type" for name, _ in pairs):
            pairs.append(("content-type", "application/json"))
        return cls(_JSON(value), status, pairs)

    @classmethod
    def redirect(cls, url: str, status: int = 302) -> Response:
        """Send the client to `url`."""
        return cls(None, status, {"location": url})

    def encode(self, dumps: Any = None) -> bytes:
        """The body's bytes; adds a `content-type` where none was given.

        Args:
            dumps: turns a value into JSON bytes.

        Raises:
            ValueError: status or headers were changed to what no response can have.
        """
        self.status, self.headers = _status(self.status), _headers(self.headers)
        body, kind = self.body, None
        if isinstance(body, _JSON):
            body, kind = _dumps(body.value, dumps), "application/json"
        elif body is None:
            body = b""
        elif isinstance(body, str):
            body, kind = body.encode(), "text/plain; charset=utf-8"
        elif isinstance(body, (bytes, bytearray, memoryview)):
            body, kind = bytes(body), "application/octet-stream"
        else:
            body, kind = _dumps(body, dumps), "application/json"
        if kind is not None and not any(name.lower() == "content-type" for name, _ in self.headers):
            self.headers.append(("content-type", kind))
        return body


class _JSON:
    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


def _dumps(value: Any, dumps: Any) -> bytes:
    return json.dumps(value, allow_nan=False).encode() if dumps is None else dumps(value)


def _pairs(headers: Headers | None) -> Iterable[tuple[str, str]]:
    if headers is None:
        return ()
    return headers.items() if isinstance(headers, Mapping) else headers


def _status(status: Any) -> int:
    if isinstance(status, bool) or not isinstance(status, int) or not 200 <= status <= 599:
        raise ValueError(f"a response's status is a whole number from 200 to 599, not {status!r}")
    return int(status)


def _headers(headers: Headers | None) -> list[tuple[str, str]]:
    checked = [_header(name, value) for name, value in _pairs(headers)]
    if sum(len(name) + len(value) for name, value in checked) > LONGEST_HEADERS:
        raise ValueError(f"a response's headers may have {LONGEST_HEADERS} characters in all")
    return checked


def _header(name: Any, value: Any) -> tuple[str, str]:
    if not isinstance(name, str) or not _TOKEN.fullmatch(name):
        raise ValueError(f"{name!r} is not a header's name")
    text = value if isinstance(value, str) else str(value)
    if not _VALUE.fullmatch(text):
        raise ValueError(f"header {name!r} has characters that HTTP can't carry")
    return name, text
