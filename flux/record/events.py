"""What is appended to the spool: an execution as a short series of events.

Arrival when it begins, Intents while effects are sent, End when it is over. Each thing is written
once. The drain assembles an execution by request_id; of two events about the same call the later
one wins. All are msgpack arrays (msgspec): new fields go to the end with a default, so that older
spools stay readable.

Times are wall-clock nanoseconds since the epoch (`*_ns`); durations are nanoseconds on the
monotonic clock.
"""

from __future__ import annotations

import msgspec

from flux.record.call import Attempt, CallError


class Call(msgspec.Struct, array_like=True):
    """A recorded host call. `status`: done | unknown | abandoned.

    `started` and `delivered` are numbers from one counter of the node, so they order the calls of
    concurrent executions.
    `tx` is the seq of the `db.begin` it ran in. `*_size` is the payload's full length where it was cut,
    else None.
    """

    seq: int
    op: str
    arguments: bytes
    status: str
    started: int
    at_ns: int
    delivered: int | None = None
    duration_ns: int | None = None
    result: bytes | None = None
    error: CallError | None = None
    span_id: str | None = None
    tx: int | None = None
    xid: int | None = None
    snapshot: str | None = None
    first_n: int | None = None
    last_n: int | None = None
    arguments_size: int | None = None
    result_size: int | None = None
    parent_span_id: str | None = None
    sealed: bytes | None = None
    """AEAD of msgpack {"arguments"?, "result"?, "error"?} as they were before redaction, or None where
    nothing was redacted.
    """
    now_ns: int | None = None
    """The clock that the answer carried, exact: the function's own moved to it."""
    arguments_sha256: bytes | None = None
    result_sha256: bytes | None = None
    """Of the whole payload as it was, where it was cut."""


class LogLine(msgspec.Struct, array_like=True):
    """A line that the function logged. `seq` numbers it among the host calls. `fields` is exact JSON or
    None.
    """

    seq: int
    at_ns: int
    level: str
    message: str
    fields: bytes | None
    span_id: str | None
    sealed: bytes | None = None


class Failure(msgspec.Struct, omit_defaults=True):
    """Why an execution failed: its error as recorded and shown. Paths are relative to the project."""

    type: str
    message: str
    file: str | None = None
    line: int | None = None
    column: int | None = None
    stack: str | None = None
    fields: dict[str, object] | None = None


class Rejection(msgspec.Struct, array_like=True):
    """How requests that are recorded together were answered."""

    status: int
    error: Failure


class Arrival(msgspec.Struct, array_like=True, tag="arrival"):
    """An execution has begun: appended before its function runs."""

    request_id: str
    day: str
    trace_id: str
    span_id: str
    parent_span_id: str | None
    parent_request_id: str | None
    trigger: str
    function: str | None
    deployment: str | None
    started_ns: int
    record: str
    method: str | None = None
    url: str | None = None
    path: str | None = None
    route: str | None = None
    query: str | None = None
    params: dict[str, str] = {}
    headers: list[tuple[str, str]] = []
    client_request_id: str | None = None
    body: bytes = b""
    input_from: str = "body"
    """Which bytes the handler's input was parsed from: `body`, or `query` (then input is the query as a
    JSON object).
    """
    input: bytes | None = None
    """Exact JSON bytes of the input where they are not the body; None means the body."""
    sealed: bytes | None = None
    """AEAD of msgpack {"seed": bytes, "now_ns": int, "headers"?, "query"?, "url"?, "body"?, "input"?,
    "params"?}.
    """
    body_size: int | None = None
    replay_of: str | None = None
    job_id: str | None = None
    job_attempt: int | None = None
    guest: str | None = None
    client: str | None = None
    rejection: Rejection | None = None
    """Set where this stands for several rejected requests, of which it is the first; Tallies count them."""
    surroundings: str | None = None
    """The id of the Surroundings that its guest was started in."""


