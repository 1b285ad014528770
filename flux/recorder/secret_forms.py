"""Finding secrets' values in a record, however encoded, and taking them out. Used by redaction.

A value is looked for in the text's canonical form (`folding`), which undoes escapes, and by the digits that
it has in base64 (at any of three alignments) and hex. Of encoded text those digits are taken out that the
value alone decides. One look for all secrets comes first; it costs microseconds and is nearly always all.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Final
from urllib.parse import quote

from ahocorasick_rs import BytesAhoCorasick, MatchKind

from flux.recorder import packed, row_details
from flux.recorder.folding import SET_ASIDE, SET_ASIDE_IN_DIGITS, Folded, unescaped

SHORTEST: Final = 8
"""Values of fewer bytes are no secrets to look for: they would be found everywhere."""
FEWEST: Final = 5
"""Bytes that a canonical form needs to be looked for; else the value is looked for as it is."""

_ARMOUR = re.compile(r"\s*(?:-{3,}|[A-Za-z-]+: |[{}\[\]]\s*$)")
"""Lines of a key file or a JSON document that all of their kind have, and that hold no secret."""
_UNFIT = re.compile(r"[^A-Za-z0-9_.-]")
USERINFO: Final = re.compile(
    rb"(?::|%3a)(?:\\*+/|%2f){2}((?:(?!%40|%2f|%3f|%23)[^/@?#\s\"'<>`\\\x00-\x20]){1,2048})(?:@|%40)", re.I
)
"""A URL's user name and password, escaped or not: group 1."""
_SLASHES = (b"//", b"\\/", b"%2f", b"%2F")
"""One of them stands where USERINFO has its two slashes."""
_REACH = 2100
"""Bytes from there to the `@`, at most."""
_MOST_TRIED = 4
_NEAR = 8
_NO_USER = bytes(range(0x21)) + b"/@?#\"'<>`\\"
"""What stands in no user name and password of a URL, but escaped."""
_DEPLOYMENT = re.compile(rb"[0-9a-f]{64}")
"""A deployment's id; msgpack writes `\xd9@` before it."""
_CUT_BEFORE = re.compile(rb"^(?:[nrtbfv]|u[0-9A-Fa-f]{4}|x?[0-9A-Fa-f]{1,2})")
_CUT_AFTER = re.compile(rb"(?:%[uU]?[0-9A-Fa-f]{0,3}|\\+(?:[uUx][0-9A-Fa-f]{0,7})?|&#?\w{0,7})$")

Span = tuple[int, int, bytes]
"""Where something to withhold begins and ends, and what is written in its place."""
Rows = Callable[[bytes], Iterable[tuple[int, int]]]


