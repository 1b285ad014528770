"""Who last set each column of a row, and who tried to and was rolled back. Behind `state blame` and why's
provenance.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from flux.query.shapes import Shape


def blame(history: list[Shape], columns: Iterable[str], current: dict[str, Any] | None) -> Shape:
    """For each column its value and the mutation that set it.

    Args:
        history: the row's mutations, oldest first, rolled-back attempts among them.
        columns: the columns to answer for, in order.
        current: the row as it stands in the table; None where it is gone.

    Returns:
        `{column: {value, request_id, at, span_id, rolled_back_attempt, actor, origin, before_capture}}`. A
        column whose value no recorded mutation explains (it is older than capture, or was written around the
        triggers) has null for request_id and at, and `before_capture` true. `rolled_back_attempt` is the
        latest attempt since then to set the column
        that was undone: `{value, request_id, at, span_id}`.
    """
    committed = [m for m in history if not m["rolled_back"]]
    undone = [m for m in history if m["rolled_back"]]
    return {column: _column(column, committed, undone, current) for column in columns}


def _column(
    column: str, committed: list[Shape], undone: list[Shape], current: dict[str, Any] | None
) -> Shape:
    setter = next((m for m in reversed(committed) if _sets(m, column)), None)
    recorded = None if setter is None or setter["after"] is None else setter["after"].get(column)
    value = recorded if current is None else current.get(column)
    if setter is not None and current is not None and recorded != value:
        setter = None
    since = -1 if setter is None else setter["n"]
    attempt = next((m for m in reversed(undone) if m["n"] > since and _sets(m, column)), None)
    return {
        "value": value,
        "request_id": None if setter is None else setter["request_id"],
        "at": None if setter is None else setter["at"],
        "span_id": None if setter is None else setter["span_id"],
        "rolled_back_attempt": None
        if attempt is None
        else {
            "value": None if attempt["after"] is None else attempt["after"].get(column),
            "request_id": attempt["request_id"],
            "at": attempt["at"],
            "span_id": attempt["span_id"],
        },
        "actor": None if setter is None else setter["actor"],
        "application_name": None if setter is None else setter["application_name"],
        "origin": None if setter is None else setter["origin"],
        "op": None if setter is None else setter["op"],
        "before_capture": setter is None,
    }


def _sets(mutation: Shape, column: str) -> bool:
    return mutation["op"] == "TRUNCATE" or mutation["op"] == "DELETE" or column in mutation["changed"]
