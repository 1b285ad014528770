"""What differs between two executions of one function: their code, their input, and their host calls one
after the other.

Pure: works on trace shapes. `why` compares a failure with the last success, and that with the one before:
what differs between two successes (an id, a name) tells nothing of a failure.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from flux.query.shapes import Shape

MOST = 20
_NOTHING: Shape = {"input": None, "host_calls": []}


def differences(a: Shape, b: Shape, usual: Shape | None = None) -> list[Shape]:
    """The first telling difference in each place where two trace shapes differ, in the order in which things
    happened.

    Args:
        a, b: trace shapes of one function's executions.
        usual: of a third; fields in which it differs from `a` are passed over, unless that leaves nothing.

    Returns:
        `{where, field, a, b}` with `where` one of `input`, `call N` (the seq in `b`, else in `a`) and
        `outcome`. What is new in every run (times, ids of requests) is not compared.
    """
    found = _inside(a, b, usual) if usual is not None else []
    found = found or _inside(a, b, None)
    for field in ("outcome", "status"):
        if a[field] != b[field]:
            found.append({"where": "outcome", "field": field, "a": a[field], "b": b[field]})
            break
    return found


def _inside(a: Shape, b: Shape, usual: Shape | None) -> list[Shape]:
    found: list[Shape] = []
    found.extend(_first("input", a["input"], b["input"], "input", [] if usual is None else [usual["input"]]))
    third = iter((usual or _NOTHING)["host_calls"])
    for left, right in _paired(a["host_calls"], b["host_calls"]):
        found.extend(_call(left, right, next(third, None)))
        parted = (
            left is None or right is None or left["op"] != right["op"] or (left["error"] != right["error"])
        )
        if parted or len(found) >= MOST:
            # From here on the two went different ways: nothing that follows is comparable.
            break
    return found


def walk(a: Any, b: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Each place in which two JSON values differ, as `(path, a, b)`: `user.email`, `items[2].qty`; a missing
    one is None.
    """
    if isinstance(a, dict) and isinstance(b, dict):
        for key in [*b, *(key for key in a if key not in b)]:
            yield from walk(a.get(key), b.get(key), f"{path}.{key}" if path else str(key))
    elif isinstance(a, list) and isinstance(b, list):
        for at in range(max(len(a), len(b))):
            left, right = (side[at] if at < len(side) else None for side in (a, b))
            yield from walk(left, right, f"{path}[{at}]")
    elif a != b or isinstance(a, bool) != isinstance(b, bool):
        yield path, a, b


def _first(where: str, a: Any, b: Any, root: str, usual: list[Any]) -> list[Shape]:
    ordinary = [path for other in usual for path, _, _ in walk(other, a)]
    for path, left, right in walk(a, b):
        if any(_overlap(path, other) for other in ordinary):
            continue
        field = root if not path else f"{root}{path}" if path.startswith("[") else f"{root}.{path}"
        return [{"where": where, "field": field, "a": left, "b": right}]
    return []


def _overlap(one: str, other: str) -> bool:
    """Whether two paths are the same, or one leads into the other."""
    short, long = sorted((one, other), key=len)
    return long.startswith(short) and long[len(short) : len(short) + 1] in ("", ".", "[")


def _call(a: Shape | None, b: Shape | None, usual: Shape | None) -> list[Shape]:
    if a is None or b is None:
        present = a or b or {}
        where = f"call {present['seq']}"
        return [{"where": where, "field": "op", "a": a and a["op"], "b": b and b["op"]}]
    where = f"call {b['seq']}"
    if a["op"] != b["op"]:
        return [{"where": where, "field": "op", "a": a["op"], "b": b["op"]}]
    for field in ("arguments", "error", "status", "result"):
        others = [usual[field]] if usual is not None and usual["op"] == a["op"] else []
        if found := _first(where, a[field], b[field], field, others):
            return found
    return []


def _paired(a: list[Shape], b: list[Shape]) -> Iterator[tuple[Shape | None, Shape | None]]:
    for at in range(max(len(a), len(b))):
        yield (a[at] if at < len(a) else None), (b[at] if at < len(b) else None)
