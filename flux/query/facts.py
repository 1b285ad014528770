"""What suggestions are made from, and how they are told. Pure; for `suggest` and its catalogues."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flux.query.cause import Cause
from flux.shapes.record import HostCall, Trace
from flux.shapes.why import Suggestion


@dataclass(frozen=True, slots=True)
class Route:
    """Where a function is served now."""

    function: str
    route: str
    method: str


@dataclass(frozen=True, slots=True)
class Facts:
    """What a suggestion may draw on.

    Attributes:
        cause: of the failure.
        execution: the trace shape that was asked about.
        detail: of the failing call's error: sqlstate, constraint, table, column, detail...
        routes: those served now.
    """

    cause: Cause
    execution: Trace
    detail: Mapping[str, str]
    routes: Sequence[Route]

    @property
    def table(self) -> str:
        """The table the server named, or a word for it."""
        return self.detail.get("table") or "the table"

    @property
    def key(self) -> tuple[str, str] | None:
        """Columns and values in the server's `Key (a)=(b)`."""
        match = re.match(r"Key \((.+?)\)=\((.*)\) ", self.detail.get("detail") or "")
        return (match[1], match[2]) if match else None


Advice = Callable[[Facts], list[Suggestion]]


def one(text: str, reason: str) -> list[Suggestion]:
    """A single suggestion."""
    return [Suggestion(text=text, reason=reason)]


def in_words(call: HostCall) -> str:
    """A call in words."""
    arguments: Any = call.arguments if isinstance(call.arguments, dict) else {}
    if call.op == "fetch":
        return f"{arguments.get('method', 'GET')} {arguments.get('url', '')}"
    if call.op == "db.query":
        return f"{arguments.get('operation', 'select')} on `{arguments.get('table')}` (call {call.seq})"
    if call.op == "queue.push":
        return f"the push of `{arguments.get('name')}`"
    if call.op == "invoke":
        return f"the invocation of `{arguments.get('name')}`"
    return f"{call.op} (call {call.seq})"
