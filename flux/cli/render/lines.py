"""One line an execution (`flux tail`), one line a log line (`flux logs`)."""

from __future__ import annotations

from datetime import datetime

from flux.cli.render.ansi import Text
from flux.cli.render.safe import safe, width
from flux.cli.render.trace import title
from flux.cli.render.values import clock, compact, duration, outcome_style, short, shortened, warning
from flux.shapes.record import Execution, LogLine

LEVELS = {"debug": "grey", "info": "cyan", "warn": "yellow", "error": "bold red"}
FIELDS = 200
MESSAGE = 16_384
_INDENT = 10


def execution(shape: Execution, cells: int, now: datetime) -> list[Text]:
    """An execution in a line: id, time, status, what it was, how long it took, its error; below it what is to
    be known about it.
    """
    code = str(shape.status) if shape.status is not None else "—"
    style = outcome_style(shape.status, shape.outcome)
    line = Text.of((short(shape.request_id), "yellow"), (f"  {clock(shape.started_at, now)}  ", "dim"))
    line.add(f"{code:>3}", f"bold {style}").add(f" {duration(shape.duration_ms):>9}  ", "dim")
    name = title(shape)
    if shape.trigger not in ("http", None) and not shape.method:
        line.add(f"{safe(shape.trigger)} ", "magenta")
    line.add(name, "bold" if style == "red" else "")
    if shape.count > 1:
        line.add(f"  ×{shape.count}", style)
    if shape.function and shape.function not in name:
        line.add(f"  {safe(shape.function)}", "dim")
    error = shape.error
    if error is not None:
        line.add("  ").add(shortened(error.type, 200), style).add(f"  {shortened(error.message)}", "dim")
    elif shape.outcome == "interrupted":
        line.add("  interrupted", style)
    below = [part for text in shape.warnings for part in warning(text, cells - _INDENT)]
    return [line.cut(cells), *(Text.of(" " * _INDENT).join(part) for part in below)]


def log(shape: LogLine, now: datetime, *, one: bool = False) -> Text:
    """A log line: time, level, message, fields; its execution and function unless all are of `one`. Only
    what is far beyond a line is cut.
    """
    moment = datetime.fromisoformat(shape.at).astimezone(now.tzinfo)
    line = Text.of((f"{clock(shape.at, now)}.{moment.microsecond // 1000:03d}  ", "dim"))
    line.add(f"{safe(shape.level):<5}", LEVELS.get(shape.level, "cyan")).add("  ")
    if not one:
        name = safe(shape.function or "-")
        line.add(short(shape.request_id), "yellow").add(f"  {name}{' ' * max(0, 12 - width(name))}  ", "dim")
    line.add(shortened(shape.message, MESSAGE))
    if shape.fields:
        line.add("  ").add(compact(shape.fields, FIELDS), "dim")
    return line
