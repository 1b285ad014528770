"""Values between Postgres, JSON and asyncpg: exact both ways.

Rows become JSON bytes that a guest reads as they are; parameters come as JSON and become what the
prepared statement's types want. Codecs are binary throughout, so arrays, composites and ranges of
them work too, and no session setting (TimeZone, DateStyle, extra_float_digits) can change what a
value looks like. flux.data.connection installs the codecs on each connection.

int8 and numeric are decimal strings; timestamptz is RFC 3339 with microseconds; bytea is {"$bytea":
base64}; json and jsonb go through as the text Postgres holds, unparsed; NaN and the infinities are
strings; ranges are text; composites are objects.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
import struct
from collections.abc import Callable, Iterable, Sequence
from datetime import time
from decimal import Decimal
from typing import Any

import asyncpg
import msgspec
import orjson
from asyncpg.types import BitString, Path, Range

from flux.data import temporal

NAMED_TYPES = frozenset({"int8", "numeric", "timestamptz", "timestamp", "date", "bytea", "uuid"})
"""Types whose JSON is not their natural form; a result names its columns of these."""

_INT8 = struct.Struct(">q")
_FLOAT8 = struct.Struct(">d")
_FLOAT4 = struct.Struct(">f")
_WHOLE = re.compile(r"\s*[+-]?[0-9]+\s*")
_NUMBER = re.compile(
    r"\s*[+-]?(?:[0-9]+\.?[0-9]*(?:e[+-]?[0-9]+)?|\.[0-9]+(?:e[+-]?[0-9]+)?|inf(?:inity)?|nan)\s*", re.I
)
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[\]{},]', re.DOTALL)
_DIGITS = 20
"""More than any of Postgres' integers has."""
_RANGE = re.compile(
    r'\s*(empty|([\[(])\s*("(?:[^"\\]|\\.|"")*"|[^,"]*),\s*("(?:[^"\\]|\\.|"")*"|[^\])"]*)([\])]))\s*', re.I
)
_INTEGERS = frozenset({"int2", "int4", "oid", "xid", "cid", "xid8"})


class _List(list[Any]):
    """A JSON array that remembers its text, for a json or jsonb parameter. `deep`: nested beyond what can be
    taken apart; it is empty then."""

    __slots__ = ("deep", "text")
    text: bytes
    deep: bool


class _Dict(dict[str, Any]):
    """A JSON object that remembers its text; `deep` as an array's."""

    __slots__ = ("deep", "text")
    text: bytes
    deep: bool


_decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(float_hook=Decimal)


def parameter(raw: msgspec.Raw) -> Any:
    """One JSON value as a parameter: a scalar (numbers exact: int or Decimal), or a list or dict that keeps
    its text. An integer of more digits than Python reads is a Decimal. A document that is nested deeper than
    Python's stack is kept as text alone."""
    data = bytes(raw)
    deep = False
    try:
        value = _decoder.decode(data)
    except msgspec.ValidationError:  # an integer of thousands of digits
        value, deep = _long_numbers(data)
    except RecursionError:
        value, deep = _unread(data), True
    if isinstance(value, list):
        array = _List(value)
        array.text, array.deep = data, deep
        return array
    if isinstance(value, dict):
        members = _Dict(value)
        members.text, members.deep = data, deep
        return members
    return value


def _long_numbers(data: bytes) -> tuple[Any, bool]:
    try:
        return json.loads(data, parse_int=Decimal, parse_float=Decimal), False
    except RecursionError:
        return _unread(data), True


def _unread(data: bytes) -> list[Any] | dict[str, Any]:
    return [] if data.lstrip().startswith(b"[") else {}


def elements(data: bytes) -> list[bytes]:
    """The members of a JSON array, or the `"name": value` pairs of an object, each as its exact text, however
    deep they are nested. `data` must be well formed."""
    found: list[bytes] = []
    depth = 0
    begun = 0
    for token in _TOKEN.finditer(data):
        mark = token[0]
        if mark in (b"[", b"{"):
            depth += 1
            if depth == 1:
                begun = token.end()
        elif (mark == b"," and depth == 1) or (mark in (b"]", b"}") and depth == 1):
            if part := data[begun : token.start()].strip():
                found.append(part)
            begun = token.end()
        if mark in (b"]", b"}"):
            depth -= 1
    return found


def rows_json(rows: Sequence[asyncpg.Record], columns: Sequence[str], **more: object) -> bytes:
    """`{"rows": [...], ...more}` as JSON bytes."""
    document = {"rows": [dict(zip(columns, row, strict=True)) for row in rows], **more}
    return orjson.dumps(document, default=_plain)


