"""JSON paths that name what to withhold, and withholding it. Used by redaction alone.

A path is names joined by dots; it matches the *end* of a member's own path, at any depth, so `password` is
every member of that name and `card.number` every `number` in a `card`. Arrays are looked through: their
indexes are no part of a path. `*` stands for any one name; `*.token` is therefore every `token` but one at
the top. Names are compared exactly.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

REDACTED = "[redacted]"


class JsonPaths:
    """A set of paths.

    Args:
        paths: as in the module's description; blank ones are ignored.
    """

    def __init__(self, paths: Iterable[str]) -> None:
        split = [tuple(path.strip().removeprefix("$.").split(".")) for path in paths if path.strip()]
        self._named: dict[str, list[tuple[str, ...]]] = {}
        for path in split:
            self._named.setdefault(path[-1], []).append(path[:-1])
        self._needles = [] if "*" in self._named else [json.dumps(name).encode() for name in self._named]
        fixed = [[name for name in path if name != "*"] for path in split]
        self._words = [names[-1].encode() for names in fixed if names] if all(fixed) else []

    def __bool__(self) -> bool:
        return bool(self._named)

    def may_match(self, data: bytes) -> bool:
        """A quick look at JSON text: False only where no path can match in it."""
        if not self._named:
            return False
        if not self._needles or b"\\" in data:
            return True
        return any(needle in data for needle in self._needles)

    def may_be_in_broken(self, data: bytes) -> bool:
        """Whether text that can't be read as JSON may hold what a path names all the same: it was cut off,
        has other quotes or none, is nested too deeply. What begins unlike JSON needs the name in its quotes.
        """
        if not self._named:
            return False
        if data[:64].lstrip()[:1] in (b"{", b"["):
            return not self._words or b"\\u" in data or any(word in data for word in self._words)
        return any(b'"' + word + b'"' in data for word in self._words)

    def may_be_named(self, data: bytes) -> bool:
        """A quick look at text of any kind (URLs, forms, base64 in JSON): False only where no path's name
        stands in it.
        """
        if not self._named:
            return False
        if not self._words or b"%" in data or b"\\u" in data or b'"$bytea"' in data:
            return True
        return any(word in data for word in self._words)

    def matches(self, trail: tuple[str, ...]) -> bool:
        """Whether a member with this path (from the top, without indexes) is withheld."""
        for name in (trail[-1], "*"):
            for before in self._named.get(name, ()):
                tail = trail[len(trail) - 1 - len(before) : -1] if len(before) < len(trail) else None
                if tail is not None and all(b in ("*", t) for b, t in zip(before, tail, strict=True)):
                    return True
        return False

    def withhold(self, value: Any, trail: tuple[str, ...] = ()) -> bool:
        """Replace what matches in `value` (parsed JSON, changed in place); whether anything did."""
        hit = False
        if isinstance(value, dict):
            for name, member in value.items():
                path = (*trail, name)
                if self.matches(path):
                    if member != REDACTED:
                        value[name] = REDACTED
                        hit = True
                elif isinstance(member, dict | list):
                    hit = self.withhold(member, path) or hit
        elif isinstance(value, list):
            for member in value:
                if isinstance(member, dict | list):
                    hit = self.withhold(member, trail) or hit
        return hit
