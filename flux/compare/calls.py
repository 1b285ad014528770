"""Host calls of two executions: which stands for which, and what differs in those that do."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

from msgspec import structs

from flux.compare.align import align, in_place, moved
from flux.compare.renaming import Renaming, form_of
from flux.compare.values import Place, canonical, places, scalars
from flux.record import ops
from flux.shapes.diff import CallDifference
from flux.shapes.record import HostCall, Json

_ID: Final = re.compile(r"(?<=/)(?:\d+|[0-9a-fA-F-]{16,})(?=/|$)")
_SPACE: Final = re.compile(r"\s+")

FIELDS: Final[dict[str, Callable[[HostCall], Json]]] = {
    "arguments": lambda call: call.arguments,
    "status": lambda call: call.status,
    "error": lambda call: None if call.error is None else structs.asdict(call.error),
    "result": lambda call: call.result,
}
"""What of a call is compared, in the order in which it happens."""


def purpose(call: HostCall) -> str:
    """What a call is for, its values apart: calls of one purpose may stand for each other."""
    asked: dict[str, Any] = call.arguments if isinstance(call.arguments, dict) else {}
    match call.op:
        case ops.DB_QUERY:
            return f"{call.op} {asked.get('operation') or 'select'} {asked.get('table')}"
        case ops.DB_SQL:
            return f"{call.op} {_SPACE.sub(' ', str(asked.get('text', ''))).strip()}"
        case ops.FETCH:
            place = str(asked.get("url", "")).partition("?")[0]
            return f"{call.op} {str(asked.get('method') or 'GET').upper()} {_ID.sub('*', place)}"
        case ops.QUEUE_PUSH | ops.INVOKE:
            return f"{call.op} {asked.get('name')}"
        case ops.SECRETS_GET:
            return f"{call.op} {asked.get('key')}"
        case _:
            return call.op


Paired = tuple[HostCall | None, HostCall | None]


def pair(a: list[HostCall], b: list[HostCall]) -> tuple[list[Paired], set[int]]:
    """Calls side by side, in the order of both.

    Returns:
        the pairs, and the seq in `b` of those that stand in another place than in `a`.
    """
    whole = [[_wholly(call) for call in side] for side in (a, b)]
    purposes = [[purpose(call) for call in side] for side in (a, b)]
    kinds = [[_kind(call) for call in side] for side in (a, b)]
    pairs, elsewhere = moved(
        align(whole[0], whole[1], (purposes[0], purposes[1]), (kinds[0], kinds[1])), purposes[0], purposes[1]
    )
    ordered = in_place(pairs, elsewhere)
    side_by_side = [(None if i is None else a[i], None if j is None else b[j]) for i, j in ordered]
    return side_by_side, {b[j].seq for _, j in elsewhere}


def differences(pairs: list[Paired], reordered: set[int], renaming: Renaming) -> list[CallDifference]:
    """What differs, call by call. `renaming` learns the names that the calls bring in."""
    found = []
    for a, b in pairs:
        if a is None or b is None:
            there = a or b
            assert there is not None
            found.append(
                CallDifference(op=there.op, change="added" if a is None else "missing", a=a, b=b, fields=[])
            )
            continue
        fields = [place.told(name) for name in FIELDS for place in _field(name, a, b, renaming)]
        if fields or b.seq in reordered:
            change = "reordered" if b.seq in reordered else "changed"
            found.append(CallDifference(op=b.op, change=change, a=a, b=b, fields=fields))
    return found


def _field(name: str, a: HostCall, b: HostCall, renaming: Renaming) -> list[Place]:
    left, right = FIELDS[name](a), FIELDS[name](b)
    if name == "result" and a.op == ops.QUEUE_PUSH and isinstance(left, dict) and isinstance(right, dict):
        renaming.learn(left.get("id"), right.get("id"))
    return list(places(left, right, renaming.same))


def _wholly(call: HostCall) -> bytes:
    """A key that is equal where two calls ask the same, values that look generated apart."""
    asked = [(path, form_of(value) or canonical(value)) for path, value in scalars(call.arguments)]
    return repr((purpose(call), asked)).encode()


def _kind(call: HostCall) -> str:
    """Coarser than the purpose: SQL that was rewritten still reads, or writes."""
    if call.op == ops.DB_SQL:
        asked = call.arguments if isinstance(call.arguments, dict) else {}
        return f"{call.op} {str(asked.get('text', '')).split(maxsplit=1)[:1]}"
    if call.op == ops.DB_QUERY:
        asked = call.arguments if isinstance(call.arguments, dict) else {}
        return f"{call.op} {asked.get('table')}"
    return call.op
