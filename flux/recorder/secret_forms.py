"""The forms in which a secret's value may turn up in a record, and taking them out. Used by redaction alone.

A value is looked for as it is, as JSON escapes it, percent-encoded, and in base64 at any of the three
alignments it can have there (a Basic header holds `user:value`): of the base64 text those digits that the
value alone decides.
"""

from __future__ import annotations

import base64
import json
import re
from urllib.parse import quote, quote_plus

SHORTEST = 8
"""Values of fewer bytes are no secrets to look for: they would be found everywhere."""

_UNFIT = re.compile(r"[^A-Za-z0-9_.-]")


class SecretForms:
    """All known secrets' forms, as needles in bytes."""

    def __init__(self) -> None:
        self.needles: list[tuple[bytes, bytes]] = []
        """(form, what it becomes), longest first, so that a secret within another leaves nothing of it."""

    def add(self, name: str, value: str) -> None:
        """Look for `value` from now on. Shorter than 8 bytes: nothing happens."""
        raw = value.encode("utf-8", "surrogatepass")
        if len(raw) < SHORTEST:
            return
        mark = f"[redacted:{_UNFIT.sub('_', name)}]".encode()
        known = {form for form, _ in self.needles}
        self.needles.extend((form, mark) for form in forms(value, raw) if form not in known)
        self.needles.sort(key=lambda needle: len(needle[0]), reverse=True)

    def within(self, data: bytes) -> bool:
        """Whether any secret stands in `data`."""
        return bool(self.needles) and any(needle in data for needle, _ in self.needles)

    def remove(self, data: bytes) -> bytes:
        """`data` with every secret replaced by its mark."""
        for needle, mark in self.needles:
            if needle in data:
                data = data.replace(needle, mark)
        return data

    def remove_text(self, value: str) -> str:
        """The same for text."""
        return self.remove(value.encode("utf-8", "surrogatepass")).decode("utf-8", "surrogatepass")


def forms(value: str, raw: bytes) -> set[bytes]:
    """Every form of a value; without those shorter than 8 bytes."""
    found = {raw}
    for ascii_only in (False, True):
        escaped = json.dumps(value, ensure_ascii=ascii_only)[1:-1]
        found.add(escaped.encode("utf-8", "surrogatepass"))
        found.add(escaped.replace("/", "\\/").encode("utf-8", "surrogatepass"))
    for encode in (quote, quote_plus):
        percent = encode(raw, safe="")
        found.add(percent.encode())
        found.add(re.sub(r"%..", lambda match: match[0].lower(), percent).encode())
    found.add(quote(raw).encode())
    for offset in range(3):
        digits = base64.b64encode(b"\0" * offset + raw)
        first = -(-offset * 8 // 6)
        last = (offset + len(raw)) * 8 // 6
        own = digits[first:last]
        found.add(own)
        found.add(own.translate(bytes.maketrans(b"+/", b"-_")))
    return {form for form in found if len(form) >= SHORTEST}
