"""One step of an execution: the line that names it, and the page that `flux trace debug --at` prints. The
program shows the same lines in its panes.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from flux.cli.render import calls
from flux.cli.render.ansi import Text
from flux.cli.render.changes import change, key
from flux.cli.render.frame import frame
from flux.cli.render.lines import FIELDS, LEVELS
from flux.cli.render.safe import cut, safe, wrap
from flux.cli.render.trace import header
from flux.cli.render.values import ago, compact, duration, short, shortened, status
from flux.query.encoding import to_json
from flux.query.steps import CALL, LAST, LOG, SPAN, START, Moment
from flux.shapes.debug import DebugStep
from flux.shapes.record import HostCall, Json, LogLine, Mutation, Span, Trace
from flux.shapes.why import Writer

LINES = 24
"""Lines of one value that a page shows."""
LOGS = 8
WHOLE = 2000
"""Lines from which on nothing is cut."""


def page(document: Trace, step: DebugStep, cells: int, now: datetime) -> list[Text]:
    """One step as lines.

    Args:
        document: the execution.
        step: one of its steps.
        cells: width of a line.
        now: for "3 min ago", and the zone that times are shown in.
    """
    lines = [*header(document, cells, now), Text(), headline(document, step).cut(cells)]
    lines += place(step, cells)
    for name, part in sections(document, step, cells - 2, LINES):
        lines += [Text.of((name, "bold")), *(Text.of("  ").join(line) for line in part)]
    return lines


def sections(document: Trace, step: DebugStep, cells: int, most: int) -> list[tuple[str, list[Text]]]:
    """What a step was asked and answered, its rows and the lines logged so far; each with its name.

    Args:
        document: the execution.
        step: one of its steps.
        cells: width of a line.
        most: lines that one value takes.
    """
    found: list[tuple[str, list[Text]]] = []
    unrecorded = not_recorded(document)
    if step.kind in (CALL, START, LAST):
        call, last = step.call, step.kind == LAST
        size = document.body_size if call is None else call.arguments_size
        found.append(("input", whole(step.input, size, unrecorded, cells, most)))
        if step.error is not None:
            found.append(("error", _error(step, cells)))
        elif call is not None or last:
            size = document.output_size if call is None else call.result_size
            got = [Text.of((_UNANSWERED[call.status], "yellow"))] if call and call.status != "done" else None
            found.append(("output", got or whole(step.output, size, unrecorded, cells, most)))
    if touched := rows(step, cells, most):
        found.append(("rows", touched))
    if step.logs:
        found.append(("logs", _logs(document, step, cells, most)))
    return found


def headline(document: Trace, step: DebugStep) -> Text:
    """`step 3 of 7  update stock where {"id": 3} → 1 row  after 2.1 ms, took 1.0 ms`."""
    line = Text.of((f"step {step.step} of {step.steps}", "bold"), "  ")
    what: HostCall | LogLine | Span | None = step.call
    if step.kind == LOG:
        what = step.logs[-1]
    elif step.kind == SPAN:
        what = step.span
    line.join(label(document, Moment(step.kind, step.at, what, len(step.logs))))
    line.add(f"  after {duration(since(document, step.at))}", "dim")
    if step.call is not None and step.call.duration_ms is not None:
        line.add(f", took {duration(step.call.duration_ms)}", "dim")
    return line


def label(document: Trace, moment: Moment) -> Text:
    """A step in one line: what was done and what came of it."""
    what = moment.what
    if isinstance(what, HostCall):
        line = calls.label(what)
        return line.add(f"  ✗ {shortened(what.error.type, 60)}", "red") if what.error else line
    if isinstance(what, LogLine):
        return Text.of(("log ", "cyan"), shortened(what.message, 200))
    if isinstance(what, Span):
        return Text.of(("span ", "green"), (shortened(what.name, 200), "bold"))
    if moment.kind == START:
        return Text.of(("start", "bold green"))
    return Text.of(("end  ", "bold")).join(status(document.status, document.outcome))


def since(document: Trace, moment: str) -> float:
    """Milliseconds from an execution's start to a moment, never less than 0."""
    passed = datetime.fromisoformat(moment) - datetime.fromisoformat(document.started_at)
    return max(0.0, passed.total_seconds() * 1000)


