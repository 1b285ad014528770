"""Two whole executions compared: what was asked, what they did, what came of it, and which difference came
first."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from msgspec import structs

from flux.compare import calls, rows, spans, verdict
from flux.compare.renaming import Renaming
from flux.compare.values import places
from flux.shapes.diff import CallDifference, Diff, FieldDifference, Outputs, RowDifference
from flux.shapes.record import Json, LogLine, Trace
from flux.shapes.why import Difference

GUEST_SCOPE: Final = "flux.function"
"""The instrumentation scope of the spans that a function makes itself."""


def compare(a: Trace, b: Trace) -> Diff:
    """How `b` differs from `a`. Executions of different functions can be compared, too.

    Ids, times and tokens that are new in every run count as the same where they stand for each other
    throughout. Durations are told apart and make no difference.
    """
    if _from_the_record(b, a) or _from_the_record(a, b):
        a, b = _as_replayed(a), _as_replayed(b)
    renaming = Renaming()
    _introduce(a, b, renaming)
    inputs = list(_inputs(a, b))
    sources = _sources(a, b)
    pairs, moved = calls.pair(a.host_calls, b.host_calls)
    rows.learn(a.mutations, b.mutations, pairs, renaming)
    asked = [_explained(call, sources) for call in calls.differences(pairs, moved, renaming)]
    changed = rows.differences(a.mutations, b.mutations, renaming)
    changed = [
        structs.replace(row, fields=[_because(field, sources) for field in row.fields]) for row in changed
    ]
    logs = [_because(field, sources) for field in _logs(a.logs, b.logs, renaming)]
    output = _outputs(a, b, renaming, sources)
    tree = spans.pair(a.spans, b.spans)
    deployment = _deployment(a, b)
    found = Diff(
        a=a.execution,
        b=b.execution,
        identical=False,
        verdict="",
        first_difference=None,
        inputs=inputs,
        spans=list(spans.differences(*tree, renaming)),
        calls=asked,
        mutations=changed,
        logs=logs,
        output=output,
        deployment=deployment,
        durations=spans.paces(tree[0]),
    )
    first = next(_in_order(found, a, b), None)
    identical = first is None and not found.spans
    if first is None and found.spans:
        span = found.spans[0]
        first = Difference(where=f"span {span.name}", field=span.change, a=_told(span.a), b=_told(span.b))
    found = structs.replace(found, identical=identical, first_difference=first)
    return structs.replace(found, verdict=verdict.sentence(found, a, b))


def _from_the_record(replay: Trace, original: Trace) -> bool:
    """Whether one is a replay of the other in which every call was answered from the record."""
    return replay.replay_of == original.request_id and all(call.xid is None for call in replay.host_calls)


def _as_replayed(trace: Trace) -> Trace:
    """What a replay from the record does, too: the function's own work. It writes no rows, sends no statement
    and has a root of its own."""
    own = [span for span in trace.spans if span.scope == GUEST_SCOPE]
    return structs.replace(trace, mutations=[], spans=own)


def _told(span: object) -> Json:
    return None if span is None else getattr(span, "name", None)


def _introduce(a: Trace, b: Trace, renaming: Renaming) -> None:
    """The names that the two executions themselves have."""
    for name in ("request_id", "trace_id", "span_id", "job_id", "client_request_id", "deployment"):
        renaming.learn(getattr(a, name), getattr(b, name))


def _inputs(a: Trace, b: Trace) -> Iterator[FieldDifference]:
    """Everything that was asked otherwise. Headers are left out: nothing says which of them the function
    read."""
    for name in ("function", "method", "path"):
        left, right = getattr(a, name), getattr(b, name)
        if left != right and not (name == "path" and a.request.params != b.request.params):
            yield FieldDifference(field=name, change="changed", a=left, b=right)
    for name in ("params", "query"):
        for place in places(getattr(a.request, name), getattr(b.request, name)):
            yield place.told(name)
    if a.input != a.request.query or b.input != b.request.query:
        for place in places(a.input, b.input):
            yield place.told("" if place.path else "input")


Sources = dict[tuple[str, str], str]


def _sources(a: Trace, b: Trace) -> Sources:
    """What differs in the inputs, by the pair of values: where the same pair turns up later, this is why."""
    found: Sources = {}
    for name, left, right in (
        ("params", a.request.params, b.request.params),
        ("query", a.request.query, b.request.query),
        ("input", a.input, b.input),
    ):
        for place in places(left, right):
            if place.change != "changed":
                continue
            field = place._replace(path=(name, *place.path)).field
            found.setdefault((str(place.a), str(place.b)), field)
    return found


def _because(field: FieldDifference, sources: Sources) -> FieldDifference:
    """With the input's field that brought both values in, alone or as parts of longer texts."""
    for (left, right), source in sources.items():
        alone = (str(field.a), str(field.b)) == (left, right)
        inside = (
            isinstance(field.a, str)
            and isinstance(field.b, str)
            and len(left) > 3
            and left in field.a
            and field.a.replace(left, right) == field.b
        )
        if alone or inside:
            return structs.replace(field, because=source)
    return field


