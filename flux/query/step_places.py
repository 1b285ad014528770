"""Which line of the deployed code a step stands on.

The record names a line for errors only. For a call, a log line and a span the line is looked for in the code
that ran: it is the one line that holds what was asked for (its SQL, its URL, its name). Where several lines
hold it, or none, no line is named.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Iterator
from typing import Any

from flux.query.source import AROUND, LONGEST_LINE, locate
from flux.record import ops
from flux.shapes.record import Failure, HostCall, LogLine
from flux.shapes.why import Location, SourceLine

ENTRIES = ("index.ts", "index.js", "main.py")
SHORTEST = 4
"""Characters that a text must have before the line that holds it is looked for."""
LARGEST = 1 << 20
"""Bytes of a file that is looked through."""
_CODE = (".ts", ".tsx", ".mts", ".js", ".jsx", ".mjs", ".py")
_QUOTES = "\"'`"

_OPENS = {
    ops.DB_QUERY: ("query(",),
    ops.DB_SQL: ("sql(", "fetch(", "fetchrow(", "fetchval(", "execute("),
    ops.FETCH: ("fetch(", ".get(", ".post(", ".put(", ".patch(", ".delete(", ".request("),
}
"""What stands at the beginning of a call whose text goes on below."""
_BACK = 8
"""Lines above a text in which its call may begin."""
_NEAR = 3
"""Lines between a query's table and its operation."""

Fits = Callable[[list[str], int], bool]
"""Whether a line fits: the file's lines, and its index."""


class Places:
    """The code of one deployment.

    Args:
        bundle: its tar, or None where it is not stored.
        function: the function's name: its entry file is known by it.
    """

    def __init__(self, bundle: bytes | None, function: str | None) -> None:
        self._bundle = bundle
        self._files = dict(_code(bundle)) if bundle else {}
        names = [f"functions/{function}/{entry}" for entry in ENTRIES]
        self.entry = next((name for name in names if name in self._files), None)
        """The function's own file; None where the bundle lacks it."""

    def lines(self, file: str) -> list[str]:
        """A file's lines; empty where the bundle lacks it."""
        return self._files.get(file, [])

    def of_error(self, error: Failure | None) -> Location | None:
        """Where an error was thrown."""
        return locate(error, self._bundle)

    def of_call(self, call: HostCall) -> Location | None:
        """The one line that can have made a call."""
        asked = call.arguments if isinstance(call.arguments, dict) else {}
        found = self._only(_asks(call.op, asked))
        opens = _OPENS.get(call.op)
        if found is None or found.line is None or opens is None:
            return found
        lines = self._files[found.file]
        for line in range(found.line, max(0, found.line - _BACK), -1):
            if any(word in lines[line - 1] for word in opens):
                return self._location(found.file, line)
        return found

    def of_log(self, line: LogLine) -> Location | None:
        """The one line that holds what was logged."""
        text = line.message.strip().partition("\n")[0]
        return self._only([_holds(text)] if len(text) >= SHORTEST else [])

    def of_span(self, name: str) -> Location | None:
        """The one line that begins a span of this name."""
        return self._only([_quotes(name, "span")])

    def _only(self, wanted: list[Fits]) -> Location | None:
        """The line for which the first of `wanted` holds that holds for exactly one."""
        for fits in wanted:
            found = [
                (file, number)
                for file, lines in self._files.items()
                for number in range(1, len(lines) + 1)
                if fits(lines, number - 1)
            ]
            if len(found) == 1:
                return self._location(*found[0])
        return None

    def _location(self, file: str, line: int) -> Location:
        lines = self._files[file]
        first, last = max(1, line - AROUND), min(len(lines), line + AROUND)
        return Location(
            file=file,
            line=line,
            column=None,
            source=lines[line - 1][:LONGEST_LINE],
            context=[SourceLine(n, lines[n - 1][:LONGEST_LINE]) for n in range(first, last + 1)],
        )


def _asks(op: str, asked: dict[str, Any]) -> list[Fits]:
    """What a line must hold to be the one that made a call, the most telling first."""
    match op:
        case ops.DB_SQL:
            return [_holds(text) for text in _telling(asked.get("text"))]
        case ops.DB_QUERY:
            table, operation = str(asked.get("table") or ""), str(asked.get("operation") or "select")
            return [_quotes(table, operation), _near(table, operation), _quotes(table, "")] if table else []
        case ops.DB_BEGIN:
            return [_holds(".transaction(")]
        case ops.FETCH:
            url = str(asked.get("url") or "").partition("?")[0]
            path = "/" + url.partition("://")[2].partition("/")[2]
            return [_holds(part) for part in (url, path) if len(part) >= SHORTEST]
        case ops.QUEUE_PUSH:
            return [_quotes(str(asked.get("name") or ""), "push")]
        case ops.INVOKE:
            return [_quotes(str(asked.get("name") or ""), "invoke")]
        case ops.SECRETS_GET:
            return [_quotes(str(asked.get("key") or ""), "secrets")]
        case ops.SLEEP:
            return [_holds("ctx.sleep(")]
    return []


def _telling(sql: Any) -> list[str]:
    """The lines of an SQL text that tell it from others, the whole of a short one first."""
    lines = [line.strip() for line in str(sql or "").splitlines()]
    return [line for line in lines if len(line) >= 2 * SHORTEST][:20]


def _holds(text: str) -> Fits:
    return lambda lines, at: text in lines[at]


def _quotes(name: str, word: str) -> Fits:
    """Whether a line holds a name in quotes, and a word anywhere."""
    quoted = [f"{quote}{name}{quote}" for quote in _QUOTES]
    return lambda lines, at: bool(name) and word in lines[at] and any(each in lines[at] for each in quoted)


def _near(table: str, operation: str) -> Fits:
    """Whether a line holds a table in quotes, and one close to it an operation in quotes."""
    holds, does = _quotes(table, ""), _quotes(operation, "")

    def fits(lines: list[str], at: int) -> bool:
        around = range(max(0, at - _NEAR), min(len(lines), at + _NEAR + 1))
        return holds(lines, at) and any(does(lines, other) for other in around)

    return fits


def _code(bundle: bytes) -> Iterator[tuple[str, list[str]]]:
    """The code files of a bundle, each with its name in the project and its lines."""
    try:
        with tarfile.open(fileobj=io.BytesIO(bundle)) as tar:
            for member in tar:
                if not member.isfile() or member.size > LARGEST or not member.name.endswith(_CODE):
                    continue
                content = tar.extractfile(member)
                if content is not None:
                    name = member.name.removeprefix("./").removeprefix("functions/")
                    yield f"functions/{name}", content.read().decode("utf-8", "replace").splitlines()
    except tarfile.TarError:
        return
