"""Requests that need no protocol engine: whole in one read, and nothing in them can be read in two ways.

h11 and Hypercorn's stream, task and queue around a request cost as much as all of Flux, and nearly every
request is a plain one. For what is the least unusual (a body still on its way, chunks, an upgrade, a header
given twice where it may not be) the answer here is None, and the connection gives the same bytes to h11.
"""

from __future__ import annotations

import re
from email.utils import formatdate
from http import HTTPStatus
from urllib.parse import unquote

import msgspec

Headers = list[tuple[str, str]]
Fields = list[tuple[bytes, bytes]]

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
_TEXT = rb"[\t\x20-\x7e\x80-\xff]"
_METHODS = (b"GET", b"POST", b"PUT", b"PATCH", b"DELETE")
_BEGINNINGS = tuple(method + b" /" for method in _METHODS)
_HEAD = re.compile(
    rb"("
    + b"|".join(_METHODS)
    + rb") (/[!-~]*+) HTTP/1\.1\r\n((?:"
    + _TOKEN
    + rb"++:"
    + _TEXT
    + rb"*+\r\n)++)\r\n"
)
_FIELD = re.compile(r"([^:]+):[\t ]*([^\r\n]*)\r\n")
_NAME = re.compile(_TOKEN + rb"++")
_VALUE = re.compile(_TEXT + rb"*+")
_UNUSUAL = frozenset({"transfer-encoding", "upgrade", "expect", "http2-settings", "te", "trailer"})
_LENGTH = re.compile(r"[0-9]{1,15}")
_UNBODIED = frozenset({204, 304})
_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}


class Incoming(msgspec.Struct, frozen=True):
    """A request as it came, whoever read it.

    Attributes:
        method, version: as in its first line. scheme: how it came.
        raw: its path as it was sent. path: decoded. query: behind the `?`.
        headers: names in lower case.
        body: all of it, where that was there at once.
    """

    method: str
    raw: str
    path: str
    query: str
    headers: Headers
    body: bytes = b""
    version: str = "1.1"
    scheme: str = "http"


NOTHING = Incoming("", "", "", "", [])
"""What stands for a request where nothing came that is one."""


def parse(data: bytes, at: int = 0, *, most_head: int, most_fields: int) -> tuple[Incoming, int] | None:
    """The request that begins at `at`, if it is a plain one and all of it is there, and where it ends.

    Args:
        data: what one read brought; pipelined requests follow each other in it.
        most_head: bytes that a head may have; most_fields: header fields that a request may have.
    """
    found = _HEAD.match(data, at)
    if found is None or found.end() - at > most_head:
        return None
    method, target, block = found.groups()
    headers: Headers = []
    length = hosts = 0
    measured = False
    for spelled, padded in _FIELD.findall(block.decode("latin-1")):
        name, value = spelled.lower(), padded.rstrip("\t ")
        if name == "host":
            hosts += 1
        elif name == "content-length":
            if measured or _LENGTH.fullmatch(value) is None:
                return None
            measured, length = True, int(value)
        elif name in _UNUSUAL or (name == "connection" and value.lower() != "keep-alive"):
            return None
        headers.append((name, value))
    begins = found.end()
    end = begins + length
    if hosts != 1 or len(headers) > most_fields or len(data) < end:
        return None
    raw, _, query = target.decode("ascii").partition("?")
    path = unquote(raw) if "%" in raw else raw
    return Incoming(method.decode(), raw, path, query, headers, data[begins:end]), end


def begun(data: bytes) -> bool:
    """Whether `data` may be the beginning of a plain request's head."""
    return b"\r\n\r\n" not in data and any(
        data.startswith(begin) or begin.startswith(data) for begin in _BEGINNINGS
    )


class Unsendable(ValueError):
    """A response has a header that can't be sent; the text says which."""


class Answer(msgspec.Struct, frozen=True):
    """What is said to a request, whole."""

    status: int
    headers: Fields
    body: bytes

    def head(self, date: bytes, *, last: bool) -> bytes:
        """What precedes the body.

        Args:
            date: the Date header's value, where the application gives none.
            last: whether the connection ends with it.

        Raises:
            Unsendable: a header's name or value has characters that would break out of it.
        """
        status = self.status
        parts = [_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status]
        measured, dated = status in _UNBODIED, False
        for name, value in self.headers:
            if (name not in _named and not _fit(name)) or _VALUE.fullmatch(value) is None:
                raise Unsendable(f"The response header {name[:80]!r} can't be sent: {value[:80]!r}.")
            if name == b"content-length":
                measured = True
            elif name == b"date":
                dated = True
            parts.append(b"%b: %b\r\n" % (name, value))
        if not measured:
            parts.append(b"content-length: %d\r\n" % len(self.body))
        if last:
            parts.append(b"connection: close\r\n")
        parts.append(b"\r\n" if dated else b"date: %b\r\n\r\n" % date)
        return b"".join(parts)


FAILED = Answer(500, [], b"")
"""What is said where the application failed to say anything."""
_named: set[bytes] = set()
"""Names of headers that were found fit."""
_MOST_NAMED = 1024


def _fit(name: bytes) -> bool:
    if _NAME.fullmatch(name) is None:
        return False
    if len(_named) < _MOST_NAMED:
        _named.add(name)
    return True


class Dates:
    """The Date header, made once a second."""

    def __init__(self) -> None:
        self._second = -1
        self._text = b""

    def at(self, now: float) -> bytes:
        """Its value at `now`, in seconds since the epoch."""
        second = int(now)
        if second != self._second:
            self._second = second
            self._text = formatdate(second, usegmt=True).encode()
        return self._text
