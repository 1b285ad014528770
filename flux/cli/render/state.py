"""The pages of `flux state history` and `flux state blame`."""

from __future__ import annotations

from datetime import datetime

from flux.cli.render.ansi import Text
from flux.cli.render.changes import change
from flux.cli.render.safe import cut, safe, width
from flux.cli.render.values import ago, clock, compact, plural, short
from flux.shapes.record import Blame, ColumnBlame, Mutation


def history_page(table: str, key: str, mutations: list[Mutation], cells: int, now: datetime) -> list[Text]:
    """A row's mutations, oldest first."""
    undone = sum(1 for mutation in mutations if mutation.rolled_back)
    counted = plural(len(mutations) - undone, "change") + (f", {undone} rolled back" if undone else "")
    lines = [Text.of((f"{safe(table)} {safe(key)}", "bold"), (f"  {counted}", "dim"))]
    if not mutations:
        lines.append(Text.of(("  no change is recorded: the row is as it was before capture began", "dim")))
    for mutation in mutations:
        head = Text.of((f"{clock(mutation.at, now)}  ", "dim")).join(_author(mutation)).add("  ")
        lines.append(head.join(change(mutation, max(cells - head.width, 30))))
    return lines


def blame_page(table: str, key: str, columns: Blame, cells: int, now: datetime) -> list[Text]:
    """Each column with its value and who set it; beneath it an attempt that was rolled back since."""
    lines = [Text.of((f"{safe(table)} {safe(key)}", "bold"))]
    if any(entry.op in ("DELETE", "TRUNCATE") for entry in columns.values()):
        lines[0].add("  the row is gone", "red")
    names = min(max((width(safe(name)) for name in columns), default=0), 30)
    setters = {name: _setter(entry, now) for name, entry in columns.items()}
    room = cells - names - 6 - max((setter.width for setter in setters.values()), default=0)
    room = max(20, min(48, room))
    for name, entry in columns.items():
        value = _fit(compact(entry.value, room), room)
        line = Text.of((f"  {_fit(safe(name), names)}  ", "dim"), (value, "bold"), ("  ", ""))
        lines.append(line.join(setters[name]))
        attempt = entry.rolled_back_attempt
        if attempt is not None:
            tried = Text.of(
                (f"  {'':{names}}  ", ""), (_fit(compact(attempt.value, room), room), "dim strike")
            )
            tried.add("  ").add(short(attempt.request_id), "yellow")
            lines.append(tried.add(f"  {clock(attempt.at, now)}", "dim").add("  rolled back", "red"))
    return [line.cut(cells) for line in lines]


def _setter(entry: ColumnBlame, now: datetime) -> Text:
    """Who set a column, and when."""
    if entry.before_capture:
        return Text.of(("not by any recorded change", "dim"))
    return _author(entry).add(f"  {clock(entry.at, now)}  {ago(entry.at, now)}", "dim")


def _author(entry: ColumnBlame | Mutation) -> Text:
    """The execution that did it, or who did it outside of Flux."""
    if entry.request_id is not None:
        return Text.of((short(entry.request_id), "yellow"))
    program = f" ({safe(entry.application_name)})" if entry.application_name else ""
    return Text.of((f"{safe(entry.actor or 'unknown')}{program}", "magenta"))


def _fit(text: str, cells: int) -> str:
    short_text = cut(text, cells)
    return short_text + " " * (cells - width(short_text))
