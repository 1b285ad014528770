"""A span as a row, without a database."""

from __future__ import annotations

import json
import math
from datetime import UTC, date, datetime

import msgspec
import pytest
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider

from flux_postgres_exporter import binary, rows


def span(**arguments: object) -> ReadableSpan:
    provider = TracerProvider(resource=Resource({"b": "2", "a": "1"}), shutdown_on_exit=False)
    made = provider.get_tracer("scope").start_span("s", context=Context(), **arguments)
    made.add_event("e", {"x": "y"}, timestamp=5)
    made.end()
    assert isinstance(made, ReadableSpan)
    return made


def test_a_row_survives_msgpack_and_comes_out_as_it_went_in() -> None:
    row = rows.encode(span(attributes={"a": ["x", "y"], "n": 1}))
    again = msgspec.msgpack.decode(msgspec.msgpack.encode(row), type=tuple[object, ...])
    begin = binary.owner("r", date(2026, 1, 2))
    assert binary.row(again, begin) == binary.row(row, begin)
    assert rows.to_json(again[rows.ATTRIBUTES]) == '{"a":["x","y"],"n":1}'


def test_a_row_does_not_change_with_its_span_later() -> None:
    provider = TracerProvider(shutdown_on_exit=False)
    made = provider.get_tracer("scope").start_span("s", context=Context(), attributes={"a": 1})
    assert isinstance(made, ReadableSpan)
    row = rows.encode(made)
    made.set_attribute("a", 2)
    assert row[rows.ATTRIBUTES] == {"a": 1}


def test_a_resource_is_known_by_its_content() -> None:
    one, other = Resource({"a": "1", "b": "2"}), Resource({"b": "2", "a": "1"})
    assert rows.resource_id(one) == rows.resource_id(other)
    assert rows.resource_id(one) != rows.resource_id(Resource({"a": "1"}))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("a\0b", "a\u2400b"),
        ("\udfff", "\ufffd"),
        (math.inf, "inf"),
        ([math.nan, None], ["nan", None]),
        ({"k\0": {1: b"\0"}}, {"k\u2400": {"1": {"$bytea": "AA=="}}}),
        (10**30, 10**30),
        ({"o": object}, {"o": "<class 'object'>"}),
        ("\\u0000", "\\u0000"),
    ],
)
def test_json_is_what_jsonb_takes(value: object, expected: object) -> None:
    assert json.loads(rows.to_json(value)) == expected
    assert "\\u0000" not in rows.to_json(value).replace("\\\\u0000", "")


def test_times_keep_their_microseconds() -> None:
    assert rows.timestamp(1_700_000_000_123_456_789) == datetime(2023, 11, 14, 22, 13, 20, 123456, tzinfo=UTC)
    assert rows.day_of(86_400 * 10**9 - 1) == date(1970, 1, 1)
    assert rows.day_of(86_400 * 10**9) == date(1970, 1, 2)