class Intent(msgspec.Struct, array_like=True, tag="intent"):
    """Appended before an effect leaves: the calls finished since the last append, then the one about to be
    sent (`unknown`).
    """

    request_id: str
    calls: list[Call]
    logs: list[LogLine] = []
    guest: str | None = None
    invocation: int | None = None
    sent: int | None = None


class Answered(msgspec.Struct, array_like=True, tag="answered"):
    """The handler has settled and its answer is about to leave, while work that it handed to ctx.waitUntil
    goes on: what is known by now. An End follows, which says nothing of this again but the status, the
    outcome and the error.

    Without an End the execution is `interrupted`, its answer known.
    """

    request_id: str
    status: int | None
    outcome: str
    duration_ns: int
    """From its arrival to this answer."""
    output: bytes | None = None
    output_kind: str = "json"
    response_headers: list[tuple[str, str]] = []
    error: Failure | None = None
    calls: list[Call] = []
    logs: list[LogLine] = []
    guest: str | None = None
    invocation: int | None = None
    warnings: list[str] = []
    output_size: int | None = None
    sealed: bytes | None = None
    sent: int | None = None
    """When the invocation went to its guest: a number of the counter that `Call.started` has."""
    output_sha256: bytes | None = None
    """Of the whole output as it was, where it was cut."""


class End(msgspec.Struct, array_like=True, tag="end"):
    """An execution is over: appended before its response leaves, or after it where an Answered was."""

    request_id: str
    status: int | None
    outcome: str
    duration_ns: int
    output: bytes | None = None
    """What the handler returned, exact: a JSON value's bytes, or a Response's body."""
    output_kind: str = "json"
    """`json` or `response`."""
    response_headers: list[tuple[str, str]] = []
    error: Failure | None = None
    calls: list[Call] = []
    logs: list[LogLine] = []
    attempts: list[Attempt] = []
    spans: list[tuple[object, ...]] = []
    """Rows as flux_postgres_exporter encodes them."""
    guest: str | None = None
    invocation: int | None = None
    warnings: list[str] = []
    output_size: int | None = None
    sealed: bytes | None = None
    sent: int | None = None
    """When the invocation went to its guest: a number of the counter that `Call.started` has."""
    output_sha256: bytes | None = None
    """Of the whole output as it was, where it was cut."""


class Tally(msgspec.Struct, array_like=True, tag="tally"):
    """One more request was rejected like the one that arrived: appended before its answer leaves. `count` is
    how many they are with it.
    """

    request_id: str
    count: int


class Spans(msgspec.Struct, array_like=True, tag="spans"):
    """Spans that belong to no execution (`/_flux` calls, background work)."""

    spans: list[tuple[object, ...]]


class Deployed(msgspec.Struct, array_like=True, tag="deployed"):
    """A deployment was made: appended before the first execution that names it."""

    deployment: str
    function: str
    at_ns: int
    runtime: str
    entry: str
    config: dict[str, object]
    manifest: dict[str, str]
    """path in the bundle -> sha256."""
    bundle: bytes
    """A deterministic tar of those files."""
    engine: dict[str, str]
    """Versions: flux, guest, deno/python, v8, typescript, platform."""
    git_commit: str | None
    git_dirty: bool | None
    route: str = ""
    method: str = ""


class Resource(msgspec.Struct, array_like=True, tag="resource"):
    """An OpenTelemetry resource: appended before the first span that names it. `attributes` is canonical
    JSON text.
    """

    id: str
    attributes: str


class Surroundings(msgspec.Struct, array_like=True, tag="surroundings"):
    """What guest processes of a node are started with besides code: appended before the first execution that
    names it.
    """

    id: str
    """A keyed digest of the rest."""
    bounds: dict[str, int | bool]
    """`memory_mb`, `concurrency`, `dev`."""
    env_names: list[str]
    """What ctx.env holds; the values are sealed."""
    sealed: bytes | None = None
    """AEAD of msgpack {"env": {name: value}}."""


Event = Arrival | Intent | Tally | Answered | End | Spans | Deployed | Resource | Surroundings