def _explained(call: CallDifference, sources: Sources) -> CallDifference:
    return structs.replace(call, fields=[_because(field, sources) for field in call.fields])


def _deployment(a: Trace, b: Trace) -> FieldDifference | None:
    if a.deployment == b.deployment or a.function != b.function:
        return None
    return FieldDifference(field="deployment", change="changed", a=a.deployment, b=b.deployment)


def _logs(a: list[LogLine], b: list[LogLine], renaming: Renaming) -> Iterator[FieldDifference]:
    """Lines that differ, by their place among the lines of `b` (of `a`, where it alone has one)."""
    told = [
        [{"level": line.level, "message": line.message, "fields": line.fields} for line in side]
        for side in (a, b)
    ]
    for place in places(told[0], told[1], renaming.same):
        yield place.told("logs")


def _outputs(a: Trace, b: Trace, renaming: Renaming, sources: Sources) -> Outputs:
    fields = [
        _because(place.told("" if place.path else "output"), sources)
        for place in places(a.output, b.output, renaming.same)
    ]
    return Outputs(a=a.output, b=b.output, fields=fields, status_a=a.status, status_b=b.status)


def _in_order(found: Diff, a: Trace, b: Trace) -> Iterator[Difference]:
    """Differences in the order in which things happened; first those that nothing before them explains."""
    if found.deployment is not None and not found.inputs:
        yield _first("deployment", found.deployment)
    for field in found.inputs:
        where = field.field.partition(".")[0]
        yield _first(where if where in _ASKED and field.field != "input" else "input", field)
    late: list[Difference] = []
    for call in found.calls:
        where = f"call {call.there.seq}"
        if call.change != "changed":
            yield Difference(where=where, field=call.change, a=call.a and call.a.op, b=call.b and call.b.op)
        for field in call.fields:
            if field.because is None:
                yield _first(where, field)
            else:
                late.append(_first(where, field))
    for row in found.mutations:
        yield from _of_row(row)
    for field in found.logs:
        yield _first("log", field)
    if a.error != b.error:
        yield Difference(where="error", field="type", a=a.error and a.error.type, b=b.error and b.error.type)
    if a.status != b.status:
        yield Difference(where="status", field="status", a=a.status, b=b.status)
    if a.outcome != b.outcome:
        yield Difference(where="outcome", field="outcome", a=a.outcome, b=b.outcome)
    for field in found.output.fields:
        yield _first("output", field)
    yield from late


_ASKED = frozenset({"function", "method", "path", "params", "query"})


def _of_row(row: RowDifference) -> Iterator[Difference]:
    where = f"row {row.table}"
    if row.change != "changed":
        yield Difference(where=where, field=row.change, a=row.a and row.a.key, b=row.b and row.b.key)
    for field in row.fields:
        yield _first(where, field)


def _first(where: str, field: FieldDifference) -> Difference:
    return Difference(where=where, field=field.field, a=field.a, b=field.b)
