"""The page that `flux why` prints: a diagnostic in the manner of a good compiler."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from flux.cli.render import calls
from flux.cli.render.ansi import Text
from flux.cli.render.changes import change, key
from flux.cli.render.frame import frame
from flux.cli.render.safe import cut, safe, width, wrap
from flux.cli.render.trace import title
from flux.cli.render.values import ago, clock, compact, duration, plural, short, shortened, status, warning
from flux.shapes.record import Execution, Json
from flux.shapes.why import RootCause, Why, Writer

INPUT_LINES = 4
CHANGES = 12
WRITERS = 6
VALUE = 44


def page(shape: Why, cells: int, now: datetime) -> list[Text]:
    """A why shape as lines."""
    if shape.root_cause is None:
        return [*_well(shape, cells, now)]
    return [
        *_headline(shape, shape.root_cause, cells, now),
        *_path(shape, cells),
        *_input(shape, cells),
        *_changes(shape, cells),
        *_writers(shape, cells, now),
        *_comparison(shape, cells),
        *_advice(shape, cells),
    ]


def _well(shape: Why, cells: int, now: datetime) -> Iterator[Text]:
    execution = shape.execution
    yield (
        status(execution.status, execution.outcome)
        .add(f"  {_title(shape)}", "bold")
        .add("  it did not fail  ", "green")
        .add(short(execution.request_id), "yellow")
    )
    yield _when(execution, now)
    yield from _survived(shape, cells)
    yield from _warnings(shape, cells)
    if shape.slowest:
        yield Text()
        yield Text.of(("where the time went", "bold"), (f"  {duration(execution.duration_ms)} in all", "dim"))
        longest = max(width(safe(part.name)) for part in shape.slowest)
        for part in shape.slowest:
            name = cut(safe(part.name), cells - 36)
            yield Text.of(
                (f"  {name}{' ' * max(0, min(longest, cells - 36) - width(name))}", ""),
                (f"  {duration(part.self_ms):>9}  {part.share:>4.0%} ", "dim"),
                ("█" * round(part.share * 12) or "▏", "blue"),
            )
    if shape.data_changes:
        yield from _changes(shape, cells)


def _headline(shape: Why, cause: RootCause, cells: int, now: datetime) -> Iterator[Text]:
    execution = shape.execution
    refused = shape.refused
    word = "refused" if refused else "rejected" if execution.outcome == "rejected" else "error"
    if execution.outcome == "interrupted":
        head, message = "interrupted", shortened(cause.message)
    else:
        head, message = f"{word}[{shortened(cause.type, 200)}]", shortened(cause.message)
    style = "bold red" if word == "error" else "bold yellow"
    for at, part in enumerate(wrap(f"{head}: {message}", cells)):
        if at == 0 and part.startswith(f"{head}:"):
            yield Text.of((head, style), (part[len(head) :], "bold"))
        else:
            yield Text.of((part, "bold"))
    gutter = 2
    if shape.location is not None:
        context = shape.location.context
        gutter = len(str(context[-1].line)) + 1 if context else 2
        yield from frame(shape.location, cells)
    note = Text.of((f"{'':{gutter}}= ", "bold blue")).join(status(execution.status, execution.outcome))
    note.add(f"  {_title(shape)}", "bold").add(f"  {duration(execution.duration_ms)}  ")
    yield note.add(short(execution.request_id), "yellow").cut(cells)
    yield Text.of((f"{'':{gutter}}=", "bold blue")).join(_when(execution, now)).cut(cells)
    if refused:
        said = f"the function answered {compact(shape.output, cells)}"
        yield Text.of((f"{'':{gutter}}= ", "bold blue"), (said, "dim")).cut(cells)
    surfaced = execution.error
    if surfaced and (surfaced.type, surfaced.message) != (cause.type, cause.message):
        told = f"told the caller {shortened(surfaced.type, 200)}: {shortened(surfaced.message)}"
        yield Text.of((f"{'':{gutter}}= ", "bold blue"), (told, "dim")).cut(cells)
    if cause.request_id != execution.request_id:
        inside = f"happened inside {short(cause.request_id)}, which it invoked"
        yield Text.of((f"{'':{gutter}}= ", "bold blue"), (inside, "dim"))
    yield from _warnings(shape, cells)


def _title(shape: Why) -> str:
    """What was asked about; of a trace without an execution its root's name."""
    execution = shape.execution
    if execution.trigger is None and not execution.method and shape.chain:
        return safe(shape.chain[0].name)
    return title(execution)


def _when(execution: Execution, now: datetime) -> Text:
    parts = [f"{clock(execution.started_at, now)} ({ago(execution.started_at, now)})"]
    if execution.function:
        parts.append(f"function {safe(execution.function)}")
    if execution.deployment:
        parts.append(f"deployment {short(execution.deployment)}")
    return Text.of((f" {' · '.join(parts)}", "dim"))


def _warnings(shape: Why, cells: int) -> Iterator[Text]:
    for text in shape.warnings:
        yield from warning(text, cells)


