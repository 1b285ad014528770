"""Span rows in COPY's binary format, made in one go. Called by whoever stores spans; pure.

A row is encoded where its span is read, so that sending a batch is sending bytes: nothing is left to do for
the connection while Postgres waits. Format: https://www.postgresql.org/docs/current/sql-copy.html, "Binary
Format"; a field is its length and what the column's type sends (text: UTF-8; jsonb: a version byte and the
JSON; timestamptz: microseconds since 2000; date: days since 2000).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from datetime import date
from functools import lru_cache
from typing import Any

from flux_postgres_exporter.rows import COLUMNS, KINDS, STATUSES, json_bytes, text

_HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_TRAILER = b"\xff\xff"
_NULL = b"\xff\xff\xff\xff"
_VERSION = b"\x01"
_LONG = 200
"""Characters of a text that is not kept in memory for the next row."""
_MIDNIGHT = date(2000, 1, 1).toordinal()
_MICROSECONDS = 946_684_800_000_000
"""From 1970 to 2000."""

_length = struct.Struct(">i").pack
_begin = struct.Struct(">h").pack
_day = struct.Struct(">ii").pack
_times = struct.Struct(">iqiqiq").pack


def payload(encoded: Iterable[bytes]) -> bytes:
    """What COPY reads: rows made by `row`, in the order of rows.COLUMNS."""
    return b"".join((_HEADER, *encoded, _TRAILER))


def owner(request_id: str, day: date) -> bytes:
    """The beginning of each row of one execution."""
    return b"".join((_begin(len(COLUMNS)), _field(request_id.encode()), _day(4, day.toordinal() - _MIDNIGHT)))


def row(span: Sequence[Any], begin: bytes) -> bytes:
    """One span as a row. Text that Postgres can't hold is cleaned visibly.

    Args:
        span: as `rows.encode` made it; what follows the resource has no column.
        begin: of its execution, from `owner`.

    Raises:
        ValueError: `span` is none, or one of its numbers doesn't fit its column.
    """
    try:
        (
            span_id,
            trace_id,
            parent,
            name,
            kind,
            start,
            duration,
            status,
            message,
            attributes,
            events,
            links,
            scope,
            resource,
        ) = span[:14]
        identity, data = span_id.encode(), json_bytes(attributes)
        return b"".join(
            (
                begin,
                _length(len(identity)),
                identity,
                _field(trace_id.encode()),
                _NULL if parent is None else _field(parent.encode()),
                _often(name) if len(name) < _LONG else _field(text(name).encode()),
                _KINDS[kind],
                _times(8, start // 1000 - _MICROSECONDS, 8, start, 8, duration),
                _STATUSES[status],
                _NULL if message is None else _field(text(message).encode()),
                _length(len(data) + 1),
                _VERSION,
                data,
                _NULL if not events else _jsonb([_event(*event) for event in events]),
                _NULL if not links else _jsonb([_link(*link) for link in links]),
                _NULL if scope is None else _often(scope),
                _NULL if resource is None else _often(resource),
            )
        )
    except (struct.error, LookupError, TypeError, AttributeError) as error:
        raise ValueError(f"not a span's row: {error}") from error


def refused(span: Sequence[Any], reason: str) -> tuple[Any, ...]:
    """The span with `flux.refused` as its only attribute: what Postgres refused it for."""
    return (*span[:9], {"flux.refused": reason}, None, None, *span[12:])


def _field(data: bytes) -> bytes:
    return _length(len(data)) + data


def _jsonb(value: Any) -> bytes:
    return _field(_VERSION + json_bytes(value))


@lru_cache(maxsize=512)
def _often(value: str) -> bytes:
    """A text that many spans share."""
    return _field(text(value).encode())


def _event(name: str, time_ns: int, attributes: dict[str, Any] | None) -> dict[str, Any]:
    return {"name": name, "time_ns": time_ns, "attributes": attributes or {}}


def _link(
    trace_id: str, span_id: str, attributes: dict[str, Any] | None, state: str | None
) -> dict[str, Any]:
    found = {"trace_id": trace_id, "span_id": span_id, "attributes": attributes or {}}
    if state:
        found["trace_state"] = state
    return found


_KINDS = [_field(kind.encode()) for kind in KINDS]
_STATUSES = [_field(status.encode()) for status in STATUSES]
