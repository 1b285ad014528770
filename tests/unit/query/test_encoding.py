"""Shapes as JSON text, and the values in them."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from flux.query import to_json
from flux.query.payload import DEEPEST, parse, present
from tests.unit.cli.shapes import call, trace


@pytest.mark.parametrize(
    ("stored", "printed"),
    [
        ("21.00", "21.00"),
        ("-0", "0"),
        ("1e400", '"1e400"'),
        ("0.10000000000000000001", '"0.10000000000000000001"'),
        ("9007199254740992", "9007199254740992"),
        ("9007199254740993", '"9007199254740993"'),
        ("1" * 5000, f'"{"1" * 5000}"'),
        ("1e999999999999999999999", '"1e999999999999999999999"'),
        ("1e-400", '"1e-400"'),
        ('"21.00"', '"21.00"'),
        ("true", "true"),
    ],
)
def test_a_number_keeps_what_it_says(stored: str, printed: str) -> None:
    assert to_json(parse(stored)) == printed
    assert to_json(present(stored.encode())) == printed


def test_a_number_that_says_more_than_a_float_is_still_a_number() -> None:
    assert parse("21.00") == Decimal("21.00") == 21


@pytest.mark.parametrize("indent", [None, 0, 2])
def test_half_a_surrogate_pair_is_written_as_its_escape(indent: int | None) -> None:
    value = {"a": ["\ud83d", 1, Decimal("2.50"), {}, []], "\udc00": {"é": None}}
    text = to_json(value, indent=indent)
    assert "2.50" in text
    assert json.loads(text) == {"a": ["\ud83d", 1, 2.5, {}, []], "\udc00": {"é": None}}
    whole = {"a": ["x", 1, {}, []], "é": {"y": None}}
    broken = {"a": ["\ud83d", 1, {}, []], "é": {"y": None}}
    assert to_json(broken, indent=indent).replace("\\ud83d", "x") == to_json(whole, indent=indent)


def test_what_is_beyond_64_bits_is_written() -> None:
    assert to_json([2**70, "\ud800"]) == f'[{2**70},"\\ud800"]'


@pytest.mark.parametrize(
    ("data", "shown"),
    [
        (b"", None),
        (b"\xff\xfe", {"$bytea": "//4="}),
        (b'{"a": ', '{"a": '),
        (b"NaN", "NaN"),
        (b"[" * 100_000, "[" * 100_000),
        (b"[" * 400 + b"]" * 400, "[" * 400 + "]" * 400),
    ],
)
def test_what_is_no_json_of_a_decent_depth_is_shown_as_it_is(data: bytes, shown: Any) -> None:
    assert present(data) == shown


def test_jsonb_that_is_nested_too_deeply_stays_text() -> None:
    deep = "[" * 990 + "]" * 990
    assert parse(deep) == deep
    bearable = "[" * (DEEPEST - 1) + "]" * (DEEPEST - 1)
    assert isinstance(parse(bearable), list)
    assert to_json(trace(input=parse(bearable)), indent=2).count("[") > DEEPEST


@pytest.mark.parametrize("depth", [400, 990, 20_000])
def test_of_an_object_only_the_deep_member_stays_text(depth: int) -> None:
    deep = "[" * depth + "]" * depth
    text = f'{{"a": 7, "j" : {deep}, "s": "}}]\\",{{", "o": {{"x": [1, 2]}}, "n": {"7" * 5000}}}'
    value = {"a": 7, "j": deep, "s": '}]",{', "o": {"x": [1, 2]}, "n": "7" * 5000}
    assert parse(text) == value
    assert parse(text[:-1]) == text[:-1]
    assert parse(f"{text} x") == f"{text} x"


def test_the_keys_of_a_document_stand_in_the_order_of_the_contract() -> None:
    document = json.loads(to_json(trace(host_calls=[call(1, "fetch", {"url": "x"})])))
    assert list(document)[:4] == ["request_id", "trace_id", "trigger", "function"]
    assert list(document["host_calls"][0])[:4] == ["seq", "op", "arguments", "result"]
