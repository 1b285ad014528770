"""Rows that changed, one line each, as a diff: `+` inserted, `~` updated with old and new, `-` deleted."""

from __future__ import annotations

from typing import Any

from flux.cli.render.ansi import Text
from flux.cli.render.safe import safe
from flux.cli.render.values import compact
from flux.shapes.record import Mutation

_MARKS = {
    "INSERT": ("+", "green"),
    "UPDATE": ("~", "yellow"),
    "DELETE": ("-", "red"),
    "TRUNCATE": ("-", "red"),
}
VALUE = 40
"""Cells that one value takes at most."""
_WHOLE = 10**9


def change(mutation: Mutation, cells: int, *, full: bool = False) -> Text:
    """A mutation in at most `cells` cells, or, in `full`, in as many as it takes; one that was rolled back is
    struck through and says so.
    """
    mark, style = _MARKS.get(mutation.op, ("?", "yellow"))
    line = Text.of((f"{mark} ", f"bold {style}"), (safe(mutation.table), "bold"))
    if mutation.key:
        line.add(" ").add(key(mutation.key), "bold")
    if mutation.op == "TRUNCATE":
        line.add("  truncated", style)
    line.join(_columns(mutation, _WHOLE if full else VALUE))
    suffix = Text()
    if mutation.not_recorded:
        suffix.add(f"  and {mutation.not_recorded:,} more rows", "dim")
    if mutation.rolled_back:
        suffix.add("  rolled back", "red")
        line = line.restyle("dim strike")
    return (line if full else line.cut(max(cells - suffix.width, 20))).join(suffix)


def key(value: Any) -> str:
    """A row's key: the bare value of a one-column key, else `order_id=7,line=2`."""
    if not isinstance(value, dict):
        return compact(value, VALUE)
    if len(value) == 1:
        return _bare(next(iter(value.values())))
    return ",".join(f"{safe(str(name))}={_bare(part)}" for name, part in value.items())


def _columns(mutation: Mutation, value_cells: int) -> Text:
    before, after, keys = (
        image if isinstance(image, dict) else {} for image in (mutation.before, mutation.after, mutation.key)
    )
    line = Text()
    if mutation.op == "UPDATE":
        for name in mutation.changed:
            line.add(f"  {safe(name)} ", "dim")
            line.add(compact(before.get(name), value_cells), "red").add(" → ", "dim")
            line.add(compact(after.get(name), value_cells), "green")
        return line if mutation.changed else line.add("  nothing changed", "dim")
    for name, value in (after or before).items():
        if name not in keys and value is not None:
            line.add(f"  {safe(name)} ", "dim").add(compact(value, value_cells))
    return line


def _bare(value: Any) -> str:
    return safe(value) if isinstance(value, str) else compact(value, VALUE)
