"""A comparison in one sentence: the first difference, and what followed from it."""

from __future__ import annotations

import json

from flux.compare.calls import purpose
from flux.shapes.diff import Diff
from flux.shapes.record import Json, Trace

WIDTH = 60
"""Characters that a value takes at most in the sentence."""


def sentence(diff: Diff, a: Trace, b: Trace) -> str:
    """What explains the rest, and how both ended."""
    if diff.identical:
        return "Nothing differs but ids and times." if not diff.durations else _only_pace(diff)
    first = diff.first_difference
    assert first is not None
    ends = _ends(a, b)
    if first.where == "deployment":
        cause = "Other code ran"
        after = [each for each in (_calls(diff), _rows(diff)) if each]
        return f"{cause}: {'; '.join(after)}{ends}." if after else f"{cause}{ends}."
    if first.where in {"input", "params", "query"}:
        more = len(diff.inputs) - 1
        field = first.field if first.field != first.where else "the whole of it"
        return (
            f"The {'input' if first.where == 'input' else first.where} differs at `{field}` "
            f"({_value(first.a)} → {_value(first.b)})"
            f"{f' and in {more} more' if more > 0 else ''}{ends}."
        )
    if first.where in {"function", "method", "path"}:
        return f"Different requests: {first.where} {_value(first.a)} → {_value(first.b)}{ends}."
    if first.where.startswith("call "):
        return f"Both were asked the same; {_call(diff, first.where)}{ends}."
    return (
        f"Both were asked the same and called the same; {first.where} differs"
        f"{f' at `{first.field}`' if first.field not in first.where else ''} "
        f"({_value(first.a)} → {_value(first.b)}){ends}."
    )


def _call(diff: Diff, where: str) -> str:
    call = next(each for each in diff.calls if f"call {each.there.seq}" == where)
    named = f"{where} ({_cut(purpose(call.there))})"
    match call.change:
        case "missing":
            return f"{named} is missing in the second"
        case "added":
            return f"{named} is made in the second only"
        case "reordered":
            return f"{named} comes in another order"
        case _:
            own = next((field for field in call.fields if field.because is None), call.fields[0])
            return f"{named} differs first, at `{own.field}` ({_value(own.a)} → {_value(own.b)})"


def _calls(diff: Diff) -> str:
    counts = {change: sum(call.change == change for call in diff.calls) for change in _WORDS}
    told = [
        f"{count} {'call' if count == 1 else 'calls'} {_WORDS[change]}"
        for change, count in counts.items()
        if count
    ]
    return ", ".join(told)


_WORDS = {"changed": "changed", "missing": "missing", "added": "added", "reordered": "in another order"}


def _rows(diff: Diff) -> str:
    count = len(diff.mutations)
    return f"{count} {'row' if count == 1 else 'rows'} changed otherwise" if count else ""


def _ends(a: Trace, b: Trace) -> str:
    left, right = _end(a), _end(b)
    return f"; both ended {left}" if left == right else f"; {left} became {right}"


def _end(trace: Trace) -> str:
    status = str(trace.status) if trace.status is not None else trace.outcome
    return f"{status} ({trace.error.type})" if trace.error is not None else status


def _only_pace(diff: Diff) -> str:
    pace = diff.durations[0]
    return f"Nothing differs but the pace: `{pace.name}` took {pace.a:.3g} ms, then {pace.b:.3g} ms."


def _value(value: Json) -> str:
    return _cut(json.dumps(value, default=str, ensure_ascii=False, separators=(",", ":")))


def _cut(text: str) -> str:
    return text if len(text) <= WIDTH else f"{text[: WIDTH - 1]}…"
