"""What the operators of an expression do with two JSON values. None of them raises."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation

from flux.shapes.record import Json


def compare(left: Json, sign: str, right: Json) -> bool:
    """Two values by one of the signs; texts in the order of their code points."""
    if sign in ("=", "=="):
        return equal(left, right)
    if sign in ("!=", "<>"):
        return not equal(left, right)
    a, b = _as_number(left), _as_number(right)
    if a is None or b is None:
        if not isinstance(left, str) or not isinstance(right, str):
            return False
        return _ordered(left, sign, right)
    return _ordered(a, sign, b)


def _ordered(a: Decimal | str, sign: str, b: Decimal | str) -> bool:
    below, same = a < b, a == b  # type: ignore[operator]
    return {"<": below, "<=": below or same, ">": not below and not same, ">=": not below}[sign]


def equal(left: Json, right: Json) -> bool:
    """Numbers by their value, also where one stands as a decimal string."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, str) and isinstance(right, str):
        return left == right
    a, b = _as_number(left), _as_number(right)
    return bool(left == right) if a is None or b is None else a == b


def contains(left: Json, right: Json) -> bool:
    """A text in a text, an element in a list, a member in an object."""
    if isinstance(left, str):
        return isinstance(right, str) and right in left
    if isinstance(left, dict):
        return isinstance(right, str) and right in left
    return isinstance(left, list) and any(equal(each, right) for each in left)


def _as_number(value: Json) -> Decimal | None:
    """Numbers, and texts that are one: int8 and numeric stand in the record as decimal strings."""
    if isinstance(value, bool) or value is None or isinstance(value, list | dict):
        return None
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        return None
    return number if number.is_finite() else None
