"""Columns whose values are not to be shown: `redact_columns` in the project's configuration.

The record of a committed change holds them all the same: without it a row could not be restored. So they are
left out where the record is read. Applied by Reader to every shape that holds rows.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from flux.query.shapes import Shape
from flux.recorder.json_paths import REDACTED


class Withheld:
    """Which columns are withheld.

    Args:
        columns: `table.column` or `schema.table.column`.
    """

    def __init__(self, columns: Iterable[str] = ()) -> None:
        self._columns: dict[str, set[str]] = {}
        for name in columns:
            table, _, column = name.strip().rpartition(".")
            if table:
                self._columns.setdefault(table.removeprefix("public."), set()).add(column)

    def __bool__(self) -> bool:
        return bool(self._columns)

    def of(self, table: str) -> set[str]:
        """The columns withheld in `table`."""
        return self._columns.get(table, set())

    def mutations(self, mutations: Iterable[Shape]) -> None:
        """Take the values out of mutation shapes; `changed` still says which columns changed."""
        for mutation in mutations:
            names = self.of(mutation["table"])
            for image in ("key", "before", "after"):
                if names and isinstance(mutation[image], dict):
                    mutation[image] = {
                        name: REDACTED if name in names and value is not None else value
                        for name, value in mutation[image].items()
                    }

    def trace(self, document: Shape) -> None:
        """Take the values out of a trace shape and of the executions inside it."""
        self.mutations(document["mutations"])
        for child in document["children"]:
            self.trace(child)

    def why(self, shape: Shape) -> None:
        """Take the values out of a why shape."""
        self.mutations(shape["data_changes"])
        for entry in shape["provenance"]:
            if entry["column"] in self.of(entry["table"]):
                entry["value"] = _hidden(entry["value"])

    def blame(self, table: str, columns: Shape) -> None:
        """Take the values out of a blame shape."""
        for name in self.of(table) & columns.keys():
            entry = columns[name]
            entry["value"] = _hidden(entry["value"])
            if entry["rolled_back_attempt"] is not None:
                entry["rolled_back_attempt"]["value"] = _hidden(entry["rolled_back_attempt"]["value"])


def _hidden(value: Any) -> Any:
    return None if value is None else REDACTED
