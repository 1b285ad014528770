"""How recorded bytes and database values are shown: JSON where they are JSON, else text, else base64. Used by
every shape.

Numbers keep what they say. A number that a reader of JSON would round (an id beyond 2^53, a long numeric) is
given as its decimal string; one that merely says more than a float does (`21.00`) is a Decimal, which is
written as the number it was. Nothing here raises on what stands in a table.
"""

from __future__ import annotations

import base64
import json
import re
from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

import asyncpg

_SAFE = 2**53
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:]|[^\s{}\[\],:"]+', re.S)
DEEPEST = 300
"""Levels of nesting that are shown as a value; what is deeper is shown as its text. Whoever walks a value
needs a frame or two for each level.
"""


def present(data: bytes | None) -> Any:
    """Exact recorded bytes as a JSON value.

    Returns:
        None where there are none (or zero bytes), the parsed value where they are JSON of at most DEEPEST
        levels, else a string where they are UTF-8, else `{"$bytea": base64}`.
    """
    if not data:
        return None
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return {"$bytea": base64.b64encode(data).decode("ascii")}
    return parse(text)


def parse(text: str | None) -> Any:
    """JSON text (a jsonb column) as a value, at most DEEPEST levels of it; SQL null is None. What is deeper,
    or is no JSON, stays text; of an object the members that are.
    """
    if text is None:
        return None
    value = _decoded(text)
    return _by_member(text) if value is text and text.lstrip().startswith("{") else value


def exact(text: str) -> Any:
    """Postgres' own JSON as a value in which every number is a Decimal: equal where Postgres says equal.

    Raises:
        ValueError: it is no JSON, or is nested too deeply.
    """
    try:
        return _EXACT.decode(text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def printable(value: Any) -> Any:
    """A value that asyncpg decoded as one that JSON can carry; bytea as base64, times as RFC 3339 with
    microseconds.
    """
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, int):
        return value if -_SAFE <= value <= _SAFE else str(value)
    if isinstance(value, float):
        return value if abs(value) < float("inf") else str(value)
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, datetime):
        return value.isoformat(timespec="microseconds")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, (bytes, bytearray, memoryview)):
        return {"$bytea": base64.b64encode(bytes(value)).decode("ascii")}
    if isinstance(value, (asyncpg.Record, dict)):
        return {str(key): printable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [printable(item) for item in value]
    return str(value)


def _decoded(text: str) -> Any:
    """The value; `text` itself where it is none, or is too deep."""
    try:
        value = _DECODER.decode(text)
    except (ValueError, RecursionError):
        return text
    return text if text.count("[") + text.count("{") > DEEPEST and _too_deep(value) else value


def _by_member(text: str) -> Any:
    """An object that is too deep as a whole, each member by itself; `text` where it is no object."""
    found: dict[str, Any] = {}
    depth, name, said, begin = 0, None, "", 0
    for token in _TOKEN.finditer(text):
        mark = token[0]
        if depth == 1 and mark in ",}" and name is not None:
            found[name] = _decoded(text[begin : token.start()].strip())
            name = None
        if mark in "{[":
            depth += 1
        elif mark in "}]":
            depth -= 1
            if depth == 0:
                return found if not text[token.end() :].strip() else text
        elif depth == 1 and mark == ":" and name is None:
            name, begin = _decoded(said), token.end()
            if not isinstance(name, str):
                return text
        else:
            said = mark
    return text


def _too_deep(value: Any) -> bool:
    level = [value]
    for _ in range(DEEPEST + 1):
        level = [
            member
            for outer in level
            if isinstance(outer, (list, dict))
            for member in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not level:
            return False
    return True


def _exact_int(digits: str) -> int | str:
    if len(digits) < 16:
        return int(digits)
    if len(digits) > 17:
        return digits
    number = int(digits)
    return number if -_SAFE <= number <= _SAFE else digits


def _exact_float(digits: str) -> float | Decimal | str:
    number = float(digits)
    if repr(number) == digits:
        return number
    try:
        exact = Decimal(digits)
        return exact if exact == Decimal(repr(number)) else digits
    except InvalidOperation:
        return digits


def _not_json(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


_EXACT = json.JSONDecoder(parse_float=Decimal, parse_int=Decimal, parse_constant=_not_json)
_DECODER = json.JSONDecoder(parse_float=_exact_float, parse_int=_exact_int, parse_constant=_not_json)
