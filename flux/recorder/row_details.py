"""Rows that Postgres shows in the details of an error: "Failing row contains (1, ada)", "Key (email)=(ada)".

Where columns are withheld, those values are too. A failing row names no columns: it is withheld whole. Used
by redaction.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from typing import Final

MARKS: Final = (b"ailing row contains (", b")=(")
"""One of them stands in every such text."""

_LONGEST = 2000
"""Bytes that the columns of a key may take."""
_END = re.compile(
    rb"\)(?=\.?(?:$|[\r\n\"\\]| already exists| is not present| is still referenced| is duplicated"
    rb"| conflicts))"
)
_ROW, _PARTITION, _KEY, _IS = b"Failing row contains (", b" failing row contains (", b"ey (", b")=("


def spans_of(columns: Collection[bytes]) -> Callable[[bytes], Iterator[tuple[int, int]]]:
    """What finds the values of rows in a text that may be those of `columns` (names, lower case)."""
    return lambda data: _spans(data, columns)


def _spans(data: bytes, columns: Collection[bytes]) -> Iterator[tuple[int, int]]:
    for first in _after(data, _ROW):
        yield first, _end(data, first)
    for first in _after(data, _IS):
        key = data.rfind(_KEY, max(0, first - _LONGEST), first)
        if key >= 0 and _named(data[key:first], columns):
            yield first, _end(data, first)
    for first in _after(data, _PARTITION):
        value = data.find(b") = (", first, first + _LONGEST)
        if value >= 0 and _named(data[first:value], columns):
            yield value + 5, _end(data, value + 5)


def _after(data: bytes, mark: bytes) -> Iterator[int]:
    """Where each `mark` ends that doesn't stand within what the last one began."""
    at = data.find(mark)
    while at >= 0:
        first = at + len(mark)
        yield first
        at = data.find(mark, first)


def _end(data: bytes, first: int) -> int:
    """Where the value ends that begins at `first`; where nothing says so, with the text."""
    found = _END.search(data, first)
    return len(data) if found is None else found.start()


def _named(text: bytes, columns: Collection[bytes]) -> bool:
    lower = text.lower()
    return any(name in lower for name in columns)
