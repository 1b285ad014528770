"""What differs between two executions of one function: their code, their input, and their host calls one
after the other.

Pure: works on trace shapes. `why` compares a failure with the last success.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from flux.query.shapes import Shape

MOST = 20


def differences(a: Shape, b: Shape) -> list[Shape]:
    """The first difference in each place where two trace shapes differ, in the order in which things
    happened.

    Args:
        a, b: trace shapes of one function's executions.

    Returns:
        `{where, field, a, b}` with `where` one of `input`, `call N` (the seq in `b`, else in `a`) and
        `outcome`. What is new in every run (times, ids of requests) is not compared.
    """
    found: list[Shape] = []
    found.extend(_first("input", a["input"], b["input"], "input"))
    for left, right in _paired(a["host_calls"], b["host_calls"]):
        found.extend(_call(left, right))
        parted = (
            left is None or right is None or left["op"] != right["op"] or (left["error"] != right["error"])
        )
        if parted or len(found) >= MOST:
            # From here on the two went different ways: nothing that follows is comparable.
            break
    for field in ("outcome", "status"):
        if a[field] != b[field]:
            found.append({"where": "outcome", "field": field, "a": a[field], "b": b[field]})
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


def _first(where: str, a: Any, b: Any, root: str) -> list[Shape]:
    for path, left, right in walk(a, b):
        field = root if not path else f"{root}{path}" if path.startswith("[") else f"{root}.{path}"
        return [{"where": where, "field": field, "a": left, "b": right}]
    return []


def _call(a: Shape | None, b: Shape | None) -> list[Shape]:
    if a is None or b is None:
        present = a or b or {}
        where = f"call {present['seq']}"
        return [{"where": where, "field": "op", "a": a and a["op"], "b": b and b["op"]}]
    where = f"call {b['seq']}"
    if a["op"] != b["op"]:
        return [{"where": where, "field": "op", "a": a["op"], "b": b["op"]}]
    for field in ("arguments", "error", "status", "result"):
        if found := _first(where, a[field], b[field], field):
            return found
    return []


def _paired(a: list[Shape], b: list[Shape]) -> Iterator[tuple[Shape | None, Shape | None]]:
    for at in range(max(len(a), len(b))):
        yield (a[at] if at < len(a) else None), (b[at] if at < len(b) else None)
