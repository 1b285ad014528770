"""Rows that Postgres shows in the details of an error: "Failing row contains (1, ada)", "Key (email)=(ada)".

Where columns are withheld, those values are too. A failing row names no columns: it is withheld whole. Used
by redaction.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from typing import Final

MARKS: Final = (b"ailing row contains", b")=(")
"""One of them stands in every such text."""

_FOLLOWS = (
    rb"(?=\.?(?:$|[\r\n\"\\]| already exists| is not present| is still referenced| is duplicated| conflicts))"
)
_ROW = re.compile(rb"Failing row contains \((.*?)\)" + _FOLLOWS, re.DOTALL)
_PARTITION = re.compile(rb"failing row contains \((.*?)\) = \((.*?)\)" + _FOLLOWS, re.DOTALL)
_KEY = re.compile(rb"\b[Kk]ey \((.{1,2000}?)\)=\((.*?)\)" + _FOLLOWS, re.DOTALL)


def spans_of(columns: Collection[bytes]) -> Callable[[bytes], Iterator[tuple[int, int]]]:
    """What finds the values of rows in a text that may be those of `columns` (names, lower case)."""
    return lambda data: _spans(data, columns)


def _spans(data: bytes, columns: Collection[bytes]) -> Iterator[tuple[int, int]]:
    for match in _ROW.finditer(data):
        yield match.span(1)
    for pattern in (_KEY, _PARTITION):
        for match in pattern.finditer(data):
            named = match[1].lower()
            if any(name in named for name in columns):
                yield match.span(2)
