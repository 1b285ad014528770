"""Single values as people read them: JSON on one line, durations, moments, sizes, SQL."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

from flux.cli.render.ansi import Text
from flux.cli.render.safe import cut, safe, width, wrap
from flux.query.encoding import to_json

PROSE = 2000
"""Cells of a message that are shown."""
_SLACK = 16
_SPACE = re.compile(r"\s+")
_UNITS = ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))


def compact(value: Any, cells: int = 80) -> str:
    """A value as JSON on one line; what doesn't fit into `cells` is cut and its whole size named."""
    return shortened(to_json(value, indent=0), cells)


def shortened(text: str, cells: int = PROSE) -> str:
    """A text made safe; what doesn't fit into `cells` is cut and its whole size named."""
    # Where there is far more than can be shown, the rest need not be looked at.
    head = text[: _SLACK * (cells + _SLACK)]
    shown = safe(head)
    if len(head) == len(text) and width(shown) <= cells:
        return shown
    mark = f"… {size(len((shown if len(head) == len(text) else text).encode('utf-8', 'replace')))}"
    return cut(shown, max(cells, len(mark) + 1), mark) if width(shown) > cells else shown + mark


def warning(text: str, cells: int) -> list[Text]:
    """What is to be known about an execution, behind a mark."""
    return [
        Text.of(("⚠ " if at == 0 else "  ", "bold yellow"), part)
        for at, part in enumerate(wrap(shortened(text), cells - 2))
    ]


def size(count: int) -> str:
    """Bytes for people: `812 B`, `1.2 KiB`."""
    for unit, name in _UNITS:
        if count >= unit:
            return f"{count / unit:.1f} {name}"
    return f"{count} B"


def duration(ms: float | None) -> str:
    """A duration in three digits: `840 µs`, `12.3 ms`, `1.20 s`, `2 min 5 s`."""
    if ms is None:
        return "?"
    if ms < 0.9995:
        return f"{ms * 1000:.0f} µs"
    if ms < 999.5:
        return f"{ms:.{2 if ms < 9.995 else 1 if ms < 99.95 else 0}f} ms"
    seconds = ms / 1000
    if seconds < 59.95:
        return f"{seconds:.{2 if seconds < 9.995 else 1}f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def clock(moment: str | None, now: datetime) -> str:
    """A moment in the zone of `now`: the time alone where it was today, the day before it otherwise."""
    if moment is None:
        return "-"
    local = datetime.fromisoformat(moment).astimezone(now.tzinfo)
    return f"{local:%H:%M:%S}" if local.date() == now.date() else f"{local:%Y-%m-%d %H:%M:%S}"


def ago(moment: str | None, now: datetime) -> str:
    """How long ago: `just now`, `40 s ago`, `3 min ago`, `2 days ago`."""
    if moment is None:
        return ""
    seconds = (now - datetime.fromisoformat(moment)).total_seconds()
    if seconds < 2:
        return "just now"
    for unit, name in ((86_400 * 2, "days"), (3600 * 2, "h"), (60 * 2, "min")):
        if seconds >= unit:
            return f"{seconds // (unit // 2):.0f} {name} ago"
    return f"{seconds:.0f} s ago"


def short(identity: str | None) -> str:
    """The first eight digits of an id."""
    return "-" if identity is None else identity[:8]


def sql(text: str) -> str:
    """SQL on one line, made safe."""
    return safe(_SPACE.sub(" ", text).strip())


def plural(count: int, noun: str) -> str:
    """`1 row`, `3 rows`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def status(code: int | None, outcome: str) -> Text:
    """How an execution ended: a mark and its status, in the colour of the outcome."""
    style = outcome_style(code, outcome)
    mark = "✓" if style == "green" else "✗" if style == "red" else "●"
    shown = outcome if code is None or outcome == "interrupted" else str(code)
    return Text.of((f"{mark} {shown}", f"bold {style}"))


def outcome_style(code: int | None, outcome: str) -> str:
    """Green for what went well, yellow for what was refused, red for what failed, magenta for what was cut
    off.
    """
    if outcome == "interrupted":
        return "magenta"
    if outcome == "error" or (code is not None and code >= 500):
        return "red"
    if outcome == "rejected" or (code is not None and code >= 400):
        return "yellow"
    return "green"
