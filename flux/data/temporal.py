"""Postgres' times as text and back, exact to the microsecond and over the whole range Postgres has.

Works on the integers of the wire (microseconds or days since 2000-01-01), so neither the session's
TimeZone and DateStyle nor the limits of Python's datetime (years 1 to 9999) can change a value.
flux.data.values registers these as codecs.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from typing import TypeVar

_DAY = 86_400_000_000
_EPOCH_ORDINAL = date(2000, 1, 1).toordinal()
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_FIRST_DAY, _LAST_DAY = date.min.toordinal() - _EPOCH_ORDINAL, date.max.toordinal() - _EPOCH_ORDINAL
_STAMP_INFINITY = (2**63 - 1, -(2**63))
_DATE_INFINITY = (2**31 - 1, -(2**31))

_DATE = re.compile(r"([+-]?\d{4,7})-(\d{1,2})-(\d{1,2})(\s*BC)?", re.IGNORECASE)
_CLOCK = re.compile(
    r"(\d{1,2}):(\d{2})(?::(\d{2})(?:[.,](\d+))?)?\s*(Z|[+-]\d{1,2}(?::?\d{2}(?::?\d{2})?)?)?", re.I
)
_STAMP = re.compile(r"([+-]?\d{4,7}-\d{1,2}-\d{1,2})(?:[T ]+(.*?))?(\s*BC)?", re.IGNORECASE)
_LONG_FRACTION = re.compile(r"[.,](\d{7,})")
_NUMBER = re.compile(r"([+-]?)(\d*)(\.\d*)?")
_UNIT = re.compile(r"[a-zµ]+", re.IGNORECASE)
_SPAN = re.compile(r"([+-]?)(\d+):(\d{1,2})(?::(\d{1,2}))?(\.\d*)?")
_YEAR_MONTH = re.compile(r"([+-]?)(\d+)-(\d+)(?![\d.])")
_ISO = re.compile(
    r"(-)?P(?:([^YMWDT]+)Y)?(?:([^YMWDT]+)M)?(?:([^YMWDT]+)W)?(?:([^YMWDT]+)D)?"
    r"(?:T(?:([^HMS]+)H)?(?:([^HMS]+)M)?(?:([^HMS]+)S)?)?"
)
_ISO_UNITS = ("year", "month", "week", "day", "hour", "minute", "second")
_UNITS = {
    "microsecond": "us usec usecs usecond useconds microsecon microsecs µs",
    "millisecond": "ms msec msecs msecond mseconds millisecon millisecs",
    "second": "s sec secs",
    "minute": "m min mins",
    "hour": "h hr hrs",
    "day": "d",
    "week": "w",
    "month": "mon mons",
    "year": "y yr yrs",
    "decade": "dec decs",
    "century": "c cent centuries",
    "millennium": "mil mils millennia",
}
_NAMES = {word: unit for unit, others in _UNITS.items() for word in (unit, f"{unit}s", *others.split())}
_MICROS = {
    "hour": 3_600_000_000,
    "minute": 60_000_000,
    "second": 1_000_000,
    "millisecond": 1000,
    "microsecond": 1,
}
_YEARS = {"year": 1, "decade": 10, "century": 100, "millennium": 1000}
_DAYS_OF_MONTH = 30
_N = TypeVar("_N", int, float)
_EXPECTED = "expected an interval such as `1 day 02:00:00` or P1DT2H"


def date_text(value: tuple[int]) -> str:
    """Days since 2000-01-01 as `YYYY-MM-DD` (`infinity`, `-infinity`, ` BC` behind years before 1)."""
    days = value[0]
    if _FIRST_DAY <= days <= _LAST_DAY:
        return date.fromordinal(days + _EPOCH_ORDINAL).isoformat()
    if days in _DATE_INFINITY:
        return "infinity" if days > 0 else "-infinity"
    year, month, day = _civil(days)
    return f"{year:04d}-{month:02d}-{day:02d}" if year > 0 else f"{1 - year:04d}-{month:02d}-{day:02d} BC"


def timestamp_text(value: tuple[int]) -> str:
    """Microseconds since 2000-01-01 as `YYYY-MM-DDTHH:MM:SS.ffffff`."""
    return _stamp(value[0], "")


def timestamptz_text(value: tuple[int]) -> str:
    """Microseconds since 2000-01-01 UTC as RFC 3339 with microseconds, `+00:00`."""
    return _stamp(value[0], "+00:00")


def time_text(value: tuple[int]) -> str:
    """Microseconds since midnight as `HH:MM:SS`, with `.ffffff` where they are not zero."""
    return _clock(value[0])


def timetz_text(value: tuple[int, int]) -> str:
    """As time_text, with the offset behind it; the wire counts seconds west of UTC."""
    micros, west = value
    sign, seconds = ("-", west) if west > 0 else ("+", -west)
    text = f"{_clock(micros)}{sign}{seconds // 3600:02d}:{seconds // 60 % 60:02d}"
    return f"{text}:{seconds % 60:02d}" if seconds % 60 else text


def interval_text(value: tuple[int, int, int]) -> str:
    """Months, days, microseconds as Postgres writes an interval: `1 year 2 mons 3 days 04:05:06.5`."""
    months, days, micros = value
    if value == (2**31 - 1, 2**31 - 1, 2**63 - 1):
        return "infinity"
    if value == (-(2**31), -(2**31), -(2**63)):
        return "-infinity"
    years, months = (
        abs(months) // 12 * (1 if months > 0 else -1),
        abs(months) % 12 * (1 if months > 0 else -1),
    )
    parts = [
        f"{n} {unit}{'' if n == 1 else 's'}"
        for n, unit in ((years, "year"), (months, "mon"), (days, "day"))
        if n
    ]
    if micros or not parts:
        clock = _clock(abs(micros))
        fraction = clock.rstrip("0").rstrip(".") if "." in clock else clock
        after_negative = bool(parts) and parts[-1].startswith("-")
        parts.append(("-" if micros < 0 else "+" if after_negative else "") + fraction)
    return " ".join(parts)


def parse_date(value: object) -> tuple[int]:
    """The wire's days of `YYYY-MM-DD`, of a full timestamp's date, or of `infinity`.

    Raises:
        ValueError: it is none of these.
    """
    text = _text(value, "a date such as 2024-12-31").strip()
    if infinite := _infinite(text, _DATE_INFINITY):
        return infinite
    match = _STAMP.fullmatch(text)
    if match is None:
        raise ValueError("expected a date such as 2024-12-31")
    return (_days(match[1] + (match[3] or "")),)


def parse_timestamp(value: object) -> tuple[int]:
    """The wire's microseconds of an ISO 8601 timestamp; an offset is dropped, as Postgres does for
    `timestamp`.

    Raises:
        ValueError: it is not one.
    """
    return _parse_stamp(value, keep_offset=False)


def parse_timestamptz(value: object) -> tuple[int]:
    """The wire's microseconds of an ISO 8601 timestamp; without an offset it is UTC.

    Raises:
        ValueError: it is not one.
    """
    return _parse_stamp(value, keep_offset=True)


def parse_time(value: object) -> tuple[int]:
    """The wire's microseconds of `HH:MM[:SS[.ffffff]]`.

    Raises:
        ValueError: it is not one.
    """
    return (_parse_clock(_text(value, "a time such as 23:59:59").strip())[0],)


def parse_timetz(value: object) -> tuple[int, int]:
    """The wire's microseconds and seconds west of UTC of `HH:MM:SS+HH:MM`.

    Raises:
        ValueError: it is not one.
    """
    micros, east = _parse_clock(_text(value, "a time such as 23:59:59+02:00").strip())
    return micros, -(east or 0)


def parse_interval(value: object) -> tuple[int, int, int]:
    """Months, days and microseconds of `1 day 02:03:04`, `1.5 months`, `90 minutes`, `1-2` (years and months)
    or ISO 8601 `P1DT2H`.

    A fraction goes down to smaller units as in Postgres (DecodeInterval, datetime.c): half a month is 15
    days, half a year 6 months.

    Raises:
        ValueError: it is none of these, or out of range.
    """
    text = _text(value, "an interval such as `1 day 02:00:00` or P1DT2H").strip()
    if text.lower() == "infinity":
        return 2**31 - 1, 2**31 - 1, 2**63 - 1
    if text.lower() == "-infinity":
        return -(2**31), -(2**31), -(2**63)
    span = _Span()
    iso = _ISO.fullmatch(text)
    if iso and text.rstrip("T") not in {"P", "-P"}:
        for unit, part in zip(_ISO_UNITS, iso.groups()[1:], strict=True):
            if part is not None:
                span.add(part, unit)
        return span.signed(-1 if iso[1] else 1)
    rest, ago = (text[:-3].rstrip(), -1) if text.lower().endswith(" ago") else (text, 1)
    found = False
    while rest := rest.lstrip(" ,@\t\n"):
        if clock := _SPAN.match(rest):
            span.add_clock(clock)
            rest = rest[clock.end() :]
        elif years := _YEAR_MONTH.match(rest):
            span.months += _signed(years[1], int(years[2]) * 12 + int(years[3]))
            rest = rest[years.end() :]
        else:
            number = _NUMBER.match(rest)
            if number is None or not number[0].strip("+-."):
                raise ValueError(_EXPECTED)
            rest = rest[number.end() :].lstrip()
            if word := _UNIT.match(rest):
                unit = _NAMES.get(word[0].lower(), "")
                if not unit:
                    raise ValueError(f"`{word[0]}` is not a unit of time")
                rest = rest[word.end() :]
            else:  # `1 02:00:00` has days, `90` seconds
                unit = "day" if _SPAN.match(rest) else "second"
                if unit == "second" and rest:
                    raise ValueError(_EXPECTED)
            span.add(number[0], unit)
        found = True
    if not found:
        raise ValueError(_EXPECTED)
    return span.signed(ago)


class _Span:
    """An interval under construction."""

    def __init__(self) -> None:
        self.months = self.days = self.micros = 0

    def add(self, text: str, unit: str) -> None:
        """`text` (a decimal number) of a unit, its fraction spread over the smaller ones."""
        match = _NUMBER.fullmatch(text)
        if match is None or not text.strip("+-."):
            raise ValueError(_EXPECTED)
        whole = _signed(match[1], int((match[2] or "0")[-40:]))
        if len(match[2]) > 20:
            raise ValueError("the interval is out of range")
        part = _signed(match[1], float(f"0{match[3] or '.0'}0"))
        if unit in _MICROS:
            self.micros += whole * _MICROS[unit]
            self._fraction_of_micros(part, _MICROS[unit])
        elif unit == "day":
            self.days += whole
            self._fraction_of_micros(part, _DAY)
        elif unit == "week":
            self.days += whole * 7
            self._fraction_of_days(part, 7)
        elif unit == "month":
            self.months += whole
            self._fraction_of_days(part, _DAYS_OF_MONTH)
        else:
            self.months += whole * 12 * _YEARS[unit] + round(part * _YEARS[unit] * 12)

    def add_clock(self, match: re.Match[str]) -> None:
        """`[+-]hours:minutes[:seconds]`, or `minutes:seconds.fraction`."""
        if len(match[2]) > 15:
            raise ValueError("the interval is out of range")
        hours, minutes, seconds = int(match[2]), int(match[3]), int(match[4] or 0)
        if match[5] and match[4] is None:
            hours, minutes, seconds = 0, hours, minutes
        if minutes > 59 or seconds > 59:
            raise ValueError("the time of day is out of range")
        micros = (hours * 3600 + minutes * 60 + seconds) * 1_000_000 + _fraction((match[5] or ".0")[1:])
        self.micros += _signed(match[1], micros)

    def signed(self, sign: int) -> tuple[int, int, int]:
        """Its parts, each times `sign`."""
        months, days, micros = sign * self.months, sign * self.days, sign * self.micros
        if not (-(2**31) <= months < 2**31 and -(2**31) <= days < 2**31 and -(2**63) <= micros < 2**63):
            raise ValueError("the interval is out of range")
        return months, days, micros

    def _fraction_of_days(self, part: float, days: int) -> None:
        whole = int(part * days)
        self.days += whole
        self._fraction_of_micros(part * days - whole, _DAY)

    def _fraction_of_micros(self, part: float, unit: int) -> None:
        whole = int(part * unit)
        rest = part * unit - whole
        self.micros += whole + (1 if rest > 0.5 else -1 if rest < -0.5 else 0)


def _signed(sign: str, number: _N) -> _N:
    return -number if sign == "-" else number


def _fraction(digits: str) -> int:
    """Microseconds of a second's decimals: rounded as Postgres does, by way of a double."""
    return int(digits.ljust(6, "0")) if len(digits) <= 6 else round(float(f"0.{digits}") * 1_000_000)


