"""Two sequences laid side by side: which element of one stands for which of the other.

What is the same on both sides is found first (a longest common run, as `diff` does it), then what is merely
alike between two such places is paired in its order.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Hashable, Sequence
from difflib import SequenceMatcher

Pair = tuple[int | None, int | None]

MOST = 1_000_000
"""Beyond this product of the two lengths what lies between the common ends is paired in its order."""


def align(
    a: Sequence[Hashable], b: Sequence[Hashable], *coarser: tuple[Sequence[Hashable], Sequence[Hashable]]
) -> list[Pair]:
    """Indexes of `a` and `b` in pairs, in the order of both; None where one side has no counterpart.

    Args:
        a, b: a key for each element; equal keys belong together.
        coarser: further keys for both sides, from the finer to the coarser, tried where the one before left
            a gap on both sides. Without any, what is left in a gap is paired in its order.
    """
    found: list[Pair] = []
    for i1, i2, j1, j2 in _gaps(a, b, found):
        left, right = range(i1, i2), range(j1, j2)
        if not left or not right:
            found += [(i, None) for i in left] + [(None, j) for j in right]
        elif coarser:
            (finer_a, finer_b), *rest = coarser
            inner = (
                align(finer_a[i1:i2], finer_b[j1:j2], *((x[i1:i2], y[j1:j2]) for x, y in rest))
                if rest
                else _only_equal(finer_a[i1:i2], finer_b[j1:j2])
            )
            found += [(None if i is None else i + i1, None if j is None else j + j1) for i, j in inner]
        else:
            shared = min(len(left), len(right))
            found += [(i1 + at, j1 + at) for at in range(shared)]
            found += [(i, None) for i in left[shared:]] + [(None, j) for j in right[shared:]]
    return _in_order(found)


def moved(
    pairs: list[Pair], a: Sequence[Hashable], b: Sequence[Hashable]
) -> tuple[list[Pair], list[tuple[int, int]]]:
    """Of what has no counterpart at its place, what has one elsewhere.

    Returns:
        the pairs without those, and those as (index in a, index in b).
    """
    lonely: dict[Hashable, deque[int]] = defaultdict(deque)
    for i, j in pairs:
        if i is None and j is not None:
            lonely[b[j]].append(j)
    elsewhere: list[tuple[int, int]] = []
    for i, j in pairs:
        if i is not None and j is None and lonely.get(a[i]):
            elsewhere.append((i, lonely[a[i]].popleft()))
    taken_a, taken_b = {i for i, _ in elsewhere}, {j for _, j in elsewhere}
    rest = [(i, j) for i, j in pairs if not (j is None and i in taken_a) and not (i is None and j in taken_b)]
    return rest, elsewhere


def in_place(pairs: list[Pair], elsewhere: list[tuple[int, int]]) -> list[Pair]:
    """All pairs in the order of `b`; what only `a` has stands behind its neighbour's counterpart."""
    placed: list[tuple[tuple[int, int], Pair]] = [((j, 0), (i, j)) for i, j in elsewhere]
    last = -1
    for i, j in pairs:
        last = last if j is None else j
        placed.append(((last, 0 if j is not None else 1), (i, j)))
    return [pair for _, pair in sorted(placed, key=lambda each: each[0])]


def _gaps(a: Sequence[Hashable], b: Sequence[Hashable], found: list[Pair]) -> list[tuple[int, int, int, int]]:
    """Put the equal elements into `found`; the stretches between them, as (start, end) of a and of b."""
    start, end_a, end_b = 0, len(a), len(b)
    while start < min(end_a, end_b) and a[start] == b[start]:
        found.append((start, start))
        start += 1
    while end_a > start and end_b > start and a[end_a - 1] == b[end_b - 1]:
        end_a, end_b = end_a - 1, end_b - 1
        found.append((end_a, end_b))
    if (end_a - start) * (end_b - start) > MOST:
        return [(start, end_a, start, end_b)]
    gaps = []
    matcher = SequenceMatcher(None, a[start:end_a], b[start:end_b], autojunk=False)
    at_a, at_b = start, start
    for block in matcher.get_matching_blocks():
        i, j = block.a + start, block.b + start
        if i > at_a or j > at_b:
            gaps.append((at_a, i, at_b, j))
        found += [(i + k, j + k) for k in range(block.size)]
        at_a, at_b = i + block.size, j + block.size
    return gaps


def _only_equal(a: Sequence[Hashable], b: Sequence[Hashable]) -> list[Pair]:
    """As `align`, but what is not equal stays without a counterpart."""
    found: list[Pair] = []
    for i1, i2, j1, j2 in _gaps(a, b, found):
        found += [(i, None) for i in range(i1, i2)] + [(None, j) for j in range(j1, j2)]
    return _in_order(found)


def _in_order(pairs: list[Pair]) -> list[Pair]:
    """Pairs in the order of `a`; what only `b` has, where it stands in `b`."""
    whole = sorted(pair for pair in pairs if pair[0] is not None and pair[1] is not None)
    only_a = deque(sorted(i for i, j in pairs if i is not None and j is None))
    only_b = deque(sorted(j for i, j in pairs if i is None and j is not None))
    ordered: list[Pair] = []
    for i, j in [*whole, (None, None)]:
        while only_a and (i is None or only_a[0] < i):
            ordered.append((only_a.popleft(), None))
        while only_b and (j is None or only_b[0] < j):
            ordered.append((None, only_b.popleft()))
        if i is not None:
            ordered.append((i, j))
    return ordered
