"""What kind of SQL statement a function sends, told by its first words, so that the session knows how to
run it.

Postgres does the parsing; this recognises statements that need another way, and those that are refused
with a better word than Postgres has. Nothing is safe because of it: what a statement did to its
transaction is read from the protocol, and what it left on its connection is removed whatever it was.
"""

from __future__ import annotations

import enum
import re
from functools import lru_cache

# As Postgres' own lexer: its white space, a comment that ends at either kind of line end.
_SPACE = re.compile(r"(?:[ \t\n\r\f\v]+|--[^\n\r]*|;)+")
_WORD = re.compile(r"[A-Za-z_]+")
_SECOND = frozenset({"rollback", "abort", "create", "drop", "alter", "prepare"})
_CONTROL = frozenset({"begin", "start", "commit", "end", "abort"})
_ALONE = {
    "vacuum": frozenset({""}),
    "cluster": frozenset({""}),
    "call": frozenset({""}),
    "do": frozenset({""}),
    "create": frozenset({"database", "tablespace", "index", "unique", "subscription"}),
    "drop": frozenset({"database", "tablespace", "index", "subscription"}),
    "reindex": frozenset({""}),
    "alter": frozenset({"system", "database", "table", "type", "subscription"}),
}


class Kind(enum.Enum):
    """How a statement is to be run."""

    PLAIN = "plain"
    ALONE = "alone"
    """May not share its implicit transaction with anything: CALL and DO may COMMIT inside, VACUUM refuses a
    block."""
    CONTROL = "control"
    """Begins or ends a transaction."""
    SAVEPOINT = "savepoint"
    """SAVEPOINT, RELEASE, ROLLBACK TO."""
    COPY = "copy"


@lru_cache(maxsize=2048)
def classify(text: str) -> tuple[str, Kind]:
    """The first keyword (upper case), and how to run the statement."""
    first, second = _words(text)
    return first.upper(), _kind(first, second)


def _kind(first: str, second: str) -> Kind:
    if first == "copy":
        return Kind.COPY
    if first in {"savepoint", "release"} or (first == "rollback" and second == "to"):
        return Kind.SAVEPOINT
    if first in _CONTROL or first == "rollback" or (first == "prepare" and second == "transaction"):
        return Kind.CONTROL
    alone = _ALONE.get(first)
    if alone is not None and ("" in alone or second in alone):
        return Kind.ALONE
    return Kind.PLAIN


def _words(text: str) -> tuple[str, str]:
    first, at = _word(text, 0)
    if first not in _SECOND:
        return first, ""
    second, at = _word(text, at)
    if first == "rollback" and second in {"work", "transaction"}:
        second, at = _word(text, at)
    return first, second


def _word(text: str, at: int) -> tuple[str, int]:
    """The next word in lower case and where it ends, past space, comments and opening brackets."""
    while at < len(text):
        if space := _SPACE.match(text, at):
            at = space.end()
        elif text.startswith("/*", at):
            at = _comment_end(text, at)
        elif text[at] == "(":
            at += 1
        else:
            break
    word = _WORD.match(text, at)
    return (word[0].lower(), word.end()) if word else ("", at)


def _comment_end(text: str, at: int) -> int:
    """Where the comment that begins at `at` ends; Postgres' comments nest."""
    depth = 0
    for mark in re.compile(r"/\*|\*/").finditer(text, at):
        depth += 1 if mark[0] == "/*" else -1
        if depth == 0:
            return mark.end()
    return len(text)
