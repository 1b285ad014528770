"""Rows of a query as an aligned table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from flux.cli.render.ansi import Text
from flux.cli.render.safe import cut, safe, width
from flux.cli.render.values import plural
from flux.query.encoding import to_json

NARROWEST = 8
WIDEST = 60
_NUMBERS = {"int2", "int4", "int8", "float4", "float8", "numeric", "oid"}


def table(
    columns: Sequence[str], types: Sequence[str], rows: Sequence[Mapping[str, Any]], cells: int | None
) -> list[Text]:
    """A header, a rule and the rows; columns share `cells`, or take what they need where it is None (a
    pipe).
    """
    if not columns:
        return [Text.of(("no columns", "dim"))]
    shown = [[_cell(row[name]) for name in columns] for row in rows]
    headers = [safe(name) for name in columns]
    needs = [max([width(header), *(width(row[at]) for row in shown)]) for at, header in enumerate(headers)]
    widths = needs if cells is None else _shares(needs, cells - 2 * (len(columns) - 1))
    right = [kind in _NUMBERS for kind in types]
    lines = [
        _line(headers, widths, right, "bold"),
        Text.of(("  ".join("─" * size for size in widths), "dim")),
    ]
    for row, record in zip(shown, rows, strict=True):
        styles = ["dim" if record[name] is None else "" for name in columns]
        lines.append(_line(row, widths, right, *styles))
    lines.append(Text.of((plural(len(rows), "row"), "dim")))
    return lines


def _cell(value: object) -> str:
    if value is None:
        return "null"
    return safe(value) if isinstance(value, str) else safe(to_json(value, indent=0))


def _line(values: Sequence[str], widths: Sequence[int], right: Sequence[bool], *styles: str) -> Text:
    line = Text()
    for at, value in enumerate(values):
        text = cut(value, widths[at])
        space = " " * (widths[at] - width(text))
        style = styles[at] if len(styles) > 1 else styles[0]
        line.add("  " if at else "").add(space if right[at] else "").add(text, style)
        line.add("" if right[at] else space)
    return line


def _shares(needs: Sequence[int], room: int) -> list[int]:
    """Widths within `room`: what fits stays whole, the widest give way first."""
    widths = [min(need, max(WIDEST, room // max(1, len(needs)))) for need in needs]
    while sum(widths) > room and max(widths) > NARROWEST:
        widest = max(range(len(widths)), key=widths.__getitem__)
        others = sum(widths) - widths[widest]
        next_widest = max([size for at, size in enumerate(widths) if at != widest], default=0)
        widths[widest] = max(NARROWEST, room - others, min(widths[widest] - 1, next_widest))
    return widths
