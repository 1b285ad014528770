"""Where two JSON values differ, field by field. Used for inputs, arguments, results, rows and outputs."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

import orjson

from flux.compare.align import align
from flux.shapes.diff import Change, FieldDifference
from flux.shapes.record import Json

Path = tuple[str | int, ...]

_PLAIN: Final = re.compile(r"[^\s.\[\]\"'=]+")


class Place(NamedTuple):
    """One place in which two values differ.

    Attributes:
        path: names of members and indexes of elements from the root; where elements were inserted or left
            out, the index is that of the side that has the element (of `a` where both have it).
        change: `missing` where only `a` has it, `added` where only `b` has it.
        a, b: the two values; None where it is not there.
    """

    path: Path
    change: Change
    a: Json
    b: Json

    @property
    def field(self) -> str:
        """The path as people write it: `order.lines[1].n`; empty for the root."""
        return written(self.path)

    def told(self, within: str = "") -> FieldDifference:
        """As a difference, under the name of the member it stands in."""
        field = written((within, *self.path)) if within else self.field
        return FieldDifference(field=field, change=self.change, a=self.a, b=self.b)


Same = Callable[[Json, Json, Path], bool]


def equal(a: Json, b: Json, _path: Path = ()) -> bool:
    """Whether two scalars are the same value: numbers by their value, true and 1 apart."""
    return bool(a == b) and isinstance(a, bool) == isinstance(b, bool)


def places(a: Json, b: Json, same: Same = equal) -> Iterator[Place]:
    """Each place in which `a` and `b` differ, in the order of `a`, then what only `b` has.

    Args:
        same: whether two scalars count as the same in the place that the path names.
    """
    return _places(a, b, same, ())


def written(path: Path) -> str:
    """A path as JSON paths are written; names that could be misread stand in brackets and quotes."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        elif _PLAIN.fullmatch(step):
            text += f".{step}" if text else step
        else:
            text += f"[{json.dumps(step, ensure_ascii=False)}]"
    return text


def scalars(value: Json, path: Path = ()) -> Iterator[tuple[Path, Json]]:
    """Each scalar in a value with its path."""
    stack = [(path, value)]
    while stack:
        at, each = stack.pop()
        if isinstance(each, dict):
            stack.extend(((*at, name), member) for name, member in reversed(each.items()))
        elif isinstance(each, list):
            stack.extend(((*at, index), each[index]) for index in range(len(each) - 1, -1, -1))
        else:
            yield at, each


def canonical(value: Json) -> bytes:
    """A value as bytes that are the same for the same value, whatever the order of its members."""
    try:
        return orjson.dumps(value, default=str, option=orjson.OPT_SORT_KEYS)
    except orjson.JSONEncodeError:  # half a surrogate pair, or hundreds of levels
        return json.dumps(value, default=str, sort_keys=True).encode()


def _places(a: Json, b: Json, same: Same, path: Path) -> Iterator[Place]:
    if isinstance(a, dict) and isinstance(b, dict):
        for name, value in a.items():
            if name in b:
                yield from _places(value, b[name], same, (*path, name))
            else:
                yield Place((*path, name), "missing", value, None)
        for name, value in b.items():
            if name not in a:
                yield Place((*path, name), "added", None, value)
    elif isinstance(a, list) and isinstance(b, list):
        yield from _elements(a, b, same, path)
    elif isinstance(a, dict | list) or isinstance(b, dict | list) or not same(a, b, path):
        yield Place(path, "changed", a, b)


def _elements(a: list[Json], b: list[Json], same: Same, path: Path) -> Iterator[Place]:
    """Lists of one length are compared one by one; otherwise what was put in or left out is found first."""
    if len(a) == len(b):
        for at, (left, right) in enumerate(zip(a, b, strict=True)):
            yield from _places(left, right, same, (*path, at))
        return
    for left, right in align([canonical(each) for each in a], [canonical(each) for each in b]):
        if left is None:
            assert right is not None
            yield Place((*path, right), "added", None, b[right])
        elif right is None:
            yield Place((*path, left), "missing", a[left], None)
        else:
            yield from _places(a[left], b[right], same, (*path, left))
