"""What `flux replay` prints: one sentence; what differs, then and now beside each other; the line of code."""

from __future__ import annotations

from collections import Counter

from flux.cli.render.ansi import Text
from flux.cli.render.safe import safe, wrap
from flux.cli.render.values import compact, plural, shortened
from flux.shapes.replay import Divergence, Replayed, Replays

MOST = 20
"""Executions of a window that are listed; `--json` has all."""
ID = 8


def told(found: Replayed, cells: int) -> list[Text]:
    """One replay as lines."""
    name = found.replay_of[:ID] + (f" ({safe(found.function)})" if found.function else "")
    if found.refused is not None:
        text = f"{name} can't be replayed: {shortened(found.refused.message)}"
        return [Text.of((line, "yellow")) for line in wrap(text, cells)]
    if found.divergence is None:
        how = "identical"
        if found.prefix is not None:
            how = f"identical as far as its record goes ({found.prefix})"
        return [Text.of(("✓ ", "bold green"), f"{name} is {how}."), *_compare(found)]
    lines = [Text.of(("✗ ", "bold red"), f"{name} diverged: {shortened(found.divergence.message)}")]
    return [*lines, Text(), *_values(found.divergence, cells), *_compare(found)]


def window(found: Replays, cells: int) -> list[Text]:
    """What became of a window as lines: the counts, those that diverged, why others were refused."""
    if not found.results:
        return [Text.of("Nothing ran then.")]
    style = "bold red" if found.diverged else "bold green"
    head = f"{plural(found.replayed, 'execution')} replayed: {found.identical} identical"
    head += f", {found.diverged} diverged" if found.diverged else ""
    head += f"; {found.refused} refused" if found.refused else ""
    lines = [Text.of((f"{head}.", style))]
    diverged = [each for each in found.results if each.divergence is not None]
    for each in diverged[:MOST]:
        assert each.divergence is not None
        line = Text.of(("✗ ", "bold red"), f"{each.replay_of[:ID]} ", (safe(each.function or ""), "bold"))
        lines.append(line.add(f"  {shortened(each.divergence.message)}").add(_place(each.divergence), "dim"))
    if len(diverged) > MOST:
        lines.append(Text.of((f"  and {len(diverged) - MOST} more", "dim")))
    if diverged:
        lines.append(Text.of((f"  Look at one: flux replay {diverged[0].replay_of[:ID]}", "dim")))
    reasons = Counter(each.refused.type for each in found.results if each.refused is not None)
    for kind, count in reasons.most_common():
        first = next(each for each in found.results if each.refused is not None and each.refused.type == kind)
        assert first.refused is not None
        lines.append(Text.of((f"  {count} refused, {kind}: ", "yellow"), shortened(first.refused.message)))
    return [line.cut(cells) if line.width > 4 * cells else line for line in lines]


def _values(found: Divergence, cells: int) -> list[Text]:
    where = found.op if found.seq is None else f"#{found.seq} {found.op}"
    if found.field:
        where += f"  {safe(found.field)}"
    room = max(20, cells - 12)
    lines = [
        Text.of(("  ", ""), (where, "bold")),
        Text.of("  recorded  ", (compact(found.recorded, room), "green")),
        Text.of("  actual    ", (compact(found.actual, room), "red")),
    ]
    if found.file is not None:
        lines.append(Text.of("  at        ", (f"{safe(found.file)}:{found.line}", "cyan")))
        if found.source is not None:
            lines.append(Text.of("            ", (shortened(found.source.strip(), room), "dim")))
    return lines


def _compare(found: Replayed) -> list[Text]:
    if found.request_id is None:
        return []
    command = f"flux trace diff {found.replay_of[:ID]} {found.request_id[:ID]}"
    return [Text.of((f"  {command}", "dim"))] if found.divergence is not None else []


def _place(found: Divergence) -> str:
    return "" if found.file is None else f"  {safe(found.file)}:{found.line}"
