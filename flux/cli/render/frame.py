"""A few lines of source with a caret under the place, as compilers show them."""

from __future__ import annotations

from flux.cli.render.ansi import Text
from flux.cli.render.safe import cut, safe, width
from flux.cli.render.values import shortened
from flux.shapes.why import Location

TAB = 4


def frame(location: Location, cells: int, label: str = "") -> list[Text]:
    """The lines of a why shape's `location`: where, the source around it, a caret with `label` behind it."""
    place = ":".join(
        str(part) for part in (location.file, location.line, location.column) if part is not None
    )
    context = location.context
    gutter = len(str(context[-1].line)) if context else 1
    lines = [Text.of((f"{'':{gutter}}--> ", "bold blue"), (shortened(place, 500), "cyan"))]
    if not context:
        return lines
    lines.append(Text.of((f"{'':{gutter}} │", "blue")))
    room = cells - gutter - 3
    for row in context:
        here = row.line == location.line
        text = _spread(row.text)
        style = "" if here else "dim"
        lines.append(
            Text.of((f"{row.line:>{gutter}} │ ", "bold blue" if here else "blue"), (cut(text, room), style))
        )
        if here:
            lines.append(_caret(row.text, location.column, gutter, room, label))
    lines.append(Text.of((f"{'':{gutter}} │", "blue")))
    return lines


def _caret(source: str, column: int | None, gutter: int, room: int, label: str) -> Text:
    """`^` under the column (1-based), stretched over the word that stands there; without one, under the whole
    line.
    """
    line = Text.of((f"{'':{gutter}} │ ", "blue"))
    if column is None or column < 1 or column > len(source) + 1:
        indent = width(_spread(source[: len(source) - len(source.lstrip())]))
        length = width(_spread(source.strip()))
    else:
        indent = width(_spread(source[: column - 1]))
        word = 0
        while column - 1 + word < len(source) and (
            source[column - 1 + word].isalnum() or source[column - 1 + word] in "_$"
        ):
            word += 1
        length = max(1, word)
    if indent >= room:
        return line.add("(further right)", "red")
    line.add(" " * indent).add("^" * max(1, min(length, room - indent)), "bold red")
    return line.add(f" {safe(label)}", "red").cut(room + gutter + 3) if label else line


def _spread(text: str) -> str:
    """Source made safe, its tabs as spaces."""
    return safe(text.replace("\t", " " * TAB))