class SecretForms:
    """All known secrets, and what else is withheld wherever it stands: the user in a URL.

    Args:
        rows: finds values of rows in the details of Postgres' errors, where any column is withheld.
    """

    def __init__(self, rows: Rows | None = None) -> None:
        self._rows = rows
        self._text: dict[bytes, bytes] = {}
        self._digits: dict[bytes, bytes] = {}
        self._raw: dict[bytes, bytes] = {}
        self._first: BytesAhoCorasick | None = None
        self._finders: list[tuple[BytesAhoCorasick, list[bytes], bytes]] = []
        self._stale = False

    def __bool__(self) -> bool:
        return bool(self._text or self._raw)

    def add(self, name: str, value: str) -> None:
        """Look for `value` from now on, and for each of its lines: what is printed is logged line by line.

        Shorter than 8 bytes: nothing happens.
        """
        mark = f"[redacted:{_UNFIT.sub('_', name)}]".encode()
        self._add(value, mark)
        lines = value.splitlines()
        for line in lines if len(lines) > 1 else ():
            if not _ARMOUR.match(line):
                self._add(line.strip(), mark)

    def _add(self, value: str, mark: bytes) -> None:
        raw = value.encode("utf-8", "surrogatepass")
        if len(raw) < SHORTEST:
            return
        texts = list(_texts(raw))
        for form in texts:
            self._text.setdefault(form, mark)
        for form in _digits(value, raw):
            self._digits.setdefault(form, mark)
        if not texts or any(len(form.translate(None, SET_ASIDE_IN_DIGITS)) < FEWEST for form in texts):
            for spelling in _spellings(value, raw):
                self._raw.setdefault(spelling, mark)
        self._stale = True

    def within(self, data: bytes) -> bool:
        """Whether anything to withhold may stand in `data`: a secret, perhaps a packed one, or a URL's user.

        True for all that `remove` takes out, and seldom for anything else.
        """
        if _may_name_a_user(data) and USERINFO.search(data):
            return True
        if self._rows is not None and any(mark in data for mark in row_details.MARKS):
            return True
        if self._stale:
            self._build()
        if self._first is None:
            return False
        plain = unescaped(data)
        if self._first.find_matches_as_indexes(plain.translate(None, SET_ASIDE_IN_DIGITS)):
            return True
        if b"\x1f" in data and packed.GZIP in data:
            return True
        return bool(self._raw) and any(form in data for form in self._raw)

    def find(self, data: bytes) -> list[Span]:
        """Every span of `data` to withhold, in order, none overlapping another."""
        found: list[Span] = []
        for match in USERINFO.finditer(data):
            found.append((*match.span(1), b"[redacted]"))
        if self._rows is not None:
            found.extend((first, last, b"[redacted]") for first, last in self._rows(data))
        if self._stale:
            self._build()
        folded = Folded(data if self._finders else b"")
        for finder, marks, set_aside in self._finders:
            canonical = folded.without(set_aside)
            for which, start, end in finder.find_matches_as_indexes(canonical.text, overlapping=True):
                first, last = canonical.origin(start, end)
                while first and data[first - 1] == 0x5C:
                    first -= 1  # a backslash alone would be left, escaping the mark
                found.append((first, last, marks[which]))
        for form, mark in self._raw.items():
            found.extend((m.start(), m.end(), mark) for m in re.finditer(re.escape(form), data))
        if self:
            found.extend((first, last, b"[redacted]") for first, last in packed.spans(data, self._holds))
        return _merged(found)

    def remove(self, data: bytes) -> bytes:
        """`data` with everything to withhold replaced by its mark; the same bytes where nothing is."""
        if not self.within(data):
            return data
        spans = self.find(data)
        if not spans:
            return data
        pieces: list[bytes] = []
        last = 0
        for first, end, mark in spans:
            pieces += (data[last:first], mark)
            last = end
        pieces.append(data[last:])
        return b"".join(pieces)

    def remove_text(self, value: str) -> str:
        """The same for text."""
        data = value.encode("utf-8", "surrogatepass")
        after = self.remove(data)
        if after is data:
            return value
        try:
            return after.decode("utf-8", "surrogatepass")
        except UnicodeDecodeError:
            return after.decode("utf-8", "replace")

    def _holds(self, data: bytes) -> bool:
        return self.within(data) and bool(self.find(data))

    def _build(self) -> None:
        self._stale = False
        known = {form.translate(None, SET_ASIDE_IN_DIGITS) for form in self._text} | set(self._digits)
        first = sorted(form for form in known if len(form) >= FEWEST)
        self._first = BytesAhoCorasick([*first, *packed.HINTS], matchkind=MatchKind.LeftmostFirst)
        self._finders = [
            (BytesAhoCorasick(list(forms)), list(forms.values()), set_aside)
            for forms, set_aside in ((self._text, SET_ASIDE), (self._digits, SET_ASIDE_IN_DIGITS))
            if forms
        ]


def _may_name_a_user(data: bytes) -> bool:
    """Whether an `@` stands where USERINFO could end.

    In nearly every record one is the length of a deployment's id, and many have one in ciphertext.
    """
    if b"%" in data and b"%40" in data:
        return True
    at = data.find(b"@")
    for _ in range(_MOST_TRIED):
        if at < 0:
            return False
        before = data[at - _NEAR if at > _NEAR else 0 : at].rpartition(b"/")[2]
        if before == before.translate(None, _NO_USER) and (
            before[-1:] != b"\xd9" or _DEPLOYMENT.match(data, at + 1) is None
        ):
            begins = at - _REACH if at > _REACH else 0
            for slash in _SLASHES:
                if data.find(slash, begins, at) >= 0:
                    return True
        at = data.find(b"@", at + 1)
    return at >= 0


def _texts(raw: bytes) -> Iterator[bytes]:
    """A value's canonical forms as text, one for each way its characters may be bytes."""
    for data in _bytes(raw):
        for form in _canonical(data):
            if len(form) >= FEWEST:
                yield form


