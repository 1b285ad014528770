"""What separates failing executions from passing ones: a test on what was asked or done, true of nearly all
of the one and of nearly none of the other.

Tests are ranked by mutual information between the test and the cohort (Cover and Thomas, Elements of
Information Theory, 2.3), in bits: 1 where the test tells the two cohorts apart without a mistake, 0 where it
tells nothing. Of tests that say the same of every execution one is told: rather what is true of the failing
ones, and rather what comes first, a field of the input before the call that it led to.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from flux.compare.calls import purpose
from flux.compare.renaming import form_of
from flux.compare.values import canonical, scalars, written
from flux.shapes.diff import Cohorts, Separator
from flux.shapes.record import Json, Trace

MOST: Final = 20
"""Separators that are told."""
DISTINCT: Final = 40
"""A value is a test of its own only where its field has at most so many of them."""
LEAST: Final = 0.02
"""Bits under which a test tells nothing."""


Fact = tuple[str, str]
"""Its kind, and what is told of it."""

_KINDS: Final = ("deployment", "input", "params", "query", "header", "call", "row", "span", "log")
_PASSING: Final = frozenset({"content-length", "traceparent", "tracestate", "x-request-id", "date", "host"})


def separate(bad: Sequence[Trace], good: Sequence[Trace]) -> Cohorts:
    """Rank what separates `bad` from `good`. Either may be empty; then nothing does."""
    everyone = [*bad, *good]
    tests: dict[Fact, set[int]] = {}
    _collect(everyone, tests)
    found = []
    for (kind, text), members in tests.items():
        in_bad = sum(member < len(bad) for member in members)
        in_good = len(members) - in_bad
        bits = _information(in_bad, len(bad), in_good, len(good))
        if bits >= LEAST:
            found.append((Separator(test=text, kind=kind, bad=in_bad, good=in_good, bits=bits), members))
    found.sort(key=lambda each: _rank(each[0], len(bad), len(good)))
    told: list[Separator] = []
    seen: set[frozenset[int]] = set()
    for separator, members in found:
        side = frozenset(members)
        other = frozenset(range(len(everyone))) - side
        if side in seen or other in seen:
            continue
        seen.add(side)
        told.append(separator)
        if len(told) == MOST:
            break
    return Cohorts(bad=len(bad), good=len(good), separators=told)


def _rank(separator: Separator, bad: int, good: int) -> tuple[float, bool, int, int]:
    rather_good = separator.bad * good < separator.good * bad
    return -round(separator.bits, 6), rather_good, _KINDS.index(separator.kind), len(separator.test)


def _collect(everyone: Sequence[Trace], tests: dict[Fact, set[int]]) -> None:
    """Every test that is true of some execution, with those it is true of."""
    values: dict[Fact, list[tuple[int, Json]]] = {}
    for at, trace in enumerate(everyone):
        for kind, name, value in _asked(trace):
            values.setdefault((kind, name), []).append((at, value))
        for kind, text in _did(trace):
            tests.setdefault((kind, text), set()).add(at)
    for (kind, name), given in values.items():
        if kind != "deployment":
            tests[kind, f"{name} is there"] = {at for at, _ in given}
        tests.update(_by_value(kind, name, given))
        tests.update(_by_size(kind, name, given, len(everyone)))


def _asked(trace: Trace) -> Iterator[tuple[str, str, Json]]:
    yield "deployment", "deployment", trace.deployment
    for kind, value in (
        ("input", trace.input),
        ("params", trace.request.params),
        ("query", trace.request.query),
    ):
        if kind == "input" and value == trace.request.query:
            continue
        for path, each in scalars(value):
            yield kind, written((kind, *("[]" if isinstance(step, int) else step for step in path))), each
        for path, count in _lengths(value):
            yield kind, f"length of {written((kind, *path))}", count
    for name, each in trace.request.headers.items():
        if name not in _PASSING and isinstance(each, str):
            yield "header", f"header {name}", each


def _lengths(value: Json, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], int]]:
    if isinstance(value, dict):
        for name, member in value.items():
            yield from _lengths(member, (*path, name))
    elif isinstance(value, list):
        yield path, len(value)


def _did(trace: Trace) -> Iterator[Fact]:
    for call in trace.host_calls:
        told = purpose(call)
        yield "call", f"calls {told}"
        if call.error is not None:
            yield "call", f"{told} fails with {call.error.type}"
        if isinstance(call.result, dict):
            if call.result.get("rows") == [] and " select" in told.lower()[:16]:
                yield "call", f"{told} finds no row"
            if isinstance(call.result.get("status"), int):
                yield "call", f"{told} is answered {call.result['status']}"
    for row in trace.mutations:
        yield "row", f"{'rolls back' if row.rolled_back else 'makes'} {row.op} of {row.table}"
    for span in trace.spans:
        yield "span", f"has the span {span.name}"
    for line in trace.logs:
        yield "log", f"logs {line.level}: {_worded(line.message)}"


def _worded(message: str) -> str:
    """A message without its numbers and ids, so that like lines are one."""
    return " ".join(
        "…" if any(character.isdigit() for character in word) or form_of(word) else word
        for word in message[:120].split()
    )


def _by_value(kind: str, name: str, given: Sequence[tuple[int, Json]]) -> Iterator[tuple[Fact, set[int]]]:
    counts = Counter(canonical(value) for _, value in given)
    if len(counts) > DISTINCT:
        return
    for text in counts:
        yield (kind, f"{name} = {text.decode()}"), {at for at, value in given if canonical(value) == text}


def _by_size(
    kind: str, name: str, given: Sequence[tuple[int, Json]], everyone: int
) -> Iterator[tuple[Fact, set[int]]]:
    """For numbers: above each of up to DISTINCT places between two values. An execution counts by its
    largest."""
    largest: dict[int, float] = {}
    for at, value in given:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return
        largest[at] = max(largest.get(at, -math.inf), float(value))
    steps = sorted(set(largest.values()))
    if len(steps) < 3 or everyone < 3:
        return
    for low in _spread(steps[:-1]):
        yield (kind, f"{name} > {low:g}"), {at for at, value in largest.items() if value > low}


def _spread(values: Sequence[float]) -> Iterable[float]:
    if len(values) <= DISTINCT:
        return values
    return sorted({values[at * len(values) // DISTINCT] for at in range(DISTINCT)})


def _information(in_bad: int, bad: int, in_good: int, good: int) -> float:
    """Mutual information, in bits, of being bad and passing the test; both cohorts weigh the same."""
    if not bad or not good:
        return 0.0
    rates = (in_bad / bad, in_good / good)
    passing = sum(rates) / 2
    return _entropy(passing) - sum(_entropy(rate) for rate in rates) / 2


def _entropy(share: float) -> float:
    if share in (0.0, 1.0):
        return 0.0
    return -share * math.log2(share) - (1 - share) * math.log2(1 - share)