def _stamp(micros: int, offset: str) -> str:
    if micros in _STAMP_INFINITY:
        return "infinity" if micros > 0 else "-infinity"
    days, rest = divmod(micros, _DAY)
    if _FIRST_DAY <= days <= _LAST_DAY:
        text = date.fromordinal(days + _EPOCH_ORDINAL).isoformat()
        era = ""
    else:
        text, _, era = date_text((days,)).partition(" ")
        era = " BC" if era else ""
    seconds, micros = divmod(rest, 1_000_000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{text}T{hours:02d}:{minutes:02d}:{seconds:02d}.{micros:06d}{offset}{era}"


def _clock(micros: int) -> str:
    seconds, micros = divmod(micros, 1_000_000)
    text = f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
    return f"{text}.{micros:06d}" if micros else text


def _parse_stamp(value: object, *, keep_offset: bool) -> tuple[int]:
    text = _text(value, "a timestamp such as 2024-12-31T23:59:59Z").strip()
    more = 0
    short = text
    if long := _LONG_FRACTION.search(text):  # fromisoformat cuts it
        more = _fraction(long[1])
        short = text[: long.start()] + text[long.end() :]
    try:
        moment = datetime.fromisoformat(short)
    except ValueError:
        pass
    else:
        if moment.tzinfo is None or not keep_offset:
            moment = moment.replace(tzinfo=UTC)
        return ((moment - _EPOCH) // timedelta(microseconds=1) + more,)
    if infinite := _infinite(text, _STAMP_INFINITY):
        return infinite
    match = _STAMP.fullmatch(text)
    if match is None:
        raise ValueError("expected a timestamp such as 2024-12-31T23:59:59Z")
    micros, east = _parse_clock(match[2]) if match[2] else (0, None)
    total = _days(match[1] + (match[3] or "")) * _DAY + micros
    return (total - (east or 0) * 1_000_000 if keep_offset else total,)


def _parse_clock(text: str) -> tuple[int, int | None]:
    """Microseconds of the day, and the offset east of UTC in seconds or None."""
    match = _CLOCK.fullmatch(text.strip())
    if match is None:
        raise ValueError("expected a time such as 23:59:59")
    hours, minutes, seconds = int(match[1]), int(match[2]), int(match[3] or 0)
    micros = (hours * 3600 + minutes * 60 + seconds) * 1_000_000 + _fraction(match[4] or "0")
    if minutes > 59 or seconds > 60 or micros > _DAY:
        raise ValueError("the time of day is out of range")
    zone = match[5]
    if zone is None:
        return micros, None
    if zone in "zZ":
        return micros, 0
    digits = zone[1:].replace(":", "")
    digits = digits.zfill(2) if len(digits) < 3 else digits.zfill(4)
    east = int(digits[:2]) * 3600 + int(digits[2:4] or 0) * 60 + int(digits[4:6] or 0)
    return micros, -east if zone[0] == "-" else east


def _days(text: str) -> int:
    match = _DATE.fullmatch(text.strip())
    if match is None:
        raise ValueError("expected a date such as 2024-12-31")
    year, month, day = int(match[1]), int(match[2]), int(match[3])
    if match[4]:
        year = 1 - year
    days = _ordinal(year, month, day)
    if not 1 <= month <= 12 or _civil(days) != (year, month, day):
        raise ValueError("there is no such day")
    return days


def _ordinal(year: int, month: int, day: int) -> int:
    """Days since 2000-01-01, proleptic Gregorian (Howard Hinnant, "chrono-Compatible Low-Level Date
    Algorithms")."""
    year -= month <= 2
    era, of_era = divmod(year, 400)
    of_year = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + day - 1
    return era * 146_097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719_468 - 10_957


def _civil(days: int) -> tuple[int, int, int]:
    """Year (0 is 1 BC), month and day of days since 2000-01-01; the inverse of _ordinal."""
    era, of_era = divmod(days + 719_468 + 10_957, 146_097)
    year_of_era = (of_era - of_era // 1460 + of_era // 36_524 - of_era // 146_096) // 365
    of_year = of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    shifted = (5 * of_year + 2) // 153
    month = shifted + 3 if shifted < 10 else shifted - 9
    return year_of_era + era * 400 + (month <= 2), month, of_year - (153 * shifted + 2) // 5 + 1


def _infinite(text: str, infinity: tuple[int, int]) -> tuple[int] | None:
    return {"infinity": (infinity[0],), "-infinity": (infinity[1],)}.get(text.lower())


def _text(value: object, expected: str) -> str:
    if isinstance(value, str):
        return value
    raise ValueError(f"expected {expected}")
