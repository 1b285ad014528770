"""Styled lines and the screen they go to. A small writer of its own: importing rich costs more than most
commands take.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TextIO

from flux.cli.render.safe import cut, width

_CODES = {
    "bold": "1",
    "dim": "2",
    "italic": "3",
    "underline": "4",
    "strike": "9",
    "red": "31",
    "green": "32",
    "yellow": "33",
    # Bright: the plain one can hardly be read on black, and both can on white.
    "blue": "94",
    "magenta": "35",
    "cyan": "36",
    # Not bright black, which some dark palettes make the background.
    "grey": "2",
}
PIPE_WIDTH = 110
NARROWEST = 60


@dataclass(slots=True)
class Text:
    """One line: parts with a style each (`"bold red"`; `""` is plain). What comes from records has gone
    through `safe`.
    """

    parts: list[tuple[str, str]] = field(default_factory=list)

    @classmethod
    def of(cls, *parts: str | tuple[str, str]) -> Text:
        """A line of plain strings and (string, style) pairs."""
        return cls([part if isinstance(part, tuple) else (part, "") for part in parts])

    def add(self, text: str, style: str = "") -> Text:
        """Append a part; returns the line itself."""
        if text:
            self.parts.append((text, style))
        return self

    def join(self, other: Text) -> Text:
        """Append another line's parts; returns the line itself."""
        self.parts.extend(other.parts)
        return self

    @property
    def width(self) -> int:
        """Cells it takes."""
        return sum(width(text) for text, _ in self.parts)

    @property
    def plain(self) -> str:
        """Its characters without styles."""
        return "".join(text for text, _ in self.parts)

    def cut(self, cells: int) -> Text:
        """At most `cells` cells of it, ending in … where something was left out."""
        if self.width <= cells:
            return self
        kept: list[tuple[str, str]] = []
        left = cells
        for text, style in self.parts:
            size = width(text)
            if size < left:
                kept.append((text, style))
                left -= size
                continue
            # Something always follows here, so the mark must fit as well.
            kept.append((cut(text + "  ", left), style))
            break
        return Text(kept)

    def pad(self, cells: int) -> Text:
        """Exactly `cells` cells of it."""
        short = self.cut(cells)
        missing = cells - short.width
        return Text([*short.parts, (" " * missing, "")]) if missing > 0 else short

    def restyle(self, style: str) -> Text:
        """The same characters in one style."""
        return Text([(text, style) for text, _ in self.parts])


@dataclass(frozen=True, slots=True)
class Screen:
    """Where lines go, and what it can show.

    Attributes:
        stream: written to.
        width: cells in a line.
        colour: whether styles are written.
        unicode: whether box drawing and arrows can be; ASCII stands in otherwise.
    """

    stream: TextIO
    width: int = PIPE_WIDTH
    colour: bool = False
    unicode: bool = True

    @classmethod
    def of(cls, stream: TextIO, environment: Mapping[str, str] | None = None) -> Screen:
        """What `stream` is: colour on a terminal unless NO_COLOR is set; its width, or COLUMNS, or a
        pipe's.
        """
        env = os.environ if environment is None else environment
        terminal = stream.isatty()
        colour = terminal and not env.get("NO_COLOR") and env.get("TERM") != "dumb"
        if env.get("FORCE_COLOR") and not env.get("NO_COLOR"):
            colour = True
        columns = env.get("COLUMNS", "")
        if columns.isdigit() and int(columns):
            cells = int(columns)
        else:
            cells = shutil.get_terminal_size((PIPE_WIDTH, 24)).columns if terminal else PIPE_WIDTH
        encoding = (getattr(stream, "encoding", None) or "utf-8").lower()
        return cls(stream, max(cells, NARROWEST), colour, "utf" in encoding)

    def print(self, *lines: Text) -> None:
        """Write lines, each cut at the screen's width on a terminal only: a pipe gets them whole."""
        self.write(lines)

    def write(self, lines: Iterable[Text]) -> None:
        """Write lines, each with its end."""
        self.stream.write("".join(self.render(line) + "\n" for line in lines))

    def render(self, line: Text) -> str:
        """A line as this screen wants its characters."""
        text = "".join(_styled(part, style) if self.colour else part for part, style in line.parts)
        if not self.colour:
            text = text.rstrip()
        return text if self.unicode else text.translate(_ASCII).encode("ascii", "backslashreplace").decode()


def _styled(text: str, style: str) -> str:
    if not style:
        return text
    return f"\x1b[{';'.join(_CODES[name] for name in style.split())}m{text}\x1b[0m"


_ASCII = str.maketrans(
    {
        **dict.fromkeys("│┃╎", "|"),
        **dict.fromkeys("├└╰╭╮╯┌┐┘┬┴┼", "+"),
        **dict.fromkeys("─━", "-"),
        **dict.fromkeys("█▉▊▋▌▍▎▏", "#"),
        "→": "->",
        "←": "<-",
        "…": "...",
        "·": "-",
        "✓": "ok",
        "✗": "x",
        "●": "*",
        "▲": "^",
        "×": "x",
        "⚠": "!",
        "↕": "%",
    }
)
