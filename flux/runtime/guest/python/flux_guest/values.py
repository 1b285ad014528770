"""Values between Python and the exact JSON that crosses to the host: arguments and outputs out, inputs and
rows in. What comes in is read: however deep it is, and however many digits a number has.

Out: Decimal, UUID and enum members as text, date and time in ISO 8601 (RFC 3339 where they know their
offset), bytes as {"$bytea": base64}, dataclasses as objects. NaN, infinities, sets and lone surrogates are
refused, with the place in the value. In: rows of the database get int, Decimal and bytes where their types
say so.
"""

import sys
from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping
from decimal import Decimal
from json import JSONDecoder, JSONEncoder
from typing import Any

from flux_guest import deep_json

DEEPEST = 2048
"""Levels of stack that json gets for itself where a value needs them: twice those of a request's body."""


class NotJSON(TypeError):
    """A value that JSON can't hold; the message names the place: `$.user.when`."""


class Row(dict):
    """A row of the database: its columns by name, in their order."""

    __slots__ = ()

    def __missing__(self, key: Any) -> Any:
        raise KeyError(f"no column {key!r}; there are: {', '.join(map(str, self))}")


class Rows(list):
    """Rows of one statement. `count` is the number of rows it returned or changed, `tag` the server's word
    (`UPDATE 3`).
    """

    __slots__ = ("count", "tag")

    def __init__(self, rows: Iterable[Row], count: int | None, tag: str | None) -> None:
        super().__init__(rows)
        self.count = count  # type: ignore[assignment, method-assign]
        self.tag = tag


def dumps(value: Any, what: str = "$") -> bytes:
    """`value` as JSON bytes.

    Raises:
        NotJSON: JSON can't hold it.
    """
    try:
        return _deep(_encode, value).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise NotJSON(_fault(value, what, ()) or f"{what}: {error}") from None


def parse(data: bytes) -> Any:
    """The Python value of JSON bytes.

    Raises:
        ValueError: it is not JSON; NaN and the infinities, which Python's json takes, are none either.
    """
    return _read(_decode, data)


def revived(data: bytes) -> Any:
    """The value of JSON that a function wrote: its bytes are bytes again.

    Raises:
        ValueError: it is not JSON.
    """
    return _read(_decode_bytes if b'"$bytea"' in data else _decode, data)


def install() -> None:
    """Let integers have as many digits as they have. Called once, before user code."""
    sys.set_int_max_str_digits(0)


def _read(decode: Any, data: bytes) -> Any:
    text = data.decode()
    try:
        return _deep(decode, text)
    except RecursionError:
        return deep_json.parse(text)


def _bytes_again(value: dict[str, Any]) -> Any:
    if len(value) == 1 and isinstance(value.get("$bytea"), str):
        try:
            return b64decode(value["$bytea"], validate=True)
        except ValueError:
            return value
    return value


def _deep(work: Any, value: Any) -> Any:
    """`work(value)`, nested as deeply as a body may be. json counts its levels on its caller's stack."""
    try:
        return work(value)
    except RecursionError:
        limit = sys.getrecursionlimit()
        sys.setrecursionlimit(limit + DEEPEST)
        try:
            return work(value)
        finally:
            sys.setrecursionlimit(limit)


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


_decode = JSONDecoder(parse_constant=_no_constant).decode
_decode_bytes = JSONDecoder(parse_constant=_no_constant, object_hook=_bytes_again).decode


def rows(data: bytes) -> Rows:
    """The rows of a database result."""
    document = parse(data)
    found = [Row(row) for row in document.get("rows") or ()]
    for column, kind in (document.get("types") or {}).items():
        cast = _cast(kind)
        if cast is not None:
            for row in found:
                row[column] = _apply(cast, row[column])
    return Rows(found, document.get("count"), document.get("tag"))


def _apply(cast: Any, value: Any) -> Any:
    if value is None:
        return None
    return [_apply(cast, item) for item in value] if type(value) is list else cast(value)


def _cast(kind: str) -> Any:
    kind = kind.removesuffix("[]")
    if kind == "int8":
        return int
    if kind == "numeric":
        return Decimal
    return _bytes if kind == "bytea" else None


def _bytes(value: Any) -> Any:
    return b64decode(value["$bytea"]) if type(value) is dict and "$bytea" in value else value


def _known(value: Any, module: str, *names: str) -> bool:
    """Whether `value` is of one of those classes; a module that nobody imported has no objects."""
    found = sys.modules.get(module)
    return found is not None and isinstance(value, tuple(getattr(found, name) for name in names))


def _plain(value: Any) -> Any:
    """What JSONEncoder can't do by itself."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return {"$bytea": b64encode(bytes(value)).decode("ascii")}
    if _known(value, "datetime", "date", "time"):
        return value.isoformat()
    if isinstance(value, Decimal) or _known(value, "uuid", "UUID"):
        return str(value)
    if _known(value, "enum", "Enum"):
        return value.value
    fields = getattr(type(value), "__dataclass_fields__", None)
    if fields is not None:
        return {name: getattr(value, name) for name in fields}
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} is not JSON")


_encode = JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_plain).encode
_LEAVES = (bool, int, type(None))


def _fault(value: Any, place: str, above: tuple[int, ...]) -> str | None:
    """Where `value` can't be JSON, and why; None if it can."""
    if isinstance(value, _LEAVES):
        return None
    if isinstance(value, str):
        return None if _is_text(value) else f"{place}: a string with a lone surrogate is not JSON"
    if isinstance(value, float):
        return None if value - value == 0 else f"{place}: {value} is not JSON"
    if id(value) in above:
        return f"{place}: the value contains itself"
    if len(above) > 500:
        return f"{place[:80]}...: nested too deeply"
    above = (*above, id(value))
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, (str, float, *_LEAVES)):
                return f"{place}: a key of type {type(key).__name__} is not JSON"
            if isinstance(key, str) and not _is_text(key):
                return f"{place}: a key with a lone surrogate is not JSON"
            at = f"{place}.{key}" if isinstance(key, str) and key.isidentifier() else f"{place}[{key!r}]"
            if (fault := _fault(item, at, above)) is not None:
                return fault
        return None
    if isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            if (fault := _fault(item, f"{place}[{index}]", above)) is not None:
                return fault
        return None
    try:
        plain = _plain(value)
    except TypeError as error:
        hint = "; sort it into a list" if isinstance(value, (set, frozenset)) else ""
        return f"{place}: {error}{hint}"
    return _fault(plain, place, above)


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
