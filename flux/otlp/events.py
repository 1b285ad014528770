"""What the export reads of a spool's events: spans and resources; the rest is not even decoded."""

from __future__ import annotations

from typing import Any

import msgspec

_Raw = msgspec.Raw


class EndSpans(msgspec.Struct, array_like=True, tag="end"):
    """An End, as flux.record.events has it, up to its spans."""

    request_id: _Raw
    status: _Raw
    outcome: _Raw
    duration_ns: _Raw
    output: _Raw = _Raw()
    output_kind: _Raw = _Raw()
    response_headers: _Raw = _Raw()
    error: _Raw = _Raw()
    calls: _Raw = _Raw()
    logs: _Raw = _Raw()
    attempts: _Raw = _Raw()
    spans: list[tuple[Any, ...]] = []


class LooseSpans(msgspec.Struct, array_like=True, tag="spans"):
    """Spans of no execution."""

    spans: list[tuple[Any, ...]]


class NamedResource(msgspec.Struct, array_like=True, tag="resource"):
    """A resource, before the first span that names it."""

    id: str
    attributes: str


_TAGS = {b"end", b"spans", b"resource"}
_decode = msgspec.msgpack.Decoder(EndSpans | LooseSpans | NamedResource).decode

Read = EndSpans | LooseSpans | NamedResource | None


def read(data: bytes) -> Read:
    """What a record's msgpack holds for the export; None where that is nothing, or it is no event."""
    at = 3 if data[:1] == b"\xdc" else 1
    tag = data[at + 1 : at + 1 + (data[at] & 0x1F)] if len(data) > at else b""
    if tag not in _TAGS:
        return None
    try:
        found: Read = _decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return found
