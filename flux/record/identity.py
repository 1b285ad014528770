"""Identities and days: who an execution is, and which partition its rows go to."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from datetime import date, timedelta
from functools import lru_cache

HEX_ID = re.compile(r"[0-9a-f]{32}")
HEX_PREFIX = re.compile(r"[0-9a-f]{4,32}")


def new_id(entropy: Callable[[int], bytes] = os.urandom) -> str:
    """A random 128-bit identity as 32 lowercase hex digits; all digits are random, so that 8 make a
    prefix.
    """
    return entropy(16).hex()


def program_of(node: str) -> str:
    """What a node's sessions call themselves in Postgres (`application_name`), so that a changed row names
    its node though the record may never come.
    """
    return f"flux {node}"


MEMBER = 12
"""Last digits of an id that are a number, where several requests are recorded together."""


def together_id(entropy: Callable[[int], bytes] = os.urandom) -> str:
    """The identity of a record that stands for several requests: it ends in MEMBER zeros."""
    return new_id(entropy)[:-MEMBER] + "0" * MEMBER


def member_id(together: str, number: int) -> str:
    """The id of one of them, `number` from 1: what its answer carries."""
    return f"{together[:-MEMBER]}{number:0{MEMBER}x}"


def member_of(request_id: str) -> tuple[str, int]:
    """What a 32-digit id is, if it is a member's: the id of the record, and the number."""
    return request_id[:-MEMBER] + "0" * MEMBER, int(request_id[-MEMBER:], 16)


def day_of(ns: int) -> str:
    """The UTC day, `YYYY-MM-DD`, of a wall-clock time in nanoseconds since the epoch."""
    return _day(ns // 86_400_000_000_000)


@lru_cache(maxsize=64)
def _day(days: int) -> str:
    return (date(1970, 1, 1) + timedelta(days=days)).isoformat()
