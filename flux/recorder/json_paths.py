"""JSON paths that name what to withhold, and withholding it. Used by redaction alone.

A path is names joined by dots; it matches the *end* of a member's own path, at any depth, so `password` is
every member of that name and `card.number` every `number` in a `card`. Arrays are looked through: their
indexes are no part of a path. `*` stands for any one name; `*.token` is therefore every `token` but one at
the top. Case is ignored: `password` is `PASSWORD` too.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence


class JsonPaths:
    """A set of paths.

    Args:
        paths: as in the module's description; blank ones are ignored.
    """

    def __init__(self, paths: Iterable[str]) -> None:
        split = [
            tuple(path.strip().removeprefix("$.").casefold().split(".")) for path in paths if path.strip()
        ]
        self._named: dict[str, list[tuple[str, ...]]] = {}
        for path in split:
            self._named.setdefault(path[-1], []).append(path[:-1])
        fixed = [[name for name in path if name != "*"] for path in split]
        words = [names[-1] for names in fixed if names] if all(fixed) else []
        plain = all(word.isascii() and json.dumps(word) == f'"{word}"' for word in words)
        self._words = [word.encode() for word in words] if plain else []

    def __bool__(self) -> bool:
        return bool(self._named)

    def may_match(self, data: bytes) -> bool:
        """A quick look at JSON text: False only where no path can match in it."""
        return self._may_stand_in(data, b"\\u")

    def may_be_in_broken(self, data: bytes) -> bool:
        """Whether text that can't be read as JSON may hold what a path names all the same: it was cut off,
        or has other quotes or none. What begins unlike JSON needs the name in its quotes.
        """
        if not self._named:
            return False
        if data[:64].lstrip(b" \t\r\n\xef\xbb\xbf")[:1] in (b"{", b"["):
            return self._may_stand_in(data, b"\\u")
        lower = data.lower()
        return any(b'"' + word + b'"' in lower for word in self._words)

    def may_be_named(self, data: bytes) -> bool:
        """A quick look at text of any kind (URLs, forms, base64 in JSON): False only where no path's name
        stands in it.
        """
        return self._may_stand_in(data, b"\\u", b"%", b'"$bytea"')

    def _may_stand_in(self, data: bytes, *hides: bytes) -> bool:
        if not self._named:
            return False
        if not self._words or any(hide in data for hide in hides):
            return True
        lower = data.lower()
        return any(word in lower for word in self._words)

    def matches(self, trail: Sequence[str]) -> bool:
        """Whether a member with this path (from the top, without indexes) is withheld."""
        for name in (trail[-1].casefold(), "*"):
            for before in self._named.get(name, ()):
                if len(before) >= len(trail):
                    continue
                tail = trail[len(trail) - 1 - len(before) : -1]
                if all(b in ("*", t.casefold()) for b, t in zip(before, tail, strict=True)):
                    return True
        return False
