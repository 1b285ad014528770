"""What each step of an execution did to rows: the mutations it made, and the images before and after it.

A call's own mutations belong to it. What a deferred trigger wrote belongs to the COMMIT. What was rolled back
is changed back at the ROLLBACK; where none is recorded, at the end. A statement that failed changed nothing:
its attempts are told, its rows are as before.
"""

from __future__ import annotations

from collections.abc import Iterable

from flux.query.encoding import to_json
from flux.record import ops
from flux.shapes.debug import StepRows
from flux.shapes.record import HostCall, Json, Mutation, Trace

END = -1
"""Stands for the last step where a call's number is asked for."""

NOTHING = StepRows(before=[], after=[])


class RowChanges:
    """The mutations of a trace, by the step that made them.

    Args:
        document: the trace.
    """

    def __init__(self, document: Trace) -> None:
        self._made: dict[int, list[Mutation]] = {}
        self._undone: dict[int, list[Mutation]] = {}
        calls = {call.seq: call for call in document.host_calls}
        ends = {call.tx: call for call in document.host_calls if call.op in ops.ENDS_TRANSACTION}
        of_xid = {
            call.xid: ends[call.seq].seq
            for call in document.host_calls
            if call.op == ops.DB_BEGIN and call.xid is not None and call.seq in ends
        }
        for mutation in sorted(document.mutations, key=lambda mutation: mutation.n):
            call = calls.get(mutation.seq) if mutation.seq is not None else None
            seq = call.seq if call is not None else of_xid.get(mutation.xid or "", END)
            self._made.setdefault(seq, []).append(mutation)
            if mutation.rolled_back and not _at_once(call, mutation):
                end = ends.get(call.tx) if call is not None and call.tx is not None else None
                self._undone.setdefault(END if end is None else end.seq, []).append(mutation)

    def made(self, seq: int) -> list[Mutation]:
        """The mutations of a call, or of the end, in their order."""
        return self._made.get(seq, [])

    def rows(self, seq: int, *, failed: bool) -> StepRows:
        """The rows that a call, or the end, changed.

        Args:
            seq: of the call.
            failed: True where it failed: what it tried did not stay.
        """
        made = [m for m in self.made(seq) if not (m.rolled_back and (failed or m.seq is None))]
        steps = [(m.table, m.key, m.before, m.after) for m in made]
        steps += [(m.table, m.key, m.after, m.before) for m in reversed(self._undone.get(seq, []))]
        return _folded(steps) if steps else NOTHING


def _at_once(call: HostCall | None, mutation: Mutation) -> bool:
    """Whether a mutation was undone in the step that made it."""
    return call is None or call.error is not None or (call.tx is None and mutation.seq is not None)


def _folded(changes: Iterable[tuple[str, Json, Json, Json]]) -> StepRows:
    """Each row once, from its first image to its last; a row that is as it was is left out."""
    rows: dict[str, tuple[Json, Json]] = {}
    for table, key, before, after in changes:
        names = list(key) if isinstance(key, dict) else None
        old, new = (_identity(table, names, image) for image in (before, after))
        first = rows.pop(old, (before, None))[0] if before is not None else None
        if before is None and new in rows:
            first = rows.pop(new)[0]
        rows[new if after is not None else old] = (first, after)
    kept = [(before, after) for before, after in rows.values() if before != after]
    return StepRows(
        before=[before for before, _ in kept if before is not None],
        after=[after for _, after in kept if after is not None],
    )


def _identity(table: str, names: list[str] | None, image: Json) -> str:
    """What tells a row from others: its table and key; of a table without one, the whole image."""
    if not isinstance(image, dict):
        return ""
    return f"{table}\0{to_json(image if names is None else [image.get(name) for name in names])}"
