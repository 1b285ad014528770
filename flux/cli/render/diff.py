"""The page that `flux trace diff` prints: the one sentence first, then what differs, in the order in which it
happened. Where the terminal is wide the two executions stand side by side.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from flux.cli.render import calls
from flux.cli.render.ansi import Text
from flux.cli.render.changes import change, key
from flux.cli.render.safe import safe, width, wrap
from flux.cli.render.trace import title
from flux.cli.render.values import ago, clock, compact, duration, plural, short, status
from flux.compare.spans import SLOWER, SLOWER_MS
from flux.shapes.diff import CallDifference, Cohorts, Diff, FieldDifference, RowDifference, SpanDifference
from flux.shapes.record import Execution, Json

WIDE = 140
"""Cells from which on the two stand side by side."""
MOST = 20
"""Differences of a kind that are shown; `--json` has all."""
NAME = 44
VALUE = 48

_MARKS = {
    "changed": ("~", "yellow"),
    "missing": ("-", "red"),
    "added": ("+", "green"),
    "reordered": ("↕", "cyan"),
}


def page(diff: Diff, cells: int, now: datetime) -> list[Text]:
    """A comparison as lines."""
    style = "bold green" if diff.identical else "bold"
    lines = [Text.of((part, style)) for part in wrap(safe(diff.verdict), cells)]
    lines += [Text(), _side("a", diff.a, cells, now), _side("b", diff.b, cells, now)]
    for head, found in (
        ("input", [_field(each, cells) for each in diff.inputs]),
        ("calls", [line for each in diff.calls for line in _call(each, cells)]),
        ("rows", [line for each in diff.mutations for line in _row(each, cells)]),
        ("log", [_field(each, cells) for each in diff.logs]),
        ("spans", [line for each in diff.spans for line in _span(each, cells)]),
        ("output", [_field(each, cells) for each in diff.output.fields]),
    ):
        lines += _section(head, found)
    if diff.durations:
        lines += [
            Text(),
            Text.of(("time", "bold"), (f"  told from {SLOWER:g} times and {SLOWER_MS:g} ms on", "dim")),
        ]
        lines += [_pace(pace.name, pace.a, pace.b, cells) for pace in diff.durations[:MOST]]
    return lines


def cohorts(found: Cohorts, bad: str, good: str, cells: int) -> list[Text]:
    """What separates two groups of executions, as lines."""
    lines = [
        Text.of((f"{found.bad:,} bad", "bold red"), (f"   {safe(bad)}", "dim")).cut(cells),
        Text.of((f"{found.good:,} good", "bold green"), (f"  {safe(good)}", "dim")).cut(cells),
        Text(),
    ]
    if not found.separators:
        return [*lines, Text.of("Nothing that is recorded tells the two apart.")]
    lines.append(Text.of(("    bad   good   bits  what holds", "dim")))
    for each in found.separators:
        line = Text.of(
            (
                f"{_share(each.bad, found.bad):>7}",
                "red" if each.bad * found.good > each.good * found.bad else "",
            )
        )
        line.add(f"{_share(each.good, found.good):>7}", "").add(f"   {each.bits:.2f}", "dim")
        lines.append(
            line.add(f"  {safe(each.test)}").add(
                f"  {each.bad}/{found.bad} and {each.good}/{found.good}", "dim"
            )
        )
    return [line.cut(cells) for line in lines]


def _share(count: int, of: int) -> str:
    return f"{count / of:.0%}"


def _side(name: str, execution: Execution, cells: int, now: datetime) -> Text:
    line = Text.of((f"{name}  ", "bold"), (short(execution.request_id), "yellow"), ("  ", ""))
    line.join(status(execution.status, execution.outcome)).add(f"  {title(execution)}", "bold")
    line.add(f"  {duration(execution.duration_ms)}")
    line.add(f"  {clock(execution.started_at, now)} ({ago(execution.started_at, now)})", "dim")
    if execution.deployment:
        line.add(f" · deployment {short(execution.deployment)}", "dim")
    return line.cut(cells)


def _section(head: str, lines: Sequence[Text]) -> Iterator[Text]:
    if not lines:
        return
    yield Text()
    yield Text.of((head, "bold"))
    yield from lines[:MOST]
    if len(lines) > MOST:
        yield Text.of((f"  … {plural(len(lines) - MOST, 'more line')}: --json has all", "dim"))


def _field(field: FieldDifference, cells: int, indent: int = 2) -> Text:
    mark, style = _MARKS[field.change]
    line = Text.of((" " * indent, ""), (f"{mark} ", f"bold {style}"))
    name = safe(field.field)
    line.add(name + " " * max(1, NAME - indent - width(name)), "dim")
    room = (cells - line.width - 6) // 2 if cells >= WIDE else VALUE
    left, right = _value(field.a, room), _value(field.b, room)
    if field.change == "missing":
        line.add(left, "red")
    elif field.change == "added":
        line.add(" " * room + " │ " if cells >= WIDE else "", "dim").add(right, "green")
    elif cells >= WIDE:
        line.add(left + " " * max(0, room - width(left)), "red").add(" │ ", "dim").add(right, "green")
    else:
        line.add(left, "red").add(" → ", "dim").add(right, "green")
    if field.because is not None:
        line.add(f"  as {safe(field.because)}", "dim")
    return line.cut(cells)


def _value(value: Json, room: int) -> str:
    return compact(value, max(room, 12))


def _call(each: CallDifference, cells: int) -> Iterator[Text]:
    mark, style = _MARKS[each.change]
    there = each.there
    line = Text.of(("  ", ""), (f"{mark} ", f"bold {style}"), (f"{there.seq} ", "dim"))
    yield line.join(calls.label(there) if each.change != "changed" else calls.asked(there)).cut(cells)
    for field in each.fields:
        yield _field(field, cells, indent=6)


def _row(each: RowDifference, cells: int) -> Iterator[Text]:
    mark, style = _MARKS[each.change]
    line = Text.of(("  ", ""), (f"{mark} ", f"bold {style}"))
    only = each.b if each.a is None else each.a
    if each.change in ("missing", "added") and only is not None:
        yield line.join(change(only, cells - 4)).cut(cells)
        return
    line.add(f"{each.op} {safe(each.table)} ", "bold").add(key(each.key) if each.key else "", "bold")
    yield line.cut(cells)
    for field in each.fields:
        yield _field(field, cells, indent=6)


def _span(each: SpanDifference, cells: int) -> Iterator[Text]:
    mark, style = _MARKS[each.change]
    yield Text.of(("  ", ""), (f"{mark} ", f"bold {style}"), (safe(each.name), "")).cut(cells)
    for field in each.fields:
        yield _field(field, cells, indent=6)


def _pace(name: str, a: float, b: float, cells: int) -> Text:
    times = f"{b / a:.1f}×" if a else ""
    line = Text.of(
        ("  ", ""), (safe(name), ""), (f"  {duration(a)} → {duration(b)}", "red" if b > a else "green")
    )
    return line.add(f"  {times}", "dim").cut(cells)
