"""Reading a request: its body up to the limit, and the JSON input that a handler gets from it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import orjson

from flux.gateway.http1 import REFUSED

Receive = Callable[[], Awaitable[Mapping[str, Any]]]


LARGEST = 2**63 - 1
"""Longest body that a record has a number for; a client may claim more."""


class BodyTooLarge(Exception):
    """The body is longer than the limit; `size` is what is known of its length, LARGEST at most."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.size = min(size, LARGEST)


class ClientGone(Exception):
    """The client went away before its body was complete."""


class BodyRefused(Exception):
    """The rest of the body will not be had: what came is no HTTP, or it came too slowly.

    Attributes:
        status, kind, message: how the request is to be answered.
    """

    def __init__(self, status: int, kind: str, message: str) -> None:
        super().__init__(message)
        self.status, self.kind, self.message = status, kind, message


async def read_body(receive: Receive, declared: int | None, limit: int) -> bytes:
    """The whole body.

    Args:
        receive: the ASGI callable.
        declared: content-length, or None.
        limit: most bytes accepted.

    Raises:
        BodyTooLarge: declared or received more than `limit`.
        ClientGone: disconnected before the end.
        BodyRefused: the connection gave up.
    """
    if declared is not None and declared > limit:
        raise BodyTooLarge(declared)
    message = await receive()
    if message["type"] == "http.disconnect":
        raise _gone(message)
    first: bytes = message.get("body", b"")
    if not message.get("more_body", False):
        if len(first) > limit:
            raise BodyTooLarge(len(first))
        return first
    parts, size = [first], len(first)
    while True:
        if size > limit:
            raise BodyTooLarge(size)
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _gone(message)
        part = message.get("body", b"")
        size += len(part)
        parts.append(part)
        if not message.get("more_body", False):
            if size > limit:
                raise BodyTooLarge(size)
            return b"".join(parts)


def _gone(message: Mapping[str, Any]) -> ClientGone | BodyRefused:
    refusal = message.get(REFUSED)
    return ClientGone() if refusal is None else BodyRefused(*refusal)


def is_json_body(content_type: str | None, body: bytes) -> bool:
    """Whether the body is to be parsed as JSON: said so, or nothing (or curl's default) said and it looks
    so.
    """
    if not body:
        return False
    kind = (content_type or "").partition(";")[0].strip().lower()
    if kind == "application/json" or kind.endswith("+json"):
        return True
    if kind in ("", "application/x-www-form-urlencoded"):
        return kind == "" or body.lstrip()[:1] in (b"{", b"[", b'"')
    return False


def query_input(members: Mapping[str, list[str]]) -> bytes:
    """The query as the JSON object that a GET handler gets: a string each, a list where a name is
    repeated.
    """
    return orjson.dumps({name: values[0] if len(values) == 1 else values for name, values in members.items()})
