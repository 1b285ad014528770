"""Quoting of SQL identifiers: the one way a name may enter SQL text. Called wherever one is built."""

from __future__ import annotations


def quote(name: str) -> str:
    """An identifier in double quotes, embedded quotes doubled, so that it means exactly `name`.

    Args:
        name: one name (a schema-qualified one is two calls joined by a dot).

    Raises:
        ValueError: the name is empty or holds a NUL, which no Postgres identifier can.
    """
    if not name or "\0" in name:
        raise ValueError(f"not an SQL identifier: {name!r}")
    return '"' + name.replace('"', '""') + '"'
