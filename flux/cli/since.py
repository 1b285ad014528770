"""The `--since` option: a moment, or how long ago."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import click

_AGO = re.compile(r"(\d+)\s*(s|m|min|h|d|w)")
_SECONDS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400, "w": 604_800}


class Since(click.ParamType):
    """`10m`, `2h`, `3d`, or a date or time in ISO form (in the local zone where it names none)."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """The moment that `value` means."""
        if isinstance(value, datetime):
            return value
        text = str(value).strip().lower()
        match = _AGO.fullmatch(text)
        try:
            if match:
                return datetime.now(UTC) - timedelta(seconds=int(match[1]) * _SECONDS[match[2]])
            moment = datetime.fromisoformat(text.upper())
        except (ValueError, OverflowError):
            self.fail(f"`{value}` is no time. Write 10m, 2h, 3d, or 2026-01-31T12:00.", param, ctx)
        return moment if moment.tzinfo else moment.astimezone()
