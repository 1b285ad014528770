"""What stands over the program for a moment: the keys, and who wrote the rows."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text as RichText
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static


class Page(ModalScreen[None]):
    """A titled page; Escape, Enter, q, or the key that opened it, close it.

    Args:
        title: above it.
        text: on it.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        ("escape,enter,q,o,question_mark,space", "app.pop_screen", "close"),
    ]

    def __init__(self, title: str, text: RichText) -> None:
        super().__init__()
        self._title = title
        self._text = text

    def compose(self) -> ComposeResult:
        """One box in the middle."""
        with VerticalScroll(id="page") as box:
            box.border_title = self._title
            box.border_subtitle = "escape closes"
            yield Static(self._text)
