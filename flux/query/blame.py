"""Who last set each column of a row, and who tried to and was rolled back. Behind `state blame` and why's
provenance.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from flux.shapes.record import Attempt, Blame, ColumnBlame, Json, Mutation


def blame(history: list[Mutation], columns: Iterable[str], current: dict[str, Any] | None) -> Blame:
    """For each column its value and the mutation that set it.

    Args:
        history: the row's mutations, oldest first, rolled-back attempts among them.
        columns: the columns to answer for, in order.
        current: the row as it stands in the table; None where it is gone.

    Returns:
        By column, in the order of `columns`.
    """
    committed = [m for m in history if not m.rolled_back]
    undone = [m for m in history if m.rolled_back]
    return {column: _column(column, committed, undone, current) for column in columns}


def _column(
    column: str, committed: list[Mutation], undone: list[Mutation], current: dict[str, Any] | None
) -> ColumnBlame:
    setter = next((m for m in reversed(committed) if _sets(m, column)), None)
    recorded = None if setter is None else _value(setter, column)
    value = recorded if current is None else current.get(column)
    if setter is not None and current is not None and recorded != value:
        setter = None
    since = -1 if setter is None else setter.n
    attempt = next((m for m in reversed(undone) if m.n > since and _sets(m, column)), None)
    return ColumnBlame(
        value=value,
        request_id=None if setter is None else setter.request_id,
        at=None if setter is None else setter.at,
        span_id=None if setter is None else setter.span_id,
        rolled_back_attempt=None
        if attempt is None
        else Attempt(
            value=_value(attempt, column),
            request_id=attempt.request_id,
            at=attempt.at,
            span_id=attempt.span_id,
        ),
        actor=None if setter is None else setter.actor,
        application_name=None if setter is None else setter.application_name,
        origin=None if setter is None else setter.origin,
        op=None if setter is None else setter.op,
        before_capture=setter is None,
    )


def _value(mutation: Mutation, column: str) -> Json:
    """What a mutation left in a column."""
    return mutation.after.get(column) if isinstance(mutation.after, dict) else None


def _sets(mutation: Mutation, column: str) -> bool:
    return mutation.op in ("TRUNCATE", "DELETE") or column in mutation.changed
