"""What differs between two executions of one function: their code, their input, and their host calls one
after the other.

Pure: works on trace shapes. `why` compares a failure with the last success, and that with the one before:
what differs between two successes (an id, a name) tells nothing of a failure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from msgspec import structs

from flux.shapes.record import HostCall, Json, Trace
from flux.shapes.why import Difference

MOST = 20


def differences(a: Trace, b: Trace, usual: Trace | None = None) -> list[Difference]:
    """The first telling difference in each place where two traces differ, in the order in which things
    happened. What is new in every run (times, ids of requests) is not compared.

    Args:
        a, b: of one function's executions.
        usual: a third one; fields in which it differs from `a` are passed over, unless that leaves nothing.
    """
    found = _inside(a, b, usual) if usual is not None else []
    found = found or _inside(a, b, None)
    if a.outcome != b.outcome:
        found.append(Difference(where="outcome", field="outcome", a=a.outcome, b=b.outcome))
    elif a.status != b.status:
        found.append(Difference(where="outcome", field="status", a=a.status, b=b.status))
    return found


def _inside(a: Trace, b: Trace, usual: Trace | None) -> list[Difference]:
    found: list[Difference] = []
    found.extend(_first("input", a.input, b.input, "input", [] if usual is None else [usual.input]))
    third = iter([] if usual is None else usual.host_calls)
    for left, right in _paired(a.host_calls, b.host_calls):
        found.extend(_call(left, right, next(third, None)))
        parted = left is None or right is None or left.op != right.op or left.error != right.error
        if parted or len(found) >= MOST:
            # From here on the two went different ways: nothing that follows is comparable.
            break
    return found


def walk(a: Json, b: Json, path: str = "") -> Iterator[tuple[str, Json, Json]]:
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


def _first(where: str, a: Json, b: Json, root: str, usual: list[Json]) -> list[Difference]:
    ordinary = [path for other in usual for path, _, _ in walk(other, a)]
    for path, left, right in walk(a, b):
        if any(_overlap(path, other) for other in ordinary):
            continue
        field = root if not path else f"{root}{path}" if path.startswith("[") else f"{root}.{path}"
        return [Difference(where=where, field=field, a=left, b=right)]
    return []


def _overlap(one: str, other: str) -> bool:
    """Whether two paths are the same, or one leads into the other."""
    short, long = sorted((one, other), key=len)
    return long.startswith(short) and long[len(short) : len(short) + 1] in ("", ".", "[")


def _call(a: HostCall | None, b: HostCall | None, usual: HostCall | None) -> list[Difference]:
    there = b or a
    if there is None:
        return []
    where = f"call {there.seq}"
    if a is None or b is None or a.op != b.op:
        return [Difference(where=where, field="op", a=a and a.op, b=b and b.op)]
    like = usual if usual is not None and usual.op == a.op else None
    for field, of in _FIELDS.items():
        if found := _first(where, of(a), of(b), field, [] if like is None else [of(like)]):
            return found
    return []


def _paired(a: list[HostCall], b: list[HostCall]) -> Iterator[tuple[HostCall | None, HostCall | None]]:
    for at in range(max(len(a), len(b))):
        yield (a[at] if at < len(a) else None), (b[at] if at < len(b) else None)


_FIELDS: dict[str, Callable[[HostCall], Json]] = {
    "arguments": lambda call: call.arguments,
    "error": lambda call: None if call.error is None else structs.asdict(call.error),
    "status": lambda call: call.status,
    "result": lambda call: call.result,
}