def unique_names(names: Iterable[str]) -> tuple[str, ...]:
    """Column names with repeated ones told apart: the second `id` is `id_2`, so that no value is lost in an
    object."""
    given: list[str] = list(names)
    if len(set(given)) == len(given):
        return tuple(given)
    taken, out = set(given), list[str]()
    seen: set[str] = set()
    for name in given:
        unique, count = name, 1
        while unique in seen or (count > 1 and unique in taken):
            count += 1
            unique = f"{name}_{count}"
        seen.add(unique)
        out.append(unique)
    return tuple(out)


async def install_codecs(connection: asyncpg.Connection) -> None:
    """Make `connection` read and write values as above. Costs no round trip: every type is a built-in one."""
    for name, encoder, decoder, form in _CODECS:
        await connection.set_type_codec(
            name, schema="pg_catalog", encoder=encoder, decoder=decoder, format=form
        )


class Unfit(ValueError):
    """Parameter `number` (from 1) can't become what its type wants."""

    def __init__(self, number: int, reason: str) -> None:
        super().__init__(reason)
        self.number = number


def needs_coercion(values: Sequence[Any]) -> bool:
    """There is a fraction among them, which asyncpg would cut to fit an integer, or an array that may hold
    one."""
    return any(
        isinstance(value, Decimal | _List) or (isinstance(value, _Dict) and value.deep) for value in values
    )


def coerce(values: Sequence[Any], types: Sequence[Any]) -> list[Any]:
    """`values` as asyncpg's own codecs take them, where JSON could not say it: `"7"` for int4, text for
    ranges and bits.

    What needs no coercion is left as it is.

    Args:
        values: parameters as `parameter` made them.
        types: asyncpg.Type of each, as prepared.

    Raises:
        Unfit: a value can't be what its type wants.
    """
    coerced = list(values)
    for at, (value, kind) in enumerate(zip(values, types, strict=False)):
        try:
            coerced[at] = _coerced(value, kind.name.removesuffix("[]"), kind.kind)
        except ValueError as error:
            raise Unfit(at + 1, str(error)) from None
        except RecursionError:
            raise Unfit(at + 1, "it is nested too deeply") from None
    return coerced


def _coerced(value: Any, name: str, kind: str) -> Any:
    if isinstance(value, _List | _Dict) and value.deep:
        if name in {"json", "jsonb"} and kind != "array":
            return value
        raise ValueError("it is nested too deeply")
    if name.strip("_") in {"json", "jsonb"}:
        # Each element is one document, arrays too: bytes, so that asyncpg takes none for another dimension.
        many = isinstance(value, list) and kind == "array"
        return [None if item is None else _json_text(item) for item in value] if many else value
    if isinstance(value, list):
        element = name.removeprefix("_") if kind == "array" or name.startswith("_") else name
        return [_coerced(item, element, "scalar") for item in value]
    if name in _INTEGERS:
        return _whole_or_same(value)
    if isinstance(value, str):
        if name in {"bit", "varbit"} and not set(value) - {"0", "1"}:
            return _bits(value)
        if name == "bool" and value in {"true", "false"}:
            return value == "true"
        if kind == "multirange" or name.endswith("multirange"):
            return [_range(match[0], name) for match in _RANGE.finditer(value.strip().strip("{}"))]
        if kind == "range" or name.endswith("range"):
            return _range(value, name)
    return value


def _bits(text: str) -> BitString:
    make: Any = BitString  # its stub wants bytes, it takes text
    bits: BitString = make(text)
    return bits


def _range(text: str, name: str) -> Any:
    match = _RANGE.fullmatch(text.strip().strip(","))
    if match is None:
        raise ValueError("expected a range such as `[1,10)`")
    if match[1].lower() == "empty":
        return Range(empty=True)
    lower, upper = (_bound(part, name) for part in (match[3], match[4]))
    return Range(lower, upper, lower_inc=match[2] == "[", upper_inc=match[5] == "]")


def _bound(text: str, name: str) -> Any:
    if text.startswith('"'):
        text = re.sub(r'\\(.)|""', lambda m: m[1] or '"', text[1:-1])
    elif not text.strip():
        return None
    return _whole_or_same(text) if name.startswith("int4") else text


def _whole_or_same(value: Any) -> Any:
    if isinstance(value, str) and _WHOLE.fullmatch(value):
        if len(value.strip().lstrip("+-0")) > _DIGITS:
            raise ValueError("the number is out of range")
        return int(value)
    if isinstance(value, Decimal):
        if not value.is_finite() or value != value.to_integral_value():
            raise ValueError("expected a whole number")
        if value.adjusted() >= _DIGITS:  # int() would write out 1e99999999
            raise ValueError("the number is out of range")
        return int(value)
    return value


def _plain(value: object) -> object:
    """What orjson can't write by itself, as something it can."""
    if isinstance(value, Decimal):
        return str(value) if not value.is_finite() else format(value, "f")
    if isinstance(value, asyncpg.Record):
        return dict(value.items())
    if isinstance(value, Range):
        return _range_text(value)
    if isinstance(value, BitString):
        return value.as_string().replace(" ", "")
    if isinstance(value, Path):
        return [tuple(point) for point in value.points]
    if isinstance(value, time):
        return value.isoformat()
    if isinstance(value, tuple):
        return tuple(value)
    if isinstance(value, bytes):
        return _bytea_json(value)
    return str(value)


