"""The tree on the left: one line a step, what happened within another indented, the current one marked.

It paints the lines that are seen and no others, so a hundred thousand steps cost what forty do.
"""

from __future__ import annotations

from collections.abc import Mapping

from rich.segment import Segment
from textual import events
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from flux.cli.debugger.colours import DARK, style
from flux.cli.render.ansi import Text
from flux.cli.render.step import label
from flux.query import HostCall, LogLine, Span, Steps

DEEPEST = 6
"""Levels that are indented."""


class StepList(ScrollView, can_focus=True):
    """The steps, one of them current.

    Args:
        steps: to show.
    """

    class Chosen(Message):
        """A step was clicked on."""

        def __init__(self, number: int) -> None:
            super().__init__()
            self.number = number

    def __init__(self, steps: Steps) -> None:
        super().__init__(id="steps")
        self._steps = steps
        self._depths = _depths(steps)
        self._digits = len(str(len(steps)))
        self.current = 1
        self.palette: Mapping[str, str] = DARK

    def on_mount(self) -> None:
        """Know how long the list is."""
        self.virtual_size = Size(1, len(self._steps))

    def show(self, number: int) -> None:
        """Mark a step and have it in sight."""
        self.current = number
        self.scroll_to_region(Region(0, number - 1, 1, 1), animate=False)
        self.refresh()

    def render_line(self, y: int) -> Strip:
        """One line, as the screen asks for it."""
        cells = self.size.width
        index = y + self.scroll_offset.y
        if index >= len(self._steps.moments):
            return Strip.blank(cells, self.rich_style)
        here = index + 1 == self.current
        failed = self._steps.moments[index].failed
        line = Text.of(("▶" if here else " ", "bold yellow"), ("✗" if failed else " ", "bold red"))
        line.add(f"{index + 1:>{self._digits}} ", "dim").add("  " * self._depths[index])
        line.join(label(self._steps.document, self._steps.moments[index]))
        base = self.rich_style
        if here:
            base = base + self.get_component_rich_style("step-list--current", partial=True)
        segments = [Segment(text, base + style(names, self.palette)) for text, names in line.cut(cells).parts]
        return Strip(segments).adjust_cell_length(cells, base)

    def on_click(self, event: events.Click) -> None:
        """Go to the step under the mouse."""
        number = event.y + self.scroll_offset.y + 1
        if number <= len(self._steps):
            self.post_message(self.Chosen(number))

    COMPONENT_CLASSES = {"step-list--current"}  # noqa: RUF012 - Textual's way to declare them


def _depths(steps: Steps) -> list[int]:
    """How far each step is indented: one level for each span of the function it lies in, and one within a
    transaction.
    """
    own = {moment.what.span_id: moment.what for moment in steps.moments if isinstance(moment.what, Span)}
    depths: list[int] = []
    for moment in steps.moments:
        what = moment.what
        depth = 1 if isinstance(what, HostCall) and what.tx is not None else 0
        above = what.span_id if isinstance(what, LogLine) else what.parent_span_id if what else None
        while above in own and depth < DEEPEST:
            depth += 1
            above = own[above].parent_span_id
        depths.append(depth)
    return depths
