"""A host call and its outcome: the two structs that cross the host boundary.

The guest asks with a HostCall; a Host answers with an Outcome. Arguments and results are exact JSON
bytes as the guest wrote or will read them; nobody between re-serialises them.
"""

from __future__ import annotations

import msgspec


class CallError(msgspec.Struct, omit_defaults=True):
    """Why a host call failed, as the guest will see it thrown and as it is recorded.

    `type` is OpenTelemetry's `error.type`: a stable class of error (`unique_violation`, `timeout`,
    `ConnectError`...); `detail` holds what the source of the error said besides (Postgres:
    sqlstate, detail, hint, constraint, schema, table, column, position).
    """

    type: str
    message: str
    detail: dict[str, str] = {}


class Attempt(msgspec.Struct, array_like=True):
    """One row image that a capture trigger announced (RAISE INFO) from inside a transaction.

    Whether it was committed is known later: attempts minus the rows committed by that xid were rolled back.
    `n` is the mutation's order number; `cut` counts the further rows of the same statement that were not
    announced.
    """

    n: int
    xid: int
    schema: str
    table: str
    op: str
    key: bytes | None
    before: bytes | None
    after: bytes | None
    at_ns: int
    seq: int | None = None
    cut: int = 0


class HostCall(msgspec.Struct):
    """One effect that a function asks of the host.

    Attributes:
        op: `db.query`, `db.sql`, `db.begin`, `db.commit`, `db.rollback`, `fetch`, `queue.push`, `invoke`,
            `secrets.get`, `sleep`, `log`, `span.start`, `span.end`.
        arguments: exact JSON bytes (an object), its members by op in docs/architecture.md.
        n: the guest's own number of the call, unique in its invocation.
        tx: the `n` of the open `db.begin` this call belongs to, or None.
        span: the `n` of the innermost open `span.start`, or None.
        seq: the call's number in its execution, given by Recording before the call is performed.
        asked: the arguments as they were read, once `flux.record.ops` has read them.
    """

    op: str
    arguments: bytes
    n: int
    tx: int | None = None
    span: int | None = None
    seq: int = -1
    asked: msgspec.Struct | None = None


class Outcome(msgspec.Struct):
    """What came of a host call.

    Exactly one of `result` and `error` is set. `now_ns` is the wall clock when the outcome was
    known: the guest's clock moves to it. The rest is set by the data engine alone. `attempts` are
    rows announced by triggers during the call. `first_n`..`last_n` bound the order numbers of the
    mutations the call made. `snapshot` is a pg_snapshot as text.
    """

    result: bytes | None = None
    error: CallError | None = None
    now_ns: int = 0
    span_id: str | None = None
    xid: int | None = None
    snapshot: str | None = None
    first_n: int | None = None
    last_n: int | None = None
    attempts: list[Attempt] = []