def place(step: DebugStep, cells: int) -> list[Text]:
    """The code around the line that a step stands on; empty where none is known."""
    if step.location is None:
        return []
    lines = frame(step.location, cells)
    if step.located != "error":
        lines[0].add("  by its text", "dim")
    return lines


def whole(value: Json, size: int | None, unrecorded: str | None, cells: int, most: int) -> list[Text]:
    """A value as JSON on lines of their own, and what of it is missing.

    Args:
        value: to show.
        size: its full length in bytes where not all was kept.
        unrecorded: why values are missing, where they are.
        cells: width of a line.
        most: lines that it takes.
    """
    if value is None and unrecorded is not None:
        return [Text.of((unrecorded, "dim"))]
    lines = pretty(value, cells, most)
    if size is not None:
        lines.append(Text.of((f"cut: it has {size:,} bytes", "yellow")))
    return lines


def pretty(value: Json, cells: int, most: int) -> list[Text]:
    """A value as JSON in at most `most` lines of at most `cells` cells: what fits on a line stays on one.

    Where there is room for all of it (`most` is at least WHOLE), longer texts are broken, not cut.
    """
    lines: list[Text] = []
    for indent, text in _broken(value, "", 0, "", cells):
        if len(lines) >= most:
            return [*lines, Text.of(("… more", "dim"))]
        room = cells - min(indent, cells // 2)
        start = " " * (cells - room)
        if most < WHOLE:
            lines.append(Text.of(start + shortened(text, room)))
            continue
        lines += [Text.of(start + piece) for piece in _pieces(text, room, most - len(lines))]
    return lines


def rows(step: DebugStep, cells: int, most: int) -> list[Text]:
    """The rows that a step changed: each mutation, or, where earlier ones were undone, the images."""
    if most >= WHOLE:
        lines = [line for mutation in step.changes[:most] for line in _unfolded(mutation, cells, most)]
    else:
        lines = [change(mutation, cells) for mutation in step.changes[:most]]
    if len(step.changes) > most:
        lines.append(Text.of((f"… {len(step.changes) - most:,} more rows", "dim")))
    if any(not mutation.rolled_back for mutation in step.changes):
        return lines
    before, after = step.rows.before, step.rows.after
    if before or after:
        lines.append(Text.of(("rolled back: the rows are again as they were", "red")))
    room = cells - 2
    lines += [Text.of(("- ", "bold red"), (compact(row, room), "red")) for row in before[:most]]
    lines += [Text.of(("+ ", "bold green"), (compact(row, room), "green")) for row in after[:most]]
    left = max(0, len(before) - most) + max(0, len(after) - most)
    return [*lines, Text.of((f"… {left:,} more rows", "dim"))] if left else lines


def origin(writers: list[Writer], cells: int, now: datetime) -> list[Text]:
    """Who wrote each column of a row: a line a column, under the row's name."""
    lines: list[Text] = []
    above = None
    for writer in writers:
        row = f"{safe(writer.table)} {key(writer.key)}"
        if row != above:
            lines.append(Text.of((row, "bold")))
            above = row
        who = short(writer.request_id) if writer.request_id else safe(writer.actor or "outside of Flux")
        line = Text.of((f"  {cut(safe(writer.column), 20):20} ", "dim"), compact(writer.value, 30))
        line.add(f"  {safe(writer.op or '')} by ", "dim").add(who, "yellow")
        lines.append(line.add(f"  {ago(writer.at, now)}", "dim").cut(cells))
    return lines


def not_recorded(document: Trace) -> str | None:
    """Why payloads are missing; None where they are recorded."""
    level = document.record
    if level == "none" or (level == "errors" and document.outcome == "ok"):
        return f"not recorded: record is `{level}`"
    return None


_UNANSWERED = {
    "unknown": "it was sent; whether it was done is not known",
    "abandoned": "abandoned: the execution ended before it was answered",
}


def _error(step: DebugStep, cells: int) -> list[Text]:
    error: Any = step.error
    lines = [
        Text.of(("✗ " if at == 0 else "  ", "bold red"), (part, "bold red" if at == 0 else "red"))
        for at, part in enumerate(
            wrap(f"{shortened(error.type, 200)}: {shortened(error.message)}", cells - 2)
        )
    ]
    detail = error.detail if step.call is not None else {}
    for name in ("detail", "hint"):
        if detail.get(name):
            lines += [Text.of((f"  {part}", "dim")) for part in wrap(shortened(str(detail[name])), cells - 2)]
    return lines


def _logs(document: Trace, step: DebugStep, cells: int, most: int) -> list[Text]:
    """The lines logged so far, the newest last, each with when it was since the execution's start."""
    kept = step.logs[-(most if most >= WHOLE else LOGS) :]
    shown: list[Text] = []
    if len(kept) < len(step.logs):
        shown.append(Text.of((f"{len(step.logs) - len(kept):,} before", "dim")))
    for line in kept:
        row = Text.of((f"{duration(since(document, line.at)):>9}  ", "dim"))
        row.add(f"{safe(line.level):<5} ", LEVELS.get(line.level, "cyan")).add(shortened(line.message))
        if line.fields:
            row.add("  ").add(compact(line.fields, FIELDS), "dim")
        if most < WHOLE or row.width <= cells:
            shown.append(row.cut(cells))
        else:
            shown += [Text.of(piece) for piece in _pieces(row.plain, cells, most)]
    return shown


def _unfolded(mutation: Mutation, cells: int, most: int) -> list[Text]:
    """A mutation with each column that it changed, before and after, whole."""
    mark = "rolled back" if mutation.rolled_back else ""
    lines = [
        Text.of((f"{mutation.op} ", "bold"), (safe(mutation.table), "bold"), " ")
        .add(key(mutation.key) if mutation.key else "", "bold")
        .add(f"  {mark}", "red")
    ]
    for name in mutation.changed:
        for sign, style, image in (("-", "red", mutation.before), ("+", "green", mutation.after)):
            if isinstance(image, dict) and name in image:
                lead = f"{sign} {shortened(name, 40)} "
                value = pretty(image[name], max(10, cells - len(lead)), most)
                lines += [
                    Text.of((lead if at == 0 else " " * len(lead), style), (line.plain, style))
                    for at, line in enumerate(value)
                ]
    return lines


def _broken(value: Json, before: str, indent: int, after: str, cells: int) -> Iterator[tuple[int, str]]:
    """The lines of a value, each with its indent."""
    one = to_json(value, indent=0)
    if not value or not isinstance(value, (dict, list)) or indent + len(before) + len(one) < cells:
        yield indent, f"{before}{one}{after}"
        return
    ends = "{}" if isinstance(value, dict) else "[]"
    yield indent, before + ends[0]
    members = (
        [(f"{to_json(name)}: ", member) for name, member in value.items()]
        if isinstance(value, dict)
        else [("", member) for member in value]
    )
    for at, (name, member) in enumerate(members, start=1):
        yield from _broken(member, name, indent + 2, "," if at < len(members) else "", cells)
    yield indent, ends[1] + after


def _pieces(text: str, cells: int, most: int) -> Iterator[str]:
    """A text, made safe, in pieces that fit, at most `most` of them."""
    shown = safe(text[: cells * most])
    at = 0
    for _ in range(most):
        piece = cut(shown[at : at + cells], cells, "") or shown[at : at + 1]
        yield piece
        at += len(piece)
        if at >= len(shown):
            return
