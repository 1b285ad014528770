"""The `--since` option: a moment, or how long ago."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import click

_AGO = re.compile(r"(\d+)\s*(s|m|min|h|d|w)")
_SECONDS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400, "w": 604_800}


def moment(_context: click.Context, parameter: click.Parameter, value: str | None) -> datetime | None:
    """The moment that `value` means: `10m`, `2h`, `3d`, or a date or time in ISO form (local where it names
    no zone).
    """
    if value is None:
        return None
    text = value.strip().lower()
    match = _AGO.fullmatch(text)
    try:
        if match:
            return datetime.now(UTC) - timedelta(seconds=int(match[1]) * _SECONDS[match[2]])
        found = datetime.fromisoformat(text.upper())
    except (ValueError, OverflowError) as error:
        raise click.BadParameter(
            f"`{value}` is no time. Write 10m, 2h, 3d, or 2026-01-31T12:00.", param=parameter
        ) from error
    return found if found.tzinfo else found.astimezone()


since_option = click.option(
    "--since", callback=moment, metavar="TIME", help="Only from then on: 10m, 2h, 2026-01-31T12:00."
)
