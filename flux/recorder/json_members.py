"""Members of JSON text withheld where they stand, without reading the values: numbers may have any length,
nesting any depth. Used by redaction.

All other bytes stay as they are. Text that is no JSON is refused; whoever asked withholds it whole.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Final

REDACTED: Final = "[redacted]"
MARK: Final = b'"[redacted]"'

Decide = Callable[[Sequence[str]], bool]
"""Whether a member is withheld, by its path: names from the top, indexes of arrays left out."""

_TOKEN = re.compile(
    rb'[ \t\r\n]*+(?:("[^"\\]*+(?:\\.[^"\\]*+)*+")|([{}\[\],:])|([^\s"{}\[\],:]+))', re.DOTALL
)
_VALUE, _ITEM, _NAME, _NEXT, _COLON, _AFTER = range(6)
_VALUES = (_VALUE, _ITEM)


class NoJson(Exception):
    """The text can't be read as JSON."""


def withhold(
    data: bytes,
    decide: Decide,
    *,
    inner: Callable[[bytes], bytes] | None = None,
    keep_null: bool = False,
) -> tuple[bytes, bool]:
    """`data` with the members that `decide` names replaced by "[redacted]", and whether any was.

    Args:
        data: JSON text.
        decide: asked for each member but those inside one that is withheld.
        inner: given the text of each string that looks like JSON itself; what it gives is put in its place.
        keep_null: a member that is null stays.

    Raises:
        NoJson: it is none.
    """
    edits = _Scan(data, decide, inner, keep_null).edits()
    if not edits:
        return data, False
    pieces: list[bytes] = []
    last = 0
    for first, end, text in edits:
        pieces += (data[last:first], text)
        last = end
    pieces.append(data[last:])
    return b"".join(pieces), True


class _Scan:
    """One walk over a text: what is open, what may come next, what is being withheld."""

    def __init__(
        self, data: bytes, decide: Decide, inner: Callable[[bytes], bytes] | None, keep_null: bool
    ) -> None:
        self._data = data
        self._decide = decide
        self._inner = inner
        self._keep_null = keep_null
        self._edits: list[tuple[int, int, bytes]] = []
        self._objects: list[bool] = []
        """Of each open container: whether it is an object."""
        self._names: list[str] = []
        """Of each open object: its current member."""
        self._hidden = -1
        """How many containers were open around the member that is being withheld; -1: none is."""
        self._began = 0

    def edits(self) -> list[tuple[int, int, bytes]]:
        """What to replace, in order. Raises NoJson."""
        data = self._data
        at, want = 3 if data.startswith(b"\xef\xbb\xbf") else 0, _VALUE
        while (found := _TOKEN.match(data, at)) is not None:
            text, mark, word = found.groups()
            at = found.end()
            if text is not None and want in (_NAME, _NEXT):
                self._names[-1] = _text(text)
                want = _COLON
            elif mark is None:
                if want not in _VALUES:
                    raise NoJson
                self._scalar(text, word, at)
                want = _AFTER
            elif mark in b"{[":
                if want not in _VALUES:
                    raise NoJson
                want = self._open(mark == b"{", at)
            elif mark in b"}]":
                self._close(mark == b"}", want, at)
                want = _AFTER
            elif mark == b":" and want == _COLON:
                if self._hidden < 0 and self._decide(self._names):
                    self._hidden, self._began = len(self._objects), -1
                want = _VALUE
            elif mark == b"," and want == _AFTER and self._objects:
                want = _NEXT if self._objects[-1] else _VALUE
            else:
                raise NoJson
            if want == _AFTER and not self._objects:
                break
        if self._objects or want != _AFTER or data[at:].strip():
            raise NoJson
        return self._edits

    def _open(self, is_object: bool, at: int) -> int:
        if self._hidden == len(self._objects) and self._began < 0:
            self._began = at - 1
        self._objects.append(is_object)
        if is_object:
            self._names.append("")
        return _NAME if is_object else _ITEM

    def _close(self, is_object: bool, want: int, at: int) -> None:
        if not self._objects or self._objects[-1] != is_object or want not in (_AFTER, _NAME, _ITEM):
            raise NoJson
        self._objects.pop()
        if is_object:
            self._names.pop()
        self._ended(at)

    def _scalar(self, text: bytes | None, word: bytes, at: int) -> None:
        if self._hidden == len(self._objects) and self._began < 0:
            if self._keep_null and word == b"null":
                self._hidden = -1
                return
            self._began = at - len(word if text is None else text)
        elif self._hidden < 0 and self._inner is not None and text is not None and b'\\"' in text:
            self._look_inside(self._inner, text, at)
        self._ended(at)

    def _ended(self, at: int) -> None:
        """A value has ended at `at`: if it is the one that is withheld, it is replaced."""
        if self._hidden == len(self._objects):
            if self._data[self._began : at] != MARK:
                self._edits.append((self._began, at, MARK))
            self._hidden = -1

    def _look_inside(self, inner: Callable[[bytes], bytes], text: bytes, end: int) -> None:
        if text[1:].lstrip()[:1] not in (b"{", b"[", b"\\"):
            return
        plain = _text(text).encode("utf-8", "surrogatepass")
        kept = inner(plain)
        if kept is not plain:
            written = json.dumps(kept.decode("utf-8", "surrogatepass"), ensure_ascii=False)
            self._edits.append((end - len(text), end, written.encode("utf-8", "surrogatepass")))


def _text(text: bytes) -> str:
    if b"\\" not in text:
        return text[1:-1].decode("utf-8", "replace")
    try:
        return str(json.loads(text, strict=False))
    except ValueError as error:
        raise NoJson from error
