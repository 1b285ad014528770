"""The house's styles in the program's two themes. A program that paints its background doesn't know the
terminal's own palette, so each name has a colour for dark and one for light.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from rich.style import Style
from rich.text import Text as RichText
from textual.theme import Theme

from flux.cli.render.ansi import Text

DARK = {
    "red": "#ff6b6b",
    "green": "#7bd88f",
    "yellow": "#e5c07b",
    "blue": "#6cb6ff",
    "magenta": "#d2a8ff",
    "cyan": "#56d4dd",
    "dim": "#8b949e",
    "grey": "#8b949e",
}
LIGHT = {
    "red": "#b3261e",
    "green": "#1a7f37",
    "yellow": "#855b00",
    "blue": "#0550ae",
    "magenta": "#7a3fc4",
    "cyan": "#0b6e76",
    "dim": "#59636e",
    "grey": "#59636e",
}
DARK_THEME = Theme("flux-dark", "#6cb6ff", background="#101418", foreground="#e6edf3", panel="#232b34")
LIGHT_THEME = Theme(
    "flux-light", "#0550ae", background="#ffffff", foreground="#1f2328", panel="#e4e9ee", dark=False
)
_DECORATIONS = {name: Style.parse(name) for name in ("bold", "italic", "underline", "strike")}
_PLAIN = Style()


def style(names: str, palette: Mapping[str, str]) -> Style:
    """The style that a part of a line has (`"bold red"`); the last colour named holds."""
    words = names.split()
    colours = [palette[word] for word in words if word in palette]
    shown = Style(color=colours[-1] if colours else None)
    for word in words:
        shown += _DECORATIONS.get(word, _PLAIN)
    return shown


def rich(lines: list[Text], palette: Mapping[str, str]) -> RichText:
    """Lines as Textual takes them. Their text is safe already; nothing in it is markup."""
    shown = RichText(no_wrap=True, overflow="crop")
    for at, line in enumerate(lines):
        if at:
            shown.append("\n")
        for text, names in line.parts:
            shown.append(text, style(names, palette))
    return shown


def is_light(environment: Mapping[str, str] | None = None) -> bool:
    """Whether the terminal says that its background is light (COLORFGBG, as some set it)."""
    env = os.environ if environment is None else environment
    background = env.get("COLORFGBG", "").rpartition(";")[2]
    return background in ("7", "15")
