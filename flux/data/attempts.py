"""What the capture triggers announce (RAISE INFO 'flux:...') while a statement runs, and what it comes to.

flux.data.connection collects the messages of one call; `summarise` turns them into the parts of an Outcome.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from flux.data.values import elements
from flux.record.call import Attempt

MARK = "flux:"


class _Row(msgspec.Struct, array_like=True):
    n: int
    xid: int
    schema: str
    table: str
    op: str
    key: msgspec.Raw
    before: msgspec.Raw
    after: msgspec.Raw
    at_us: int


class _End(msgspec.Struct):
    xid: int | None = None
    snap: str | None = None


class _Announcement(msgspec.Struct):
    a: list[_Row] = []
    cut: int = 0
    lo: int | None = None
    hi: int | None = None
    snap: str | None = None
    end: _End | None = None


class Summary(msgspec.Struct):
    """What a call's announcements come to."""

    attempts: list[Attempt] = []
    first_n: int | None = None
    last_n: int | None = None
    xid: int | None = None
    snapshot: str | None = None


NOTHING = Summary()
_decoder = msgspec.json.Decoder(_Announcement)
_row_decoder = msgspec.json.Decoder(_Row)


def summarise(messages: Sequence[str], seq: int | None) -> Summary:
    """One Summary of a call's messages, in the order they came; images stay the exact JSON they were
    announced with.

    Args:
        messages: JSON of the INFO messages that begin with MARK and the session's voice, which no
            function knows.
        seq: the host call's number, for its attempts; None outside a function.
    """
    if not messages:
        return NOTHING
    total = Summary(attempts=[])
    for message in messages:
        said = _read(message.encode())
        rows = [_attempt(row, seq) for row in said.a]
        if rows:
            total.xid = rows[-1].xid
        total.attempts += rows
        if total.attempts:
            total.attempts[-1].cut += said.cut
        only = rows[0].n if rows and said.lo is None else None  # one row that is said whole
        total.first_n = _least(total.first_n, said.lo if only is None else only)
        total.last_n = _greatest(total.last_n, said.hi if only is None else only)
        total.snapshot = total.snapshot or said.snap or (said.end.snap if said.end else None)
        total.xid = total.xid or (said.end.xid if said.end else None)
    return total


def _read(message: bytes) -> _Announcement:
    """An announcement, also of rows whose images are nested deeper than Python's stack."""
    try:
        return _decoder.decode(message)
    except RecursionError:
        pass
    members = {name: value for name, _, value in (pair.partition(b":") for pair in elements(message))}
    rows = [elements(row) for row in elements(members.pop(b'"a"', b"[]"))]
    said = _decoder.decode(b"{%b}" % b",".join(b"%b:%b" % member for member in members.items()))
    for row in rows:
        images = [msgspec.Raw(image) for image in row[5:8]]
        shallow = _row_decoder.decode(b"[%b,null,null,null,%b]" % (b",".join(row[:5]), row[8]))
        shallow.key, shallow.before, shallow.after = images
        said.a.append(shallow)
    return said


def _attempt(row: _Row, seq: int | None) -> Attempt:
    return Attempt(
        n=row.n,
        xid=row.xid,
        schema=row.schema,
        table=row.table,
        op=row.op,
        key=_image(row.key),
        before=_image(row.before),
        after=_image(row.after),
        at_ns=row.at_us * 1000,
        seq=seq,
    )


def _image(raw: msgspec.Raw) -> bytes | None:
    data = bytes(raw)
    return None if data == b"null" else data


def _least(a: int | None, b: int | None) -> int | None:
    return b if a is None else a if b is None else min(a, b)


def _greatest(a: int | None, b: int | None) -> int | None:
    return b if a is None else a if b is None else max(a, b)
