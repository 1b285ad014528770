"""The differences that tell something: those in which two successes don't differ, too. `why` shows them."""

from __future__ import annotations

from collections.abc import Iterator

from flux.shapes.diff import Diff, FieldDifference
from flux.shapes.why import Difference

MOST = 20


def telling(diff: Diff, usual: Diff | None = None) -> list[Difference]:
    """The first differences in each place, in the order in which things happened, then how both ended.

    Args:
        diff: of a success and a failure.
        usual: of another success and that one. Fields in which these differ (an id, a name) are passed over,
            unless that leaves nothing.
    """
    ordinary = [] if usual is None else [field for _, field in _places(usual)]
    found = [
        difference
        for difference, field in _places(diff)
        if not any(_overlap(field, other) for other in ordinary)
    ]
    found = (found or [difference for difference, _ in _places(diff)])[:MOST]
    output = diff.output
    if diff.a.outcome != diff.b.outcome:
        found.append(Difference(where="outcome", field="outcome", a=diff.a.outcome, b=diff.b.outcome))
    elif output.status_a != output.status_b:
        found.append(Difference(where="outcome", field="status", a=output.status_a, b=output.status_b))
    return found


def _places(diff: Diff) -> Iterator[tuple[Difference, str]]:
    """Each difference, and a name of its place that is the same in other comparisons of the same function."""
    for field in diff.inputs:
        name = _whole(field)
        yield Difference(where=_root(name), field=name, a=field.a, b=field.b), name
    for call in diff.calls:
        there = call.there
        where = f"call {there.seq}"
        if call.a is None or call.b is None or call.change == "reordered":
            a, b = call.a and call.a.op, call.b and call.b.op
            yield Difference(where=where, field="op", a=a, b=b), f"{there.op} {call.change}"
        for field in call.fields:
            yield (
                Difference(where=where, field=field.field, a=field.a, b=field.b),
                f"{there.op} {field.field}",
            )
            if field.field == "error":
                # What it would have returned is no difference beside that it failed, nor is what followed.
                return


def _whole(field: FieldDifference) -> str:
    """An input's field with the name of the input before it."""
    root = _root(field.field)
    if root in _ROOTS:
        return field.field
    return f"input{'' if field.field.startswith('[') else '.'}{field.field}"


_ROOTS = frozenset({"input", "query", "params", "method", "path", "function"})


def _root(field: str) -> str:
    return field.partition(".")[0].partition("[")[0]


def _overlap(one: str, other: str) -> bool:
    """Whether two places are the same, or one lies in the other."""
    short, long = sorted((one, other), key=len)
    return long.startswith(short) and long[len(short) : len(short) + 1] in ("", ".", "[")
