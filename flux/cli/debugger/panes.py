"""What the panes show of a step: code, values, rows, logs. Pure: a step in, lines out."""

from __future__ import annotations

from typing import NamedTuple

from flux.cli.render.ansi import Text
from flux.cli.render.safe import safe
from flux.cli.render.step import WHOLE, sections
from flux.query import DebugStep, Steps

AROUND = 5
"""Lines of code before and after the current one."""
FOLDED = 12
"""Lines that one value takes, unless it is shown whole."""
TAB = 4


class Pane(NamedTuple):
    """One pane: its title and its lines; empty ones are not shown."""

    title: str
    lines: list[Text]


def code(steps: Steps, step: DebugStep, cells: int, *, expanded: bool) -> Pane:
    """The code around the current line, or the beginning of the function's file where no line is known.

    Args:
        steps: of the execution.
        step: the current one.
        cells: width of a line.
        expanded: the whole file.
    """
    where = step.location
    file = where.file if where is not None else steps.places.entry
    if file is None:
        return Pane("code", [Text.of(("the deployment's code is not stored", "dim"))])
    lines = steps.places.lines(file)
    current = where.line if where is not None else None
    how = "" if current is None or step.located == "error" else "  by its text"
    title = f"{safe(file)}{f':{current}' if current is not None else '  line not recorded'}{how}"
    if not lines:
        return Pane(title, [Text.of(("the deployment's bundle lacks this file", "dim"))])
    first, last = 1, len(lines)
    if not expanded:
        first = max(1, min((current or 1) - AROUND, len(lines) - 2 * AROUND))
        last = min(len(lines), first + 2 * AROUND)
    gutter = len(str(last))
    shown = []
    for number in range(first, last + 1):
        here = number == current
        line = Text.of(("▶ " if here else "  ", "bold yellow"), (f"{number:>{gutter}} ", "dim"))
        text = safe(lines[number - 1][: 4 * cells].replace("\t", " " * TAB))
        shown.append(line.add(text, "bold" if here else "").cut(cells))
    return Pane(title, shown)


def values(steps: Steps, step: DebugStep, cells: int, *, expanded: bool) -> dict[str, Pane]:
    """Input, output, error, rows and logs by their names; those that the step has."""
    most = WHOLE if expanded else FOLDED
    return {name: Pane(name, lines) for name, lines in sections(steps.document, step, cells, most)}
