"""JSON of any depth, read without recursion. Used where Python's own reader runs out of stack: Postgres holds
values that are nested deeper.
"""

import re
from json.decoder import scanstring  # type: ignore[attr-defined]
from typing import Any

_SPACE = re.compile(r"[ \t\n\r]*")
_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(\.\d+)?([eE][-+]?\d+)?")
_WORDS = {"t": ("true", True), "f": ("false", False), "n": ("null", None)}
_MISSING: Any = object()


def parse(text: str) -> Any:
    """The value of JSON text.

    Raises:
        ValueError: it is not JSON.
    """
    stack: list[tuple[Any, str | None]] = []
    at = _skip(text, 0)
    while True:
        mark = text[at : at + 1]
        value: Any = _MISSING
        if mark == "[":
            at = _skip(text, at + 1)
            if text[at : at + 1] != "]":
                stack.append(([], None))
                continue
            value, at = [], at + 1
        elif mark == "{":
            at = _skip(text, at + 1)
            if text[at : at + 1] != "}":
                key, at = _key(text, at)
                stack.append(({}, key))
                continue
            value, at = {}, at + 1
        else:
            value, at = _scalar(text, at)
        while stack:
            held, key = stack[-1]  # type: ignore[assignment]
            if key is None:
                held.append(value)
            else:
                held[key] = value
            at = _skip(text, at)
            mark = text[at : at + 1]
            if mark == ",":
                at = _skip(text, at + 1)
                if key is not None:
                    key, at = _key(text, at)
                    stack[-1] = (held, key)
                break
            if mark != ("]" if key is None else "}"):
                raise ValueError(f"a comma or an end is missing at character {at}")
            value, at = held, at + 1
            stack.pop()
        else:
            if _skip(text, at) != len(text):
                raise ValueError(f"more follows the value at character {at}")
            return value


def _skip(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return found.end() if found else at


def _key(text: str, at: int) -> tuple[str, int]:
    if text[at : at + 1] != '"':
        raise ValueError(f"a member's name is missing at character {at}")
    key, at = scanstring(text, at + 1, True)
    at = _skip(text, at)
    if text[at : at + 1] != ":":
        raise ValueError(f"a colon is missing at character {at}")
    return key, _skip(text, at + 1)


def _scalar(text: str, at: int) -> tuple[Any, int]:
    mark = text[at : at + 1]
    if mark == '"':
        value: tuple[str, int] = scanstring(text, at + 1, True)
        return value
    word, meant = _WORDS.get(mark, ("", None))
    if word and text.startswith(word, at):
        return meant, at + len(word)
    number = _NUMBER.match(text, at)
    if number is None:
        raise ValueError(f"no value at character {at}")
    whole = number[1] is None and number[2] is None
    return (int if whole else float)(number[0]), number.end()
