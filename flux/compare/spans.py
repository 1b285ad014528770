"""Two span trees side by side, level by level: the children of spans that stand for each other are paired by
their names."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Final

from flux import semconv
from flux.compare.align import align, in_place, moved
from flux.compare.renaming import Renaming
from flux.compare.values import places
from flux.shapes.diff import Pace, SpanDifference
from flux.shapes.record import Span

SLOWER: Final = 2.0
SLOWER_MS: Final = 5.0
"""A pace is told where one took SLOWER times as long as the other and SLOWER_MS milliseconds more."""

_PASSING: Final = frozenset(
    {
        semconv.FAAS_INVOCATION_ID,
        semconv.FLUX_DEPLOYMENT,
        "client.port",
        "network.peer.port",
        "server.port",
        "thread.id",
        "db.query.text",
        "url.full",
        "url.query",
    }
)
"""Attributes that are new in each run, or said better by the call that the span is of."""

Paired = tuple[Span | None, Span | None]


def pair(a: list[Span], b: list[Span]) -> tuple[list[Paired], set[str]]:
    """Spans side by side, parents before their children.

    Returns:
        the pairs, and the span_id in `b` of those that come in another order among their siblings.
    """
    trees = (_tree(a), _tree(b))
    found: list[Paired] = []
    reordered: set[str] = set()
    level: list[tuple[list[Span], list[Span]]] = [(trees[0][None], trees[1][None])]
    while level:
        left, right = level.pop()
        names = ([_name(span) for span in left], [_name(span) for span in right])
        pairs, elsewhere = moved(align(*names, names), *names)
        reordered |= {right[j].span_id for _, j in elsewhere}
        below = []
        for i, j in in_place(pairs, elsewhere):
            one, other = None if i is None else left[i], None if j is None else right[j]
            found.append((one, other))
            children = (
                trees[0][one.span_id] if one is not None else [],
                trees[1][other.span_id] if other is not None else [],
            )
            if one is not None and other is not None and (children[0] or children[1]):
                below.append(children)
        level += reversed(below)
    return found, reordered


def differences(pairs: list[Paired], reordered: set[str], renaming: Renaming) -> Iterator[SpanDifference]:
    """What differs; of a span that only one has, its children are not told one by one."""
    for a, b in pairs:
        if a is None or b is None:
            there = a or b
            assert there is not None
            yield SpanDifference(
                name=there.name, change="added" if a is None else "missing", a=a, b=b, fields=[]
            )
            continue
        fields = [
            place.told(name)
            for name, left, right in (
                ("name", a.name, b.name),
                ("status", a.status, b.status),
                ("status_message", a.status_message, b.status_message),
                ("attributes", _lasting(a), _lasting(b)),
            )
            for place in places(left, right, renaming.same)
        ]
        moved_here = b.span_id in reordered
        if fields or moved_here:
            yield SpanDifference(
                name=b.name, change="reordered" if moved_here else "changed", a=a, b=b, fields=fields
            )


def paces(pairs: list[Paired]) -> list[Pace]:
    """Spans of which one took much longer, those with the largest difference first."""
    found = [
        Pace(name=b.name, a=a.duration_ms, b=b.duration_ms)
        for a, b in pairs
        if a is not None and b is not None and _far(a.duration_ms, b.duration_ms)
    ]
    return sorted(found, key=lambda pace: -abs(pace.a - pace.b))


def _far(a: float, b: float) -> bool:
    low, high = sorted((a, b))
    return high - low >= SLOWER_MS and high >= SLOWER * low


def _name(span: Span) -> tuple[str, str]:
    return span.name, span.kind


def _lasting(span: Span) -> dict[str, object]:
    return {name: value for name, value in span.attributes.items() if name not in _PASSING}


def _tree(spans: list[Span]) -> defaultdict[str | None, list[Span]]:
    """Children by their parent; None holds the roots, spans whose parent is not here among them."""
    known = {span.span_id for span in spans}
    tree: defaultdict[str | None, list[Span]] = defaultdict(list)
    for span in sorted(spans, key=lambda span: span.start_ns):
        parent = span.parent_span_id if span.parent_span_id in known else None
        tree[None if parent == span.span_id else parent].append(span)
    return tree
