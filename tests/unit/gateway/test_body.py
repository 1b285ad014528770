"""Bodies up to the limit, what is read as JSON, and queries as input."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from flux.gateway.body import (
    BodyTooLarge,
    ClientGone,
    Receive,
    is_json_body,
    query_input,
    read_body,
)
from flux.runtime.request import query_members


def _receive(*messages: Mapping[str, Any]) -> Receive:
    waiting = iter(messages)

    async def receive() -> Mapping[str, Any]:
        return next(waiting)

    return receive


def _part(body: bytes, *, more: bool) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


async def test_a_body_in_parts_is_joined() -> None:
    receive = _receive(_part(b"ab", more=True), _part(b"", more=True), _part(b"c", more=False))
    assert await read_body(receive, None, 3) == b"abc"


@pytest.mark.parametrize(
    ("declared", "messages"),
    [
        (11, []),
        (None, [_part(b"x" * 11, more=False)]),
        (None, [_part(b"x" * 6, more=True), _part(b"x" * 5, more=False)]),
        (None, [_part(b"x" * 11, more=True)]),
        (3, [_part(b"x" * 11, more=False)]),
    ],
)
async def test_a_body_above_the_limit_is_refused_however_it_comes(
    declared: int | None, messages: list[dict[str, Any]]
) -> None:
    with pytest.raises(BodyTooLarge) as refused:
        await read_body(_receive(*messages), declared, 10)
    assert refused.value.size == 11


async def test_a_client_that_leaves_early_is_noticed() -> None:
    with pytest.raises(ClientGone):
        await read_body(_receive(_part(b"a", more=True), {"type": "http.disconnect"}), 5, 10)
    with pytest.raises(ClientGone):
        await read_body(_receive({"type": "http.disconnect"}), 5, 10)


def test_what_is_parsed_as_json() -> None:
    assert is_json_body("application/json; charset=utf-8", b"x")
    assert is_json_body("application/problem+json", b"x")
    assert is_json_body(None, b"1")
    assert is_json_body("application/x-www-form-urlencoded", b' {"a": 1}')
    assert not is_json_body("application/x-www-form-urlencoded", b"a=1")
    assert not is_json_body("text/plain", b"{}")
    assert not is_json_body("application/json", b"")


def test_a_query_becomes_an_object_with_lists_where_a_name_is_repeated() -> None:
    members = query_members("a=1&b=2&a=3&c=&%C3%A4=%20x")
    assert members == {"a": ["1", "3"], "b": ["2"], "c": [""], "ä": [" x"]}
    assert query_input(members) == '{"a":["1","3"],"b":"2","c":"","ä":" x"}'.encode()