def _bytes(raw: bytes) -> set[bytes]:
    """UTF-8, and where that differs: Latin-1, UTF-8 that was read as Latin-1 (HTTP headers), UTF-16."""
    text = raw.decode("utf-8", "surrogatepass")
    found = {raw}
    if raw.isascii():
        if raw.translate(None, b"%\\&") != raw:  # no escapes where NULs stand between
            found.add(text.encode("utf-16-le"))
        return found  # else UTF-16 differs in its NULs alone, which the canonical form leaves out
    found.add(raw.decode("latin-1").encode())
    found |= {text.encode(name, "surrogatepass") for name in ("utf-16-le", "utf-16-be")}
    try:
        found.add(text.encode("latin-1"))
    except UnicodeEncodeError:
        return found
    return found


def _canonical(data: bytes) -> set[bytes]:
    """Its canonical form; where its edges could be taken for part of an escape that begins before it or ends
    after it, the form without them.
    """
    found = set()
    ends = _CUT_AFTER.sub(b"", data)
    for part in {data, ends}:
        whole = unescaped(part).translate(None, SET_ASIDE)
        found.add(whole)
        if (edge := _CUT_BEFORE.match(part)) is not None:
            found.add(unescaped(part[edge.end() :]).translate(None, SET_ASIDE))
    longest = max(map(len, found))
    return {form for form in found if len(form) * 4 >= longest * 3}


def _spellings(value: str, raw: bytes) -> set[bytes]:
    """The usual spellings of a value that has next to nothing in its canonical form."""
    found = {raw}
    for ascii_only in (False, True):
        found.add(json.dumps(value, ensure_ascii=ascii_only)[1:-1].encode("utf-8", "surrogatepass"))
    found |= {quote(raw, safe="").encode(), quote(raw, safe="!'()*").encode()}
    found |= {value.encode(name, "surrogatepass") for name in ("utf-16-le", "utf-16-be")}
    return {form for form in found if len(form) >= SHORTEST}


def _digits(value: str, raw: bytes) -> set[bytes]:
    """A value's base64 and hex digits, without those that set the alphabets apart: of the value, of its
    escaped spellings and of its UTF-16, and of its base64 and hex digits once more.
    """
    once_escaped = json.dumps(value)[1:-1]
    spelled = {
        raw,
        once_escaped.encode(),
        json.dumps(value, ensure_ascii=False)[1:-1].encode("utf-8", "surrogatepass"),
        json.dumps(once_escaped)[1:-1].encode(),
        quote(raw, safe="").encode(),
        quote(raw, safe="!'()*").encode(),
        raw.replace(b"'", b"''"),
    }
    wide = {value.encode(name, "surrogatepass") for name in ("utf-16-le", "utf-16-be")}
    once = {form for data in spelled | wide for form in _base64(data)}
    hexes = {form for data in {raw, *wide} for form in _hex(data)}
    inner = {form for form in _base64(raw)} | {form for form in _hex(raw)}
    inner |= {form.translate(bytes.maketrans(b"+/", b"-_")) for form in inner}
    twice = {form for data in inner for form in _base64(data)}
    found = {form.translate(None, SET_ASIDE_IN_DIGITS) for form in once | hexes | twice}
    return {form for form in found if len(form) >= SHORTEST}


def _base64(data: bytes) -> Iterator[bytes]:
    for offset in range(3):
        digits = base64.b64encode(b"\0" * offset + data)
        yield digits[-(-offset * 8 // 6) : (offset + len(data)) * 8 // 6]


def _hex(data: bytes) -> Iterator[bytes]:
    """With and without the first byte, which Postgres' `\\x` makes part of an escape."""
    for digits in (data.hex().encode(), data[1:].hex().encode()):
        yield digits
        yield digits.upper()


def _merged(spans: Iterable[Span]) -> list[Span]:
    """Overlapping spans as one, under the mark of the longest."""
    found: list[Span] = []
    longest = 0
    for first, last, mark in sorted(spans):
        if found and first < found[-1][1]:
            before = found[-1]
            keeps = before[2] if longest >= last - first else mark
            longest = max(longest, last - first)
            found[-1] = before[0], max(before[1], last), keeps
        else:
            found.append((first, last, mark))
            longest = last - first
    return found
