"""A statement put to one day's partitions."""

from __future__ import annotations

import re
from datetime import date

from flux.query.partition import of_day
from flux.query.queries import Q


def test_every_table_of_a_trace_is_that_days_partition() -> None:
    text = of_day(Q.trace, date(2026, 1, 2))
    assert re.findall(r"\bFROM (\S+)", text) == [
        'flux."executions_20260102"',
        'flux."spans_20260102"',
        'flux."host_calls_20260102"',
        'flux."mutations_20260102"',
        'flux."logs_20260102"',
    ]


def test_tables_without_partitions_keep_their_names() -> None:
    assert of_day("SELECT * FROM flux.deployments", date(2026, 1, 2)) == "SELECT * FROM flux.deployments"
