"""What kind of SQL statement a function sends, so that the session knows how to run it.

The first words tell. Postgres does the parsing; this only has to recognise statements that need
another way (or none) and those after which a connection may carry something over to its next user.
"""

from __future__ import annotations

import enum
import re
from functools import lru_cache

_SPACE = re.compile(r"(?:\s+|--[^\n]*(?:\n|$)|;)+")
_WORD = re.compile(r"[A-Za-z_]+")
_SECOND = frozenset({"rollback", "abort", "set", "create", "drop", "alter", "reindex", "prepare"})
_DML = frozenset(
    {"select", "insert", "update", "delete", "with", "merge", "values", "table", "explain", "show"}
)
_CLEAN = _DML | {
    "truncate",
    "comment",
    "analyze",
    "grant",
    "revoke",
    "refresh",
    "savepoint",
    "release",
    "notify",
}
_LEAVES = re.compile(
    r"set_config|advisory_(?:un)?lock|\btemp(?:orary)?\b|pg_temp|dblink|\blo_|setseed|\blisten\b|setval",
    re.IGNORECASE,
)
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
_FORGET = frozenset({"prepare", "deallocate", "discard", "execute", "load"})


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


class Residue(enum.IntEnum):
    """What a statement may leave on its connection."""

    NONE = 0
    SETTINGS = 1
    """Settings, listens, advisory locks, cursors, temporary tables: one reset query removes them."""
    STATEMENTS = 2
    """Prepared statements made or dropped behind the client's back: the connection must be closed."""


@lru_cache(maxsize=2048)
def classify(text: str) -> tuple[str, Kind, Residue]:
    """The first keyword (upper case), how to run the statement, and what it may leave behind.

    State that a user-defined function changes for the session (set_config with is_local false,
    session-level advisory locks) can't be seen from its caller's text and is left alone.
    """
    first, second = _words(text)
    return first.upper(), _kind(first, second), _residue(first, second, text)


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


def _residue(first: str, second: str, text: str) -> Residue:
    if first in _FORGET:
        return Residue.STATEMENTS
    if first == "set" and second in {"local", "transaction", "constraints"}:
        return Residue.NONE
    if first not in _CLEAN and not (first == "rollback" and second == "to"):
        return Residue.SETTINGS
    return Residue.SETTINGS if _LEAVES.search(text) else Residue.NONE


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
