"""Text from records, made fit for a terminal: nothing in a payload may move the cursor, change colours or
reverse the line.

Also how wide text is and how it is cut. Used by everything that is printed.
"""

from __future__ import annotations

import re
import unicodedata

_RISKY = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb\ud800-\udfff]"
)
_NAMED = {"\n": "\\n", "\r": "\\r", "\t": "\\t", "\x1b": "\\e"}


def safe(text: str) -> str:
    """`text` on one line, each character that a terminal would obey, or not show, as an escape."""
    if text.isascii() and text.isprintable():
        return text
    return _RISKY.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    character = match[0]
    if character == "\u200d":
        # Joins emoji into one; harmless by itself.
        return character
    if character in _NAMED:
        return _NAMED[character]
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def width(text: str) -> int:
    """Terminal cells that `text` takes: wide East Asian characters and emoji two, combining marks none."""
    if text.isascii():
        return len(text)
    return sum(_cells(character) for character in text)


def cut(text: str, cells: int, mark: str = "…") -> str:
    """`text` in at most `cells` cells, ending in `mark` where something was left out."""
    if width(text) <= cells:
        return text
    room = cells - width(mark)
    if room < 0:
        return ""
    taken, used = 0, 0
    for character in text:
        used += _cells(character)
        if used > room:
            break
        taken += 1
    return text[:taken] + mark


def wrap(text: str, cells: int) -> list[str]:
    """`text` broken between words into lines of at most `cells`; a longer word is broken within."""
    lines: list[str] = []
    line = ""
    for whole in text.split():
        word = whole
        while word:
            if width(line) + bool(line) + width(word) <= cells:
                line = f"{line} {word}" if line else word
                word = ""
            elif line:
                lines.append(line)
                line = ""
            else:
                piece = cut(word, cells, "") or word[:1]
                lines.append(piece)
                word = word[len(piece) :]
    return [*lines, line] if line else lines or [""]


def _cells(character: str) -> int:
    if character < "\u0300":
        return 1
    if character in ("\u200d", "\ufe0f") or unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
