"""Names of columns and parameters, as far as they need no server."""

from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest

from flux.data import values
from flux.data.values import parameter, unique_names


@pytest.mark.parametrize(
    ("names", "unique"),
    [
        (["a", "b"], ("a", "b")),
        (["id", "id", "id"], ("id", "id_2", "id_3")),
        (["id", "id", "id_2"], ("id", "id_3", "id_2")),
        (["id_2", "id", "id"], ("id_2", "id", "id_3")),
    ],
)
def test_no_value_of_a_repeated_column_is_lost(names: list[str], unique: tuple[str, ...]) -> None:
    assert unique_names(names) == unique


def test_numbers_are_exact() -> None:
    assert parameter(msgspec.Raw(b"9223372036854775808")) == 2**63
    assert parameter(msgspec.Raw(b"0.10")) == Decimal("0.10")


def test_objects_and_arrays_remember_their_text() -> None:
    assert parameter(msgspec.Raw(b'{"b":1.0,"a": 2}')).text == b'{"b":1.0,"a": 2}'
    assert parameter(msgspec.Raw(b"[1,  2]")).text == b"[1,  2]"


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (b"[]", []),
        (b' [1 , [2,3],\t{"a":[4]} ]', [b"1", b"[2,3]", b'{"a":[4]}']),
        (b'{"a":1,"b]":{"c":"}\\\\"}}', [b'"a":1', b'"b]":{"c":"}\\\\"}']),
        (b'["\\"",",]"]', [b'"\\""', b'",]"']),
        (b"[%b,1]" % (b"[" * 5000 + b"]" * 5000), [b"[" * 5000 + b"]" * 5000, b"1"]),
    ],
)
def test_a_document_is_taken_apart_at_any_depth(text: bytes, parts: list[bytes]) -> None:
    assert values.elements(text) == parts


def test_a_parameter_too_deep_or_too_long_for_python_is_kept_exact() -> None:
    deep = b"[" * 3000 + b"]" * 3000
    assert values._json_text(values.parameter(msgspec.Raw(deep))) == deep
    assert values.parameter(msgspec.Raw(b"9" * 5000)) == Decimal("9" * 5000)
    assert values.parameter(msgspec.Raw(b"[%b]" % (b"9" * 5000))) == [Decimal("9" * 5000)]
