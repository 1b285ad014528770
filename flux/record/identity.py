"""Identities and days: who an execution is, and which partition its rows go to."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache

HEX_ID = re.compile(r"[0-9a-f]{32}")
HEX_PREFIX = re.compile(r"[0-9a-f]{4,32}")


def new_id(entropy: Callable[[int], bytes] = os.urandom) -> str:
    """A random 128-bit identity as 32 lowercase hex digits; all digits are random, so that 8 make a
    prefix.
    """
    return entropy(16).hex()


def outside_id(system_identifier: str, database: str, xid: int) -> str:
    """The request_id of a transaction that Flux did not start: derived, so that all its rows share one.

    The capture trigger computes the same in SQL: md5 of `system_identifier/database/xid`.
    """
    return hashlib.md5(f"{system_identifier}/{database}/{xid}".encode(), usedforsecurity=False).hexdigest()


def day_of(ns: int) -> str:
    """The UTC day, `YYYY-MM-DD`, of a wall-clock time in nanoseconds since the epoch."""
    return _day(ns // 86_400_000_000_000)


@lru_cache(maxsize=64)
def _day(days: int) -> str:
    return (date(1970, 1, 1) + timedelta(days=days)).isoformat()


def rfc3339(ns: int) -> str:
    """Nanoseconds since the epoch as RFC 3339 in UTC with microseconds."""
    moment = datetime.fromtimestamp(ns // 1_000_000_000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{ns // 1000 % 1_000_000:06d}+00:00"
