"""Values that are new in every run (ids, times, tokens) count as the same where they stand for each other
throughout: a renaming that is one to one, as in α-equivalence.

A pair enters it in two ways. It was *generated*: both runs got it from a sequence or a default in the same
place (see `rows`). Or it *looks generated*: both are uuids, both are times, both are long tokens of one
alphabet. A number that merely differs is never taken for a new name, and a short number that is one (an id
of 7) counts as one only where ids stand: 7 pieces are no order 7.
"""

from __future__ import annotations

import re
from typing import Final

from flux.compare.values import Path, equal
from flux.shapes.record import Json

_FORMS: Final = {
    "uuid": re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"),
    "time": re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:[.,]\d+)?)?\s?(?:Z|[+-]\d\d(?::?\d\d)?)?"),
    "http date": re.compile(r"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT"),
    "hex": re.compile(r"(?:[0-9a-f]{16,}|[0-9A-F]{16,})"),
    "traceparent": re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}"),
    "ulid": re.compile(r"[0-9A-HJKMNP-TV-Z]{26}"),
}
_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{16,}")
_EPOCH: Final = {"epoch s": (10**9, 4 * 10**9), "epoch ms": (10**12, 4 * 10**12)}


class Renaming:
    """Which value of run `a` stands for which of run `b`. Grows while two runs are compared."""

    def __init__(self) -> None:
        self._there: dict[Json, Json] = {}
        self._back: dict[Json, Json] = {}

    def same(self, a: Json, b: Json, path: Path = ()) -> bool:
        """Whether `a` and `b`, which stand at `path`, are equal or stand for each other. Two new values that
        look generated in the same way stand for each other from now on."""
        if equal(a, b):
            return True
        known = self._known(a, b)
        if known is not None:
            return known and (not _short(a) or _names(path))
        form = form_of(a)
        if form is None or form != form_of(b):
            return self._within(a, b)
        self.learn(a, b)
        return True

    def learn(self, a: Json, b: Json) -> None:
        """`a` and `b` were generated in the same place of both runs."""
        if _nameable(a) and _nameable(b) and _key(a) not in self._there and _key(b) not in self._back:
            self._there[_key(a)] = _key(b)
            self._back[_key(b)] = _key(a)

    def in_a(self, b: Json) -> Json:
        """What a value of `b` is called in `a`: itself where it has no other name there."""
        return self._back.get(_key(b), b) if _nameable(b) else b

    def _known(self, a: Json, b: Json) -> bool | None:
        """None where neither has a counterpart yet."""
        if not _nameable(a) or not _nameable(b):
            return None
        left, right = _key(a), _key(b)
        if left in self._there or right in self._back:
            return self._there.get(left) == right
        return None

    def _within(self, a: Json, b: Json) -> bool:
        """Whether two texts are the same once the names in them are exchanged: `order 17 for ada`."""
        if not isinstance(a, str) or not isinstance(b, str) or not self._there:
            return False
        left, right = _WORDS.findall(a), _WORDS.findall(b)
        return len(left) == len(right) and all(
            one == other or self._there.get(one) == other or self._looks(one, other)
            for one, other in zip(left, right, strict=True)
        )

    def _looks(self, a: str, b: str) -> bool:
        form = form_of(a)
        return form is not None and form == form_of(b)


_WORDS: Final = re.compile(r"[A-Za-z0-9_-]+|[^A-Za-z0-9_-]")


def form_of(value: Json) -> str | None:
    """How a value looks that is new in every run: `uuid`, `time`, `hex 32`..; None for any other."""
    if isinstance(value, str):
        if not 10 <= len(value) <= 512:
            return None
        for name, form in _FORMS.items():
            if form.fullmatch(value):
                return f"{name} {len(value)}" if name == "hex" else name
        if _TOKEN.fullmatch(value) and _mixed(value):
            return f"token {len(value)}"
    elif isinstance(value, int | float) and not isinstance(value, bool):
        for name, (low, high) in _EPOCH.items():
            if low <= value < high:
                return name
    return None


def _mixed(token: str) -> bool:
    """Digits, capitals and small letters together: words and names have no such look."""
    return (
        any(c.isdigit() for c in token)
        and any(c.isupper() for c in token)
        and any(c.islower() for c in token)
    )


def _short(value: Json) -> bool:
    """A number that may well be a quantity."""
    return len(str(value)) < 7 and str(value).isdigit()


_NAMING: Final = re.compile(r"(?i).*(?:id|ids|key|keys|number|no|nr|ref|seq|serial|code|params|path)")


def _names(path: Path) -> bool:
    """Whether what stands there is a name: by the innermost member's own name, if it has one."""
    member = next((step for step in reversed(path) if isinstance(step, str)), None)
    return member is None or _NAMING.fullmatch(member) is not None


def _nameable(value: Json) -> bool:
    return isinstance(value, str | int) and not isinstance(value, bool) and value != ""


def _key(value: Json) -> str:
    """An id is one name whether it stands as a number or as its decimal string."""
    return str(value)