def _path(shape: Why, cells: int) -> Iterator[Text]:
    chain, call = shape.chain, shape.failing_call
    if len(chain) < 2 and call is None and not shape.survived:
        return
    yield Text()
    yield Text.of(("how it failed", "bold"))
    yield from _survived(shape, cells)
    apart = call is not None and (not chain or chain[-1].span_id != call.span_id)
    for depth, span in enumerate(chain):
        last = depth == len(chain) - 1
        stem = "  " + ("" if depth == 0 else "   " * (depth - 1) + "└─ ")
        line = Text.of((stem, "dim"))
        if last and call is not None and span.span_id == call.span_id:
            line.join(calls.label(call))
        else:
            line.add(safe(span.name), "bold")
        took = duration(span.duration_ms)
        line = line.cut(cells - len(took) - 20).add(f"  {took}", "dim")
        first = last and not (apart and call is not None and call.error)
        yield line.add("  ← failed first", "red") if first else line
    if call is not None:
        indent = 2 + 3 * max(0, len(chain))
        if apart:
            yield (
                Text.of((" " * (indent - 3) + "└─ " if chain else "  ", "dim"))
                .join(calls.label(call))
                .add("  ← failed first" if call.error else "", "red")
                .cut(cells)
            )
        if call.error:
            for line in calls.failure(call.error, cells - indent):
                yield Text.of(" " * indent).join(line)


def _survived(shape: Why, cells: int) -> Iterator[Text]:
    """The failed calls that the function got over."""
    for call in shape.survived:
        line = Text.of(("  got over ", "dim")).join(calls.label(call))
        if call.error is not None:
            line.add(f"  {safe(call.error.type)}: {safe(call.error.message)}", "dim")
        yield line.cut(cells)


def _input(shape: Why, cells: int) -> Iterator[Text]:
    request = shape.request
    value, name = shape.input, "input"
    if value is None and request.body is not None:
        value, name = request.body, "body"
    if value is None and (shape.execution.outcome == "rejected" or shape.execution.trigger is None):
        return
    yield Text()
    yield Text.of((name, "bold"))
    for part in wrap(compact(value, (cells - 2) * INPUT_LINES), cells - 2):
        yield Text.of("  ").add(part)


def _changes(shape: Why, cells: int) -> Iterator[Text]:
    mutations = shape.data_changes
    kept = sum(1 for mutation in mutations if not mutation.rolled_back)
    undone = len(mutations) - kept
    if not mutations and (shape.execution.outcome == "rejected" or shape.execution.trigger is None):
        return
    yield Text()
    if not mutations:
        yield Text.of(("data", "bold"), ("  nothing was changed", "dim"))
        return
    parts = [f"{plural(kept, 'row')} changed for good" if kept else "nothing was kept"]
    if undone:
        parts.append(f"{plural(undone, 'row')} rolled back")
    yield Text.of(("data", "bold"), (f"  {', '.join(parts)}", "yellow" if kept and shape.failed else "dim"))
    for mutation in mutations[:CHANGES]:
        yield Text.of("  ").join(change(mutation, cells - 2))
    if len(mutations) > CHANGES:
        more = plural(len(mutations) - CHANGES, "more row")
        rest = f"  … {more}: flux trace {short(shape.execution.request_id)}"
        yield Text.of((rest, "dim"))


def _writers(shape: Why, cells: int, now: datetime) -> Iterator[Text]:
    entries = shape.provenance
    if not entries:
        return
    yield Text()
    yield Text.of(("who wrote the rows it met", "bold"))
    for entry in entries[:WRITERS]:
        line = Text.of(f"  {safe(entry.table)} ", (key(entry.key), "bold"), ("  ", ""))
        line.add(f"{safe(entry.column)} ", "dim").add(compact(entry.value, VALUE))
        verb = {"DELETE": "deleted", "TRUNCATE": "truncated", "INSERT": "inserted"}.get(entry.op or "", "set")
        line.add(f"  {verb} by ", "dim").join(_author(entry))
        yield line.add(f"  {ago(entry.at, now)}", "dim").cut(cells)
    if len(entries) > WRITERS:
        yield Text.of((f"  … {len(entries) - WRITERS} more", "dim"))


def _author(entry: Writer) -> Text:
    if entry.request_id is not None:
        return Text.of((short(entry.request_id), "yellow"))
    return Text.of((f"{safe(entry.actor or 'someone')}, outside Flux", "magenta"))


def _comparison(shape: Why, cells: int) -> Iterator[Text]:
    if shape.previous_success is None:
        return
    yield Text()
    yield Text.of(("compared with the nearest success ", "bold"), (short(shape.previous_success), "yellow"))
    changed = shape.deployment_changed
    if changed:
        yield _differs("code", "deployment", short(changed.a), short(changed.b), cells)
    shown = [each for each in shape.differences if each.where != "outcome"][:3]
    for difference in shown:
        a, b = (_side(difference.field, value) for value in (difference.a, difference.b))
        yield _differs(difference.where, difference.field, a, b, cells)
    if not shown and not changed:
        yield Text.of(("  same code, same input, same answers to every call", "dim"))


def _side(field: str, value: Json) -> str:
    """One side of a difference; of a call's error, its type."""
    if field == "error":
        return (
            "no error"
            if value is None
            else safe(str(value.get("type")))
            if isinstance(value, dict)
            else "error"
        )
    return compact(value, VALUE)


def _differs(where: str, field: str, a: str, b: str, cells: int) -> Text:
    place = safe(field if field.startswith(where) else f"{where}  {field}")
    return Text.of((f"  {place}  ", "dim"), (a, "green"), (" → ", "dim"), (b, "red")).cut(cells)


def _advice(shape: Why, cells: int) -> Iterator[Text]:
    for suggestion in shape.suggestions:
        yield Text()
        yield from _hanging("help: ", "bold cyan", suggestion.text, "", cells)
        yield from _hanging("      ", "", suggestion.reason, "dim", cells)


def _hanging(head: str, head_style: str, text: str, style: str, cells: int) -> Iterator[Text]:
    for at, part in enumerate(wrap(shortened(text), cells - len(head))):
        yield Text.of((head if at == 0 else " " * len(head), head_style if at == 0 else ""), (part, style))
