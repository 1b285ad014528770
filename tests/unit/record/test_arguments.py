"""Reading what a guest says."""

from __future__ import annotations

import pytest

from flux.record import arguments, ops
from flux.record.call import HostCall
from flux.record.ops import InvalidArguments, asked

FETCH, PUSH = arguments.Fetch, arguments.Push


def call(op: str, given: bytes) -> HostCall:
    return HostCall(op=op, arguments=given, n=1)


def test_a_payload_is_kept_as_it_was_written() -> None:
    push = asked(call("queue.push", b'{"name":"a","payload": {"b":1.0 ,"a":[ ]} }'), PUSH)
    assert bytes(push.payload) == b'{"b":1.0 ,"a":[ ]}'
    assert bytes(asked(call("queue.push", b'{"name":"a"}'), PUSH).payload) == b"null"


def test_halves_of_surrogate_pairs_in_a_payload_are_kept_as_they_were_written() -> None:
    payload = rb'["\udfff\\u0000",{"x\ud800\ud800\udc00":"\uD83D"}]'
    push = asked(call("queue.push", b'{"name":"a","payload":' + payload + b"}"), PUSH)
    assert (push.name, bytes(push.payload)) == ("a", payload)


@pytest.mark.parametrize(
    ("op", "given"),
    [
        ("queue.push", rb'{"name":"a","options":{"idempotencyKey":"n\ud83d"}}'),
        ("queue.push", rb'{"name":"a\ud83d"}'),
        ("invoke", rb'{"name":"\udc00a"}'),
        ("secrets.get", rb'{"key":"K\ud83d"}'),
    ],
)
def test_half_a_surrogate_pair_in_a_name_or_key_is_refused(op: str, given: bytes) -> None:
    """Two keys that differ in it would be read alike: the second push would be a duplicate of the first."""
    with pytest.raises(InvalidArguments, match=f"^{op}: half a surrogate pair stands in a name or a key"):
        ops.check(call(op, given))


def test_arguments_nested_too_deeply_are_refused() -> None:
    with pytest.raises(InvalidArguments, match="nested too deeply"):
        asked(call("queue.push", b'{"name":"a","payload":' + b"[" * 5000 + b"]" * 5000 + b"}"), PUSH)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (rb"\ud800", "\ufffd"),
        (rb"\udfff.\uD83D", "\ufffd.\ufffd"),
        (rb"\ude00\ud83d", "\ufffd\ufffd"),
        (rb"\ud83d\ude00\ud83d", "\U0001f600\ufffd"),
        (rb"\\ud800\ud800\n", "\\ud800\ufffd\n"),
        (rb"\ud83d\u0041", "\ufffdA"),
    ],
)
def test_half_a_surrogate_pair_is_read_as_a_replacement_character(written: bytes, read: str) -> None:
    fetch = asked(call("fetch", b'{"url":"' + written + b'"}'), FETCH)
    assert fetch.url == read


@pytest.mark.parametrize(
    "given", [b"", b"{", b"null", b'{"url": 1}', b'{"url": "\xff"}', rb'{"url": "\ud8"}']
)
def test_what_cannot_be_understood_is_refused_in_the_name_of_the_op(given: bytes) -> None:
    with pytest.raises(InvalidArguments, match=r"^fetch: "):
        asked(call("fetch", given), FETCH)


@pytest.mark.parametrize("text", [rb"select '\ud800'", rb"\udfff"])
def test_half_a_surrogate_pair_in_sql_is_refused_not_replaced(text: bytes) -> None:
    with pytest.raises(InvalidArguments, match=r"^db\.sql: half a surrogate pair"):
        asked(call("db.sql", b'{"text":"' + text + b'"}'), arguments.Sql)


@pytest.mark.parametrize(
    ("op", "given"),
    [
        ("queue.push", b'{"name":"a","options":{"maxAttempts":0}}'),
        ("queue.push", b'{"name":"a","options":{"delay":-1}}'),
        ("queue.push", b'{"name":""}'),
        ("db.sql", b'{"params":[]}'),
        ("db.sql", b'{"text":"select 1","params":null}'),
        ("db.begin", b'{"isolation":1}'),
        ("db.commit", b"[]"),
        ("db.query", b"[]"),
    ],
)
def test_the_data_engine_and_the_host_read_the_same_strict_arguments(op: str, given: bytes) -> None:
    with pytest.raises(InvalidArguments, match=f"^{op}: "):
        ops.check(call(op, given))
