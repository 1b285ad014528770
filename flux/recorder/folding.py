"""One canonical form for text that may have been escaped, any number of times and in any mix, and the way
back to the bytes it came from. Used by SecretForms alone.

Escapes are undone until none is left: JSON's and C's backslashes, percent encoding, HTML entities. Then what
escaping adds, doubles or replaces is left out: backslashes, quotes, whitespace, NUL (UTF-16), `+` and `%`.
All escapes of one text have one canonical form, so a comparison needs no list of spellings.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from typing import Final

DEEPEST: Final = 8
"""Times that a text may have been escaped."""

SET_ASIDE: Final = bytes(range(0x21)) + b"\\'\"`+%\x7f"
"""Bytes that no canonical form holds."""
SET_ASIDE_IN_DIGITS: Final = SET_ASIDE + b"/-_:"
"""Besides, what tells the two alphabets of base64 apart, and the colons between hex digits."""

_BLOCK = 128
_FEW = 64
"""Marks that are looked at one by one; where more begin no escape, one search does the rest."""
_ENTITIES = {b"quot": b'"', b"apos": b"'", b"lt": b"<", b"gt": b">", b"amp": b"&"}
_MARKS = (b"%", b"\\", b"&")
"""What escapes begin with."""
_LINES = re.compile(rb"\\(?<!\\\\)\\*+[nrtbfv]")
_ESCAPE = re.compile(
    rb"%(?:[uU]([0-9A-Fa-f]{4})|([0-9A-Fa-f]{2}))"
    rb"|\\(?<!\\\\)\\*+(?:u([Dd][89ABab][0-9A-Fa-f]{2})\\++u([Dd][C-Fc-f][0-9A-Fa-f]{2})|u([0-9A-Fa-f]{4})"
    rb"|u\{([0-9A-Fa-f]{1,6})\}|U([0-9A-Fa-f]{8})|x([0-9A-Fa-f]{2})|[nrtbfv])"
    rb"|&(?:#([0-9]{1,7})|#[xX]([0-9A-Fa-f]{1,6})|(quot|apos|lt|gt|amp));"
)
"""Each alternative begins with a literal: so the search passes over what begins none in one quick loop. A run
of backslashes is tried at its first alone, and never given back: the time is linear in the text.
"""
_BYTE, _PAIR, _LOW, _X, _DECIMAL, _NAME = 2, 3, 4, 8, 9, 11


_REMEMBERED = 4096
_meanings: dict[bytes, bytes] = {}


def _meaning(found: re.Match[bytes]) -> bytes:
    """What one escape stands for, as UTF-8; nothing where it is a line break or the like."""
    escape = found[0]
    known = _meanings.get(escape)
    if known is None:
        if len(_meanings) >= _REMEMBERED:
            _meanings.clear()
        known = _meanings[escape] = _read(found)
    return known


def _read(found: re.Match[bytes]) -> bytes:
    kind = found.lastindex
    if kind is None:
        return b""
    digits = found[kind]
    if kind in (_BYTE, _X):
        return bytes((int(digits, 16),))
    if kind == _LOW:
        high, low = int(found[_PAIR], 16), int(digits, 16)
        return chr(0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00)).encode()
    if kind == _NAME:
        return _ENTITIES[digits]
    code = int(digits, 10 if kind == _DECIMAL else 16)
    return chr(code).encode("utf-8", "surrogatepass") if code < 0x110000 else b""


def _has_escape(data: bytes) -> bool:
    """Whether an escape stands in `data`. Records are full of marks that begin none: ciphertext, queries."""
    for mark in _MARKS:
        at = data.find(mark)
        for _ in range(_FEW):
            if at < 0:
                break
            if _ESCAPE.match(data, at) is not None:
                return True
            at = data.find(mark, at + 1)
        else:
            return _ESCAPE.search(data) is not None
    return False


def unescaped(data: bytes) -> bytes:
    """`data` without escapes; the same bytes where there are none."""
    for _ in range(DEEPEST):
        if not _has_escape(data):
            break
        before = data
        if b"\\" in data:
            data = _LINES.sub(b"", data)  # the most usual ones, sooner
        data = _ESCAPE.sub(_meaning, data)
        if data == before:
            break
    return data


class Folded:
    """`data` without its escapes, and where each part of it stood."""

    def __init__(self, data: bytes) -> None:
        self._layers: list[tuple[list[int], list[int], list[int]]] = []
        for _ in range(DEEPEST):
            if (layer := _layer(data)) is None:
                break
            data = layer[0]
            self._layers.append(layer[1:])
        self._data = data

    def without(self, set_aside: bytes) -> Canonical:
        """The canonical form: what is left without the bytes in `set_aside`."""
        return Canonical(self._data, set_aside, self._layers)


class Canonical:
    """A canonical form and the way back. Made by Folded.

    Attributes:
        text: the form.
    """

    def __init__(
        self, data: bytes, set_aside: bytes, layers: list[tuple[list[int], list[int], list[int]]]
    ) -> None:
        self._data = data
        self._set_aside = set_aside
        self._layers = layers
        self._blocks: list[int] | None = None
        self.text = data.translate(None, set_aside)

    def origin(self, start: int, end: int) -> tuple[int, int]:
        """The span of the original bytes that `text[start:end]` stands for; `end` > `start`."""
        first, last = self._place(start), self._place(end - 1) + 1
        for outs, ins, ends in reversed(self._layers):
            first, last = _back(outs, ins, ends, first)[0], _back(outs, ins, ends, last - 1)[1]
        return first, last

    def _place(self, kept: int) -> int:
        """Where in the unescaped text its `kept`-th byte stands that was not set aside."""
        data, set_aside = self._data, self._set_aside
        if self._blocks is None:
            self._blocks = [0]
            for at in range(0, len(data), _BLOCK):
                count = len(data[at : at + _BLOCK].translate(None, set_aside))
                self._blocks.append(self._blocks[-1] + count)
        block = bisect_right(self._blocks, kept) - 1
        left = kept - self._blocks[block]
        for at in range(block * _BLOCK, len(data)):
            if data[at] not in set_aside:
                if left == 0:
                    return at
                left -= 1
        raise IndexError(kept)


def _layer(data: bytes) -> tuple[bytes, list[int], list[int], list[int]] | None:
    """`data` with one layer of escapes undone, and its pieces: where each begins after and before, and where
    it ended before if it was an escape (-1: it was none). None where there is no escape.
    """
    if b"%" not in data and b"\\" not in data and b"&" not in data:
        return None
    pieces: list[bytes] = []
    outs, ins, ends = [0], [0], [-1]
    last = size = 0
    for found in _ESCAPE.finditer(data):
        meaning = _meaning(found)
        pieces += (data[last : found.start()], meaning)
        size += found.start() - last
        outs += (size, size + len(meaning))
        ins += (found.start(), found.end())
        ends += (found.end(), -1)
        size += len(meaning)
        last = found.end()
    if not pieces:
        return None
    pieces.append(data[last:])
    undone = b"".join(pieces)
    return (undone, outs, ins, ends) if undone != data else None


def _back(outs: list[int], ins: list[int], ends: list[int], place: int) -> tuple[int, int]:
    """Where the byte at `place` came from, and where what it came from ends."""
    piece = bisect_right(outs, place) - 1
    if ends[piece] >= 0:
        return ins[piece], ends[piece]
    came = ins[piece] + place - outs[piece]
    return came, came + 1
