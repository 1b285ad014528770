"""Which bytes are JSON that every guest reads alike: RFC 8259, with what it leaves open decided here.

Numbers lie within a double's range: beyond it JavaScript reads Infinity, and Python has a limit of digits.
DEEPEST levels are read. Of members with the same name the last counts. An escape may be half a surrogate
pair. Asked wherever a function's input comes from outside.
"""

from __future__ import annotations

from typing import Final

import orjson

from flux.record import half_pairs

DEEPEST: Final = 1024
"""Levels of arrays and objects (orjson's own limit)."""


class BadJSON(Exception):
    """What should be JSON is not; the text says what is wrong with it, and where."""


def check(data: bytes) -> None:
    """Make sure that `data` is JSON as said above. Raises nothing else, whatever the bytes are.

    Raises:
        BadJSON: with line and column of the first fault.
    """
    try:
        orjson.loads(data)
    except orjson.JSONDecodeError as error:
        _check_again(data, error)


def _check_again(data: bytes, first: orjson.JSONDecodeError) -> None:
    """Halves of pairs, which orjson refuses, are no fault; what else it says is one."""
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadJSON(f"not valid UTF-8: byte {error.start} is 0x{data[error.start]:02x}") from error
    mended = half_pairs.mend(data)
    fault = first
    if mended != data:
        try:
            orjson.loads(mended)
            return
        except orjson.JSONDecodeError as error:
            fault = error
    what = fault.msg.partition(":")[0]
    if "infinity" in what:
        what = "a number is out of range (a double's, 1.8e308)"
    elif "depth" in what:
        what = f"nested more than {DEEPEST:,} levels deep"
    raise BadJSON(f"not valid JSON: {what} at line {fault.lineno}, column {fault.colno}") from fault
