"""The project's schema files, `schema/*.sql`: finding them, and taking one apart into statements with
their lines.

Pure; used by flux.data.schema_files.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from itertools import pairwise
from pathlib import Path

from flux.errors import StoreError

_TOKEN = re.compile(
    r"""
    (?P<comment>--[^\n\r]*)
  | (?P<block>/\*)
  | (?P<escape>\b[eE]'(?:[^'\\]|\\.|'')*')
  | (?P<string>'(?:[^']|'')*')
  | (?P<name>"(?:[^"]|"")*")
  | (?P<dollar>(?<![\w$])\$(?P<tag>[A-Za-z_\x80-\U0010ffff][\w]*)?\$)
  | (?P<word>[A-Za-z_][\w$]*)
  | (?P<meta>^[ \t]*\\[^\n]*)
  | (?P<bracket>[()])
  | (?P<end>;)
    """,
    re.VERBOSE | re.DOTALL | re.MULTILINE,
)
_REST_OF_LINE = re.compile(r"[ \t]*(?:--[^\n]*)?\r?(?:\n|$)")
_END_OF_DATA = re.compile(r"^\\\.\r?$", re.MULTILINE)
_ATOMIC = re.compile(r"\bBEGIN\s+ATOMIC\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class SchemaFile:
    """One file: its name (they apply in its order), its text, and the sha256 of its bytes in hex."""

    name: str
    text: str
    sha256: str


class Stream(Enum):
    """What a COPY talks to besides the server's own files."""

    IN = "from stdin"
    OUT = "to stdout"


@dataclass(frozen=True, slots=True)
class Statement:
    """One SQL statement of a file and the 1-based line it begins on.

    `stream` is set of `COPY .. FROM stdin` and `COPY .. TO stdout`. `data` holds the lines that follow the
    former, up to `\\.`, and `data_line` says where they begin. `meta`: not SQL but a command of psql's.
    """

    text: str
    line: int
    stream: Stream | None = None
    data: str = ""
    data_line: int = 0
    meta: bool = False


def read(folder: Path) -> list[SchemaFile]:
    """The schema files of a folder in order of their names; none where the folder is missing.

    Raises:
        StoreError: a file is not UTF-8.
    """
    found: list[SchemaFile] = []
    for path in sorted(folder.glob("*.sql"), key=lambda path: path.name):
        data = path.read_bytes()
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise StoreError(
                f"{path}: not UTF-8 at byte {error.start}.", "Save the file as UTF-8."
            ) from error
        found.append(SchemaFile(path.name, text, hashlib.sha256(data).hexdigest()))
    return found


def statements(text: str) -> Iterator[Statement]:
    """The statements of SQL text, split at semicolons outside of quotes, comments and BEGIN ATOMIC bodies.

    As in a dump, `COPY .. FROM stdin;` takes the lines after it with it, and lines of psql's (`\\connect`)
    stand alone.
    """
    start = position = 0
    depth = 0
    begun: int | None = None
    atomic = False
    words: list[str] = []
    while (match := _TOKEN.search(text, position)) is not None:
        kind = match.lastgroup if match.lastgroup != "tag" else "dollar"
        if begun is None:
            begun = _first_code(text, start, match.start())
        position = match.end()
        if kind in ("comment", "block"):
            if kind == "block":
                position = _end_of_block(text, match.start())
            if begun is None:
                start = position
            continue
        if kind == "meta":
            if begun is None:
                yield Statement(match[0].strip(), _line(text, match.start()), meta=True)
                start = position
            continue
        if begun is None and kind != "end":
            begun = match.start()
        if kind == "dollar":
            close = text.find(match[0], match.end())
            position = len(text) if close < 0 else close + len(match[0])
        elif kind == "bracket":
            words.append(match[0])
        elif kind == "word":
            word = match[0].upper()
            words.append(word)
            if word == "BEGIN" and _ATOMIC.match(text, match.start()):
                atomic, depth = True, 1
            elif atomic and word == "CASE":
                depth += 1
            elif atomic and word == "END":
                depth -= 1
                atomic = depth > 0
        elif kind == "end" and not atomic:
            if begun is not None:
                said, line, stream = text[begun : match.start()], _line(text, begun), _stream(words)
                if stream is Stream.IN:
                    first, last, position = _data(text, position)
                    yield Statement(said, line, stream, text[first:last], _line(text, first))
                else:
                    yield Statement(said, line, stream)
            start, begun, words = position, None, []
    if begun is None:
        begun = _first_code(text, max(start, position), len(text))
    if begun is not None and text[begun:].strip():
        yield Statement(text[begun:], _line(text, begun), _stream(words))


def _stream(words: list[str]) -> Stream | None:
    """Whether a statement of these words and brackets is a COPY that talks to its client."""
    if words[:1] != ["COPY"]:
        return None
    depth = 0
    for word, following in pairwise(words):
        depth += (word == "(") - (word == ")")
        if depth == 0 and word == "FROM" and following == "STDIN":
            return Stream.IN
        if depth == 0 and word == "TO" and following == "STDOUT":
            return Stream.OUT
    return None


def _data(text: str, position: int) -> tuple[int, int, int]:
    """Where the lines of data behind a `COPY .. FROM stdin;` begin and end, and where SQL goes on."""
    line = _REST_OF_LINE.match(text, position)
    if line is None:  # SQL on the same line: no data
        return position, position, position
    end = _END_OF_DATA.search(text, line.end())
    if end is None:
        return line.end(), len(text), len(text)
    return line.end(), end.start(), end.end()


def _first_code(text: str, start: int, end: int) -> int | None:
    for index in range(start, end):
        if not text[index].isspace():
            return index
    return None


def _end_of_block(text: str, start: int) -> int:
    depth, position = 0, start
    while (match := re.compile(r"/\*|\*/").search(text, position)) is not None:
        depth += 1 if match[0] == "/*" else -1
        position = match.end()
        if depth == 0:
            return position
    return len(text)


def _line(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1
