"""The rows that the query `trace` gives, taken apart: which table each is of, and its columns by name.

One query for all of them, because a trace is to be there in a millisecond or two, and each round trip costs
some of that. A row's columns come as one value of the type `record`, which has types but no names.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

from asyncpg import Record

Columns = dict[str, Any]

_NAMES: dict[str, tuple[str, ...]] = {
    "execution": (
        *("request_id", "day", "trace_id", "span_id", "parent_request_id", "trigger", "function"),
        *("deployment", "node", "guest", "invocation", "method", "url", "path", "route", "query", "params"),
        *("request_headers", "client_request_id", "client", "body", "body_size", "input", "output"),
        *("output_kind", "output_size", "response_headers", "status", "outcome", "started_at"),
        *("answered_ms", "duration_ms"),
        *("error", "record", "replay_of", "job_id", "job_attempt", "warnings", "count"),
    ),
    "span": (
        *("span_id", "trace_id", "parent_span_id", "name", "kind", "start_time", "start_ns", "duration_ns"),
        *("status", "status_message", "attributes", "events", "links", "scope"),
    ),
    "host_call": (
        *("seq", "op", "arguments", "arguments_size", "result", "result_size", "error", "status", "started"),
        *("delivered", "at", "duration_ms", "span_id", "parent_span_id", "tx", "xid", "snapshot"),
        *("first_n", "last_n"),
    ),
    "mutation": (
        *("request_id", "n", "xid", "schema_name", "table_name", "op", "key", "before", "after", "at"),
        *("origin", "actor", "application_name", "rolled_back", "seq", "cut"),
    ),
    "log": ("seq", "at", "level", "message", "fields", "span_id"),
}
_ORDER: dict[str, Callable[[Columns], Any]] = {
    "execution": lambda row: row["started_at"],
    "span": lambda row: (row["start_ns"], row["span_id"]),
    "host_call": lambda row: row["seq"],
    "mutation": lambda row: row["n"],
    "log": lambda row: row["seq"],
}


def empty(part: str) -> Columns:
    """A row of which nothing is known."""
    return dict.fromkeys(_NAMES[part])


class Parts:
    """The rows of some executions.

    Args:
        rows: what the query `trace` gave for each of them.
    """

    def __init__(self, rows: Iterable[Record]) -> None:
        self._rows: dict[tuple[str, str], list[Columns]] = defaultdict(list)
        for part, request_id, columns in rows:
            named = dict(zip(_NAMES[part], columns, strict=True))
            self._rows[part, request_id].append(named)
        for (part, _), found in self._rows.items():
            found.sort(key=_ORDER[part])

    @property
    def executions(self) -> list[Columns]:
        """Rows of flux.executions, in order of their start."""
        found = [row for (part, _), rows in self._rows.items() if part == "execution" for row in rows]
        return sorted(found, key=_ORDER["execution"])

    def of(self, request_id: str, part: str) -> list[Columns]:
        """One execution's rows of `span`, `host_call`, `mutation` or `log`, in order."""
        return self._rows.get((part, request_id), [])
