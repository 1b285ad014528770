"""Span rows as COPY reads them, taken apart again by the format's description."""

from __future__ import annotations

import json
import struct
from datetime import UTC, date, datetime, timedelta

import pytest

from flux_postgres_exporter import binary, rows

DAY = date(2026, 1, 2)
SPAN = (
    *("a" * 16, "b" * 32, None, "GET /x", 1, 1_767_312_000_123_456_789, 5, 2, "no\0pe"),
    {"n": 1, "text": "\u00e9"},
    [["e", 7, None]],
    [["c" * 32, "d" * 16, {"why": 1}, "k=v"]],
    "scope",
    None,
)


def fields(encoded: bytes) -> dict[str, bytes | None]:
    """The columns of one row."""
    (count,) = struct.unpack_from(">h", encoded)
    at, found = 2, []
    for _ in range(count):
        (size,) = struct.unpack_from(">i", encoded, at)
        at += 4
        found.append(None if size < 0 else encoded[at : at + size])
        at += max(size, 0)
    assert at == len(encoded)
    return dict(zip(rows.COLUMNS, found, strict=True))


def test_every_column_is_where_postgres_looks_for_it() -> None:
    row = fields(binary.row(SPAN, binary.owner("e" * 32, DAY)))
    assert row["request_id"] == b"e" * 32
    assert row["day"] is not None
    assert row["start_time"] is not None
    assert date(2000, 1, 1) + timedelta(days=struct.unpack(">i", row["day"])[0]) == DAY
    assert datetime(2000, 1, 1, tzinfo=UTC) + timedelta(
        microseconds=struct.unpack(">q", row["start_time"])[0]
    ) == rows.timestamp(SPAN[5])
    assert (row["start_ns"], row["duration_ns"]) == (struct.pack(">q", SPAN[5]), struct.pack(">q", 5))
    assert (row["span_id"], row["trace_id"], row["parent_span_id"]) == (b"a" * 16, b"b" * 32, None)
    assert (row["name"], row["kind"], row["status"]) == (b"GET /x", b"SERVER", b"ERROR")
    assert row["status_message"] == "no\u2400pe".encode()
    assert (row["scope"], row["resource_id"]) == (b"scope", None)
    for column, value in (
        ("attributes", {"n": 1, "text": "\u00e9"}),
        ("events", [{"name": "e", "time_ns": 7, "attributes": {}}]),
        (
            "links",
            [{"trace_id": "c" * 32, "span_id": "d" * 16, "attributes": {"why": 1}, "trace_state": "k=v"}],
        ),
    ):
        data = row[column]
        assert data is not None
        assert data[:1] == b"\x01"
        assert json.loads(data[1:]) == value


@pytest.mark.parametrize(
    "bad",
    [
        SPAN[:9],
        (*SPAN[:4], 9, *SPAN[5:]),
        (*SPAN[:5], 2**80, *SPAN[6:]),
        (*SPAN[:5], "now", *SPAN[6:]),
        (7, *SPAN[1:]),
        (*SPAN[:10], [["e"]], *SPAN[11:]),
    ],
)
def test_what_is_no_span_is_refused_with_a_value_error(bad: tuple[object, ...]) -> None:
    with pytest.raises(ValueError, match="not"):
        binary.row(bad, binary.owner("e" * 32, DAY))


def test_what_follows_the_resource_has_no_column() -> None:
    begin = binary.owner("e" * 32, DAY)
    assert binary.row((*SPAN, "1.0", None), begin) == binary.row(SPAN, begin)
