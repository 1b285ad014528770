"""A batch of assembled units as rows, table by table.

The drain fills one while Postgres stores the one before.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from operator import itemgetter
from typing import Any, TypeVar

from flux.drain import records
from flux.drain.assemble import Assembled, Misfit, Unit
from flux.record.call import Attempt
from flux.record.events import Deployed, Resource, Spans, Surroundings
from flux_postgres_exporter import binary, rows, store

Entry = TypeVar("Entry", bound=tuple[Any, ...])

REFUSED = "Postgres refused the record's JSON"


class Tables:
    """Rows to be stored in one transaction.

    Rows are handed out in order of their request_id, that is of the key: neighbours in a batch are neighbours
    in the index, and cheaper to insert.

    Args:
        node: the spool's id.
        plain: leave out what is derived for searching.

    Attributes:
        plain: as given.
        attempts: mutations that may have been rolled back, with request_id and day of their execution.
        loose: spans of which only the database can say whose they are.
        events: what is no row of these tables.
    """

    def __init__(self, node: str, *, plain: bool = False) -> None:
        self._node = node
        self.plain = plain
        self._executions: list[records.Row] = []
        self._calls: list[records.Row] = []
        self._logs: list[records.Row] = []
        self._spans: list[tuple[str, bytes]] = []
        self.attempts: list[tuple[str, date, Attempt]] = []
        self.loose: list[rows.SpanRow] = []
        self.events: list[Deployed | Resource | Surroundings | Misfit] = []

    def add(self, unit: Unit) -> None:
        """Take one more unit. Raises one of `store.REFUSALS` where it can't be a row; part of it is here
        then.
        """
        if isinstance(unit, Assembled):
            self._execution(unit)
        elif isinstance(unit, Misfit):
            self.events.append(unit)
        elif isinstance(unit.event, Spans):
            self.loose.extend(unit.event.spans)
        else:
            self.events.append(unit.event)

    def owned(self, owners: Sequence[store.Owner]) -> list[bytes]:
        """The loose spans as rows of flux.spans, each of the execution that is its own, in their order."""
        entries = [
            (owner[0], self._encoded(row, binary.owner(*owner)))
            for row, owner in zip(self.loose, owners, strict=True)
        ]
        return [encoded for _, encoded in _sorted(entries)]

    @property
    def executions(self) -> list[records.Row]:
        """Rows in the order of records.EXECUTION_COLUMNS."""
        return _sorted(self._executions)

    @property
    def calls(self) -> list[records.Row]:
        """Rows in the order of records.CALL_COLUMNS."""
        return _sorted(self._calls)

    @property
    def logs(self) -> list[records.Row]:
        """Rows in the order of records.LOG_COLUMNS."""
        return _sorted(self._logs)

    @property
    def spans(self) -> list[bytes]:
        """Rows of flux.spans in COPY's binary format."""
        return [encoded for _, encoded in _sorted(self._spans)]

    def _execution(self, unit: Assembled) -> None:
        plain, request_id, on = self.plain, unit.arrival.request_id, records.day(unit.arrival.day)
        self._executions.append(records.execution(unit, self._node, plain=plain))
        self._calls.extend(records.call(request_id, on, call, plain=plain) for call in unit.calls.values())
        self._logs.extend(records.log(request_id, on, line, plain=plain) for line in unit.logs.values())
        if unit.end is not None:
            if unit.end.spans:
                begin = binary.owner(request_id, on)
                encoded = b"".join([self._encoded(row, begin) for row in unit.end.spans])
                self._spans.append((request_id, encoded))
            self.attempts.extend((request_id, on, attempt) for attempt in unit.end.attempts)

    def _encoded(self, row: rows.SpanRow, begin: bytes) -> bytes:
        return binary.row(binary.refused(row, REFUSED) if self.plain else row, begin)


def _sorted(entries: list[Entry]) -> list[Entry]:
    return sorted(entries, key=itemgetter(0))
