"""Names of columns and parameters, as far as they need no server."""

from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest

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
