"""What a comparison answers: typed, frozen structs whose fields are the keys of `trace diff`'s JSON."""

from __future__ import annotations

from typing import Literal

import msgspec

from flux.shapes.record import Execution, HostCall, Json, Mutation, Span
from flux.shapes.why import Difference

Change = Literal["changed", "missing", "added"]


class FieldDifference(msgspec.Struct, frozen=True, kw_only=True):
    """One value that differs.

    Attributes:
        field: a JSON path (`order.lines[1].n`), from the member of the call or row it stands in.
        change: `changed`, `missing` (only `a` has it) or `added` (only `b` has it).
        a, b: the values; None where one has none.
        because: the input's field that brought this value in, where both values stood there.
    """

    field: str
    change: Change
    a: Json
    b: Json
    because: str | None = None


class CallDifference(msgspec.Struct, frozen=True, kw_only=True):
    """A host call that differs.

    Attributes:
        change: `changed`, `missing`, `added` or `reordered`.
        a, b: the call in each execution; None where it has none.
        fields: what differs where both have it.
    """

    op: str
    change: str
    a: HostCall | None
    b: HostCall | None
    fields: list[FieldDifference]

    @property
    def there(self) -> HostCall:
        """The call as `b` made it, or `a` where it alone did."""
        found = self.b or self.a
        assert found is not None
        return found


class SpanDifference(msgspec.Struct, frozen=True, kw_only=True):
    """A span that differs. `fields` names attributes, status and status message; times are no part of it."""

    name: str
    change: str
    a: Span | None
    b: Span | None
    fields: list[FieldDifference]


class RowDifference(msgspec.Struct, frozen=True, kw_only=True):
    """A row that was changed otherwise. `fields` are columns of `before` and `after`."""

    table: str
    key: Json
    op: str
    change: str
    a: Mutation | None
    b: Mutation | None
    fields: list[FieldDifference]


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """A span that took much longer in one of the two: by SLOWER times and by SLOWER_MS at least.

    Attributes:
        a, b: milliseconds.
    """

    name: str
    a: float
    b: float


class Outputs(msgspec.Struct, frozen=True, kw_only=True):
    """What both returned.

    Attributes:
        fields: where they differ, up to renaming of generated values.
        status_a, status_b: the HTTP statuses.
    """

    a: Json
    b: Json
    fields: list[FieldDifference]
    status_a: int | None
    status_b: int | None


class Diff(msgspec.Struct, frozen=True, kw_only=True):
    """How two executions differ.

    Attributes:
        a, b: the two executions.
        identical: nothing differs but names that were generated anew, and times.
        verdict: the difference that explains the rest, in a sentence.
        first_difference: that difference, the first in the order in which things happened; None where
            nothing differs. `where` is `deployment`, `method`, `path`, `params`, `query`, `input`, `call N`
            (the seq in `b`, else in `a`), `log N`, `row TABLE`, `output`, `status` or `error`.
        inputs: all that differs in what was asked: the input's fields by their path, what else the request
            brought as `query.x`, `params.x`, `method`, `path`.
        deployment: the two deployments, where other code ran.
        durations: spans whose pace differs much. No part of `identical`.
    """

    a: Execution
    b: Execution
    identical: bool
    verdict: str
    first_difference: Difference | None
    inputs: list[FieldDifference]
    spans: list[SpanDifference]
    calls: list[CallDifference]
    mutations: list[RowDifference]
    logs: list[FieldDifference]
    output: Outputs
    deployment: FieldDifference | None
    durations: list[Pace]


class Separator(msgspec.Struct, frozen=True, kw_only=True):
    """A test that is true more often in one cohort.

    Attributes:
        test: in words: `input.coupon is there`, `query.page = "3"`, `input.lines[].n > 10`, `calls fetch ..`.
        kind: `input`, `query`, `params`, `header`, `deployment`, `call`, `row`, `span`, `log`.
        bad, good: of how many it is true.
        bits: mutual information.
    """

    test: str
    kind: str
    bad: int
    good: int
    bits: float


class Cohorts(msgspec.Struct, frozen=True, kw_only=True):
    """Two groups of executions and what separates them, the best test first.

    Attributes:
        bad, good: how many executions each has.
    """

    bad: int
    good: int
    separators: list[Separator]
