"""Columns whose values are not to be shown: `redact_columns` in the project's configuration.

The record of a committed change holds them all the same: without it a row could not be restored. So they are
left out where the record is read. Applied by Reader to every shape that holds rows.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec.structs import replace

from flux.recorder.json_members import REDACTED
from flux.shapes.record import Blame, ColumnBlame, Json, Mutation, Trace
from flux.shapes.why import Why, Writer


class Withheld:
    """Which columns are withheld.

    Args:
        columns: `table.column` or `schema.table.column`; case is ignored.
    """

    def __init__(self, columns: Iterable[str] = ()) -> None:
        self._columns: dict[str, set[str]] = {}
        for name in columns:
            table, _, column = name.strip().casefold().rpartition(".")
            if table:
                self._columns.setdefault(table.removeprefix("public."), set()).add(column)

    def __bool__(self) -> bool:
        return bool(self._columns)

    def of(self, table: str) -> set[str]:
        """The columns withheld in `table`, lower case."""
        return self._columns.get(table.casefold(), set())

    def mutations(self, mutations: list[Mutation]) -> list[Mutation]:
        """Mutations without the values; `changed` still says which columns changed."""
        return [self._mutation(mutation) for mutation in mutations] if self else mutations

    def _mutation(self, mutation: Mutation) -> Mutation:
        names = self.of(mutation.table)
        if not names:
            return mutation
        return replace(
            mutation,
            key=_without(mutation.key, names),
            before=_without(mutation.before, names),
            after=_without(mutation.after, names),
        )

    def trace(self, document: Trace) -> Trace:
        """A trace without the values, its children too."""
        if not self:
            return document
        return replace(
            document,
            mutations=self.mutations(document.mutations),
            children=[self.trace(child) for child in document.children],
        )

    def why(self, told: Why) -> Why:
        """A why without the values."""
        if not self:
            return told
        return replace(
            told,
            data_changes=self.mutations(told.data_changes),
            provenance=self.writers(told.provenance),
        )

    def writers(self, writers: list[Writer]) -> list[Writer]:
        """Who wrote, without the values."""
        return [
            replace(entry, value=_hidden(entry.value))
            if entry.column.casefold() in self.of(entry.table)
            else entry
            for entry in writers
        ]

    def blame(self, table: str, columns: Blame) -> Blame:
        """A blame without the values."""
        names = self.of(table)
        return {name: _blame(entry) if name.casefold() in names else entry for name, entry in columns.items()}


def _blame(entry: ColumnBlame) -> ColumnBlame:
    attempt = entry.rolled_back_attempt
    return replace(
        entry,
        value=_hidden(entry.value),
        rolled_back_attempt=None if attempt is None else replace(attempt, value=_hidden(attempt.value)),
    )


def _without(image: Json, names: set[str]) -> Json:
    if not isinstance(image, dict):
        return image
    return {name: _hidden(value) if name.casefold() in names else value for name, value in image.items()}


def _hidden(value: Json) -> Json:
    return None if value is None else REDACTED
