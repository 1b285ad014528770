"""A tree with durations and time bars beside it: what `flux trace` shows at a glance."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from flux.cli.render import calls
from flux.cli.render.ansi import Text
from flux.cli.render.changes import change
from flux.cli.render.tree import Node
from flux.cli.render.values import duration, plural
from flux.shapes.record import CallFailure

SAME = 5
"""Siblings of one family from which on most are folded."""
SHOWN = 3
"""How many of a folded family are shown."""
SIBLINGS = 60
"""Lines under one node before the middle is folded."""
CHANGES = 8
"""Changed rows shown under one call."""
_DURATION = 9
_EIGHTHS = " ▏▎▍▌▋▊▉█"


def waterfall(root: Node, cells: int, *, full: bool = False) -> list[Text]:
    """The lines of a tree.

    Args:
        root: of the tree; its own start is the left edge of the bars.
        cells: width of a line.
        full: True folds nothing and shows changed values whole.
    """
    bars = max(12, min(36, cells // 4))
    layout = _Layout(cells, bars, root.start_ms, max(root.end_ms - root.start_ms, 1e-6), full)
    return [*layout.lines(root, "", "")]


class _Layout:
    def __init__(self, cells: int, bars: int, start_ms: float, total_ms: float, full: bool) -> None:
        self._cells = cells
        self._bars = bars
        self._start = start_ms
        self._total = total_ms
        self._full = full

    def lines(self, node: Node, stem: str, branch: str) -> Iterator[Text]:
        """A node's line, what it says besides, and its children's. `stem` goes before each, `branch` before
        its own.
        """
        yield self._line(node, stem + branch)
        below = stem if not branch else stem + ("│  " if branch.startswith("├") else "   ")
        rows = self._rows(node)
        inner = self._stem(below + ("│ " if rows else "  "))
        room = self._cells - len(inner) - 2
        if node.error is not None and not _told_below(node, node.error):
            for line in calls.failure(node.error, room):
                yield Text.of((f"{inner}  ", "dim")).join(line)
        shown = node.changes if self._full else node.changes[:CHANGES]
        for mutation in shown:
            yield Text.of((f"{inner}  ", "dim")).join(change(mutation, room, full=self._full))
        if len(node.changes) > len(shown):
            more = len(node.changes) - len(shown)
            yield Text.of((f"{inner}  … {plural(more, 'more row')} changed", "dim"))
        for at, row in enumerate(rows):
            twig = "└─ " if at == len(rows) - 1 else "├─ "
            if isinstance(row, Node):
                yield from self.lines(row, below, twig)
            else:
                yield Text.of((self._stem(below + twig), "dim")).join(row)

    def _stem(self, stem: str) -> str:
        """What stands before a label; deep down only its end, so that the label has room."""
        most = (self._cells - self._bars - _DURATION) // 2
        return stem if len(stem) <= most else "…" + stem[len(stem) - most + 1 :]

    def _line(self, node: Node, prefix: str) -> Text:
        left = self._cells - self._bars - _DURATION - 3
        line = Text.of((self._stem(prefix), "dim")).join(node.label)
        line = line.cut(max(left - node.suffix.width, left // 2)).join(node.suffix).pad(left)
        took = duration(node.duration_ms) if node.duration_ms is not None else ""
        style = "red" if node.error is not None else ""
        return line.add(f" {took:>{_DURATION}}  ", style).join(self._bar(node))

    def _bar(self, node: Node) -> Text:
        if node.apart:
            return Text()
        scale = self._bars / self._total
        begin = min(max(node.start_ms - self._start, 0.0) * scale, self._bars - 0.125)
        first = int(begin)
        if node.duration_ms is None:
            return Text.of((" " * first, ""), ("·", node.style))
        eighths = max(1, round((begin - first + node.duration_ms * scale) * 8))
        full, part = divmod(min(eighths, (self._bars - first) * 8), 8)
        style = "red" if node.error is not None else node.style
        return Text.of((" " * first, ""), ("█" * full + _EIGHTHS[part].strip(), style))

    def _rows(self, node: Node) -> list[Node | Text]:
        """A node's children with the many alike, and the too many, folded."""
        if self._full:
            return list(node.children)
        rows: list[Node | Text] = []
        run: list[Node] = []
        for child in [*node.children, None]:
            if child is not None and run and child.family and child.family == run[0].family:
                run.append(child)
                continue
            rows.extend(_folded(run))
            run = [] if child is None else [child]
        if len(rows) <= SIBLINGS:
            return rows
        head, tail = rows[: SIBLINGS - 10], rows[-5:]
        middle = rows[SIBLINGS - 10 : -5]
        failed = [row for row in middle if isinstance(row, Node) and row.failed][:10]
        hidden = [row for row in middle if row not in failed]
        kinds = Counter(row.family.partition("\0")[0] or "span" for row in hidden if isinstance(row, Node))
        named = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(4))
        return [
            *head,
            *failed,
            Text.of((f"… {len(hidden):,} more ({named}); --full shows all", "dim")),
            *tail,
        ]


def _told_below(node: Node, error: CallFailure) -> bool:
    """Whether something below a failed span says what the span itself can: the same error, or more than a
    bare status.
    """
    stack = list(node.children)
    while stack:
        below = stack.pop()
        stack.extend(below.children)
        if below.error is not None and (below.error.type == error.type or not error.message):
            return True
    return False


def _folded(run: list[Node]) -> list[Node | Text]:
    if len(run) < SAME:
        return list(run)
    shown = run[:SHOWN]
    hidden = run[SHOWN:]
    failed = [node for node in hidden if node.failed][:SHOWN]
    rest = [node for node in hidden if not any(node is other for other in failed)]
    took = sum(node.duration_ms or 0.0 for node in rest)
    changed = sum(len(node.changes) for node in rest)
    note = f"… {len(rest):,} more like it"
    if took:
        note += f", {duration(took)} in all"
    if changed:
        note += f", {plural(changed, 'row')} changed"
    return [*shown, *failed, Text.of((note, "yellow" if len(rest) >= 10 else "dim"))]
