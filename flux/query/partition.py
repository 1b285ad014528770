"""A statement about one day, put to that day's partitions themselves.

Where the day is known, planning over all days' partitions is most of what reading a trace would cost, and
grows with every day that is kept.
"""

from __future__ import annotations

import re
from datetime import date
from functools import lru_cache

from flux.store.identifiers import quote

_TABLE = re.compile(r"\bflux\.(executions|spans|host_calls|mutations|logs)\b")


@lru_cache(maxsize=64)
def of_day(text: str, day: date) -> str:
    """`text` with the partitions of `day` in place of the tables that have partitions by day.

    Args:
        text: a query of this package, about nothing but that day.
        day: one that has its partitions, as every execution's day has.
    """
    return _TABLE.sub(lambda found: f"flux.{quote(f'{found[1]}_{day:%Y%m%d}')}", text)