def _range_text(value: Range[Any]) -> str:
    if value.isempty:
        return "empty"
    lower, upper = ("" if bound is None else _bound_text(bound) for bound in (value.lower, value.upper))
    return f"{'[' if value.lower_inc else '('}{lower},{upper}{']' if value.upper_inc else ')'}"


def _bound_text(bound: object) -> str:
    text = format(bound, "f") if isinstance(bound, Decimal) and bound.is_finite() else str(bound)
    if text and not re.search(r'[\s"\\,()\[\]]', text):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _read_int8(data: bytes) -> str:
    return str(_INT8.unpack(data)[0])


def _write_int8(value: object) -> bytes:
    number = _integer(value)
    try:
        return _INT8.pack(number)
    except struct.error as error:
        raise ValueError("the number is out of range for int8") from error


def _integer(value: object) -> int:
    whole = _whole_or_same(value)
    if isinstance(whole, int) and not isinstance(whole, bool):
        return whole
    raise ValueError("expected a whole number or a string of its digits")


def _read_float8(data: bytes) -> float | str:
    number: float = _FLOAT8.unpack(data)[0]
    return number if math.isfinite(number) else _infinite(number)


def _read_float4(data: bytes) -> float | str:
    number: float = _FLOAT4.unpack(data)[0]
    if not math.isfinite(number):
        return _infinite(number)
    for digits in range(6, 9):  # the shortest text that reads back as the same float4
        short = float(f"{number:.{digits}g}")
        if _FLOAT4.pack(short) == data:
            return short
    return float(f"{number:.9g}")


def _infinite(number: float) -> str:
    return "NaN" if math.isnan(number) else "Infinity" if number > 0 else "-Infinity"


def _float_writer(form: struct.Struct) -> Callable[[object], bytes]:
    def write(value: object) -> bytes:
        if isinstance(value, bool) or not isinstance(value, int | float | Decimal | str):
            raise ValueError("expected a number")
        if isinstance(value, str) and not _NUMBER.fullmatch(value):
            raise ValueError("expected a number")
        try:
            number = float(value)
            if math.isinf(number) and Decimal(value).is_finite():
                raise ValueError("the number is out of range for a float")
            return form.pack(number)
        except OverflowError as error:
            raise ValueError("the number is out of range for a float") from error

    return write


def _bytea_json(data: bytes) -> dict[str, str]:
    return {"$bytea": base64.b64encode(data).decode("ascii")}


def _write_bytea(value: object) -> bytes:
    if isinstance(value, bytes | bytearray):
        return bytes(value)
    if isinstance(value, dict) and value.keys() == {"$bytea"} and isinstance(value["$bytea"], str):
        try:
            return base64.b64decode(value["$bytea"], validate=True)
        except binascii.Error as error:
            raise ValueError("$bytea is not base64") from error
    raise ValueError('expected bytes as {"$bytea": "<base64>"}')


def _exact(value: object) -> object:
    if isinstance(value, Decimal):
        return orjson.Fragment(str(value))
    if isinstance(value, int):
        return orjson.Fragment(str(value))
    raise TypeError(f"{type(value).__name__} is not JSON")


def _json_text(value: object) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, _Dict | _List):
        return value.text
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value).encode()
    return orjson.dumps(value, default=_exact)


def _read_json(data: bytes) -> orjson.Fragment:
    return orjson.Fragment(data)


def _read_jsonb(data: bytes) -> orjson.Fragment:
    return orjson.Fragment(data[1:])


def _write_jsonb(value: object) -> bytes:
    return b"\x01" + _json_text(value)


_CODECS: tuple[tuple[str, Callable[[Any], Any], Callable[[Any], Any], str], ...] = (
    ("int8", _write_int8, _read_int8, "binary"),
    ("float8", _float_writer(_FLOAT8), _read_float8, "binary"),
    ("float4", _float_writer(_FLOAT4), _read_float4, "binary"),
    ("bytea", _write_bytea, _bytea_json, "binary"),
    ("json", _json_text, _read_json, "binary"),
    ("jsonb", _write_jsonb, _read_jsonb, "binary"),
    ("timestamptz", temporal.parse_timestamptz, temporal.timestamptz_text, "tuple"),
    ("timestamp", temporal.parse_timestamp, temporal.timestamp_text, "tuple"),
    ("date", temporal.parse_date, temporal.date_text, "tuple"),
    ("time", temporal.parse_time, temporal.time_text, "tuple"),
    ("timetz", temporal.parse_timetz, temporal.timetz_text, "tuple"),
    ("interval", temporal.parse_interval, temporal.interval_text, "tuple"),
)
