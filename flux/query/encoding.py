"""Shapes as JSON text: what `--json` prints, what the HTTP API answers."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

import msgspec

_LONE = re.compile("[\ud800-\udfff]")
_ENCODER = msgspec.json.Encoder(decimal_format="number", enc_hook=str)


def to_json(document: Any, *, indent: int | None = None) -> str:
    """A shape, or a list or dict of them, as JSON.

    A Decimal is written as the number it is, half a surrogate pair as its escape. Never raises on what
    `payload` reads.

    Args:
        document: to write.
        indent: spaces for each level; 0: all on one line, spaces between; None: without any.
    """
    try:
        data = _ENCODER.encode(document)
    except (UnicodeEncodeError, OverflowError):
        plain = msgspec.to_builtins(document, builtin_types=(Decimal,), enc_hook=str)
        try:
            return _careful(plain, indent, 0)
        except RecursionError:
            # Deep values asked for from deep inside a program. Only decimals are told otherwise: as strings.
            return json.dumps(plain, indent=indent or None, default=str)
    return (data if indent is None else msgspec.json.format(data, indent=indent)).decode()


def _careful(value: Any, indent: int | None, depth: int) -> str:
    """What UTF-8 can't say, or what is beyond 64 bits, written all the same."""
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, Mapping):
        colon = ":" if indent is None else ": "
        members = (
            f"{_text(str(key))}{colon}{_careful(item, indent, depth + 1)}" for key, item in value.items()
        )
        return _between("{", members, "}", indent, depth)
    if isinstance(value, (list, tuple)):
        return _between("[", (_careful(item, indent, depth + 1) for item in value), "]", indent, depth)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return _ENCODER.encode(value).decode()


def _between(opening: str, members: Iterable[str], closing: str, indent: int | None, depth: int) -> str:
    parts = list(members)
    if not indent or not parts:
        return opening + ("," if indent is None else ", ").join(parts) + closing
    inner, outer = "\n" + " " * indent * (depth + 1), "\n" + " " * indent * depth
    return opening + inner + ("," + inner).join(parts) + outer + closing


def _text(value: str) -> str:
    return _LONE.sub(lambda half: f"\\u{ord(half[0]):04x}", json.dumps(value, ensure_ascii=False))
