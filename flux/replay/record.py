"""What was recorded of an execution, exact and unsealed: all that a replay needs, or what is missing.

Read by `flux.replay.run`. Nothing is approximated: what the record can't give is refused.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

import msgspec

from flux.errors import FluxError
from flux.record.call import CallError
from flux.record.events import Failure
from flux.recorder.seal import Sealer, SealError
from flux.runtime import bundle
from flux.runtime.deployment import Deployment
from flux.runtime.request import Request, query_members
from flux.store.sql import Queries

Q = Queries("flux.replay")

CUT_SHORT = {
    "DeadlineExceeded": "its deadline ended it",
    "Cancelled": "its caller went away",
    "GuestDied": "its guest process died",
    "SpoolFull": "the spool was full",
    "SpoolGone": "the spool was gone",
    "Unrecorded": "the spool was full",
    "InternalError": "Flux failed",
}
"""Failures that come from outside of the function, at a moment that nothing in its record determines."""


class Refused(FluxError):
    """An execution can't be replayed.

    Args:
        kind: the stable name of what is missing. message: the same for people.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class Database(Protocol):
    """Where connections come from (`flux.store.database.Store`)."""

    def internal(self, *, patience: float | None = None) -> AbstractAsyncContextManager[Any]:
        """A connection that may read `flux.*`."""
        ...


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the guest process was started with besides code; see `flux.record.events.Surroundings`."""

    id: str
    env: Mapping[str, str] = field(repr=False)
    memory_mb: int
    concurrency: int
    dev: bool


@dataclass(frozen=True, slots=True)
class RecordedCall:
    """A host call as it was. `delivered` is None where it was never answered; `whole` False where
    `arguments` was cut to its beginning, of which `sha256` is the digest of all.
    """

    seq: int
    op: str
    arguments: bytes
    whole: bool
    sha256: bytes | None
    delivered: int | None
    result: bytes | None
    error: CallError | None
    now_ns: int
    tx: int | None
    span: str | None


@dataclass(frozen=True, slots=True)
class RecordedLine:
    """A log line as it was."""

    seq: int
    level: str
    message: str
    fields: bytes | None


@dataclass(frozen=True, slots=True)
class Recorded:
    """An execution as it was.

    Attributes:
        request_id, trace_id, span_id: its identity and its root span.
        function_span: the span that the function was told of.
        node, guest, invocation, sent: the guest process, its number there, its place in the node's order.
        seed, now_ns: of its random numbers and its clock.
        request: what was asked, as a replay asks it again.
        calls, lines: by seq. spans: the names of those that the function opened, in their order.
        status, outcome, output, headers, error: how it ended. `whole` False: `output` was cut to its
            beginning, and `sha256` is the digest of all.
        cut_short: why it ended where nothing in it determines the end; None where it ended by itself.
    """

    request_id: str
    trace_id: str
    span_id: str
    function_span: str
    function: str
    deployment: Deployment
    surroundings: Surroundings
    node: str
    guest: str
    invocation: int
    sent: int
    seed: bytes
    now_ns: int
    request: Request
    calls: Mapping[int, RecordedCall]
    lines: Mapping[int, RecordedLine]
    spans: Sequence[str]
    status: int | None
    outcome: str
    output: bytes | None
    whole: bool
    sha256: bytes | None
    headers: Sequence[tuple[str, str]]
    error: Failure | None
    cut_short: str | None

    @property
    def last(self) -> int:
        """The number of its last call or log line."""
        return max((*self.calls, *self.lines), default=0)


class Records:
    """Reads executions out of the database.

    Args:
        database: gives connections. sealer: opens what is sealed.
        versions: runtime name to the versions of what would run it now.
    """

    def __init__(self, database: Database, sealer: Sealer, versions: Mapping[str, Mapping[str, str]]) -> None:
        self._database = database
        self._sealer = sealer
        self._versions = versions
        self._deployments: dict[str, Deployment] = {}

    async def read(self, ids: Sequence[str]) -> dict[str, Recorded | Refused]:
        """The executions of those ids, in that order, each whole or with the reason why it is not."""
        async with self._database.internal() as connection:
            rows = {row["request_id"]: row for row in await connection.fetch(Q.executions, list(ids))}
            days = sorted({row["day"] for row in rows.values()})
            of = {
                name: await connection.fetch(Q[name], list(ids), days) for name in ("calls", "logs", "spans")
            }
            wanted = {row["deployment"] for row in rows.values()} - {None, *self._deployments}
            for row in await connection.fetch(Q.deployments, list(wanted)) if wanted else ():
                self._deployments[row["id"]] = _deployment(row)
        parts = {name: _by_execution(found) for name, found in of.items()}
        found: dict[str, Recorded | Refused] = {}
        for each in ids:
            try:
                if each not in rows:
                    raise Refused("NotFound", f"No execution {each} is recorded.")
                found[each] = self._recorded(rows[each], *(parts[name][each] for name in of))
            except Refused as refused:
                found[each] = refused
            except SealError as error:
                found[each] = Refused("Sealed", f"What is sealed can't be opened: {error.message}")
        return found

    async def original(self, request_id: str) -> str:
        """The execution that a replay repeats; the id itself of what is none."""
        async with self._database.internal() as connection:
            while (found := await connection.fetchval(Q.original, request_id)) is not None:
                request_id = found
        return request_id

    async def listed(
        self, since: datetime, until: datetime, function: str | None, failed: bool
    ) -> list[tuple[str, str | None]]:
        """Ids and guests of what ran between two times, oldest first; replays and rejections left out."""
        async with self._database.internal() as connection:
            rows = await connection.fetch(Q.window, since, until, function, failed)
        return [(row["request_id"], row["guest"]) for row in rows]

    async def before(self, recorded: Recorded, most: int) -> list[str]:
        """The ids of what its guest process ran before it, and its own, oldest first; `most` at most."""
        async with self._database.internal() as connection:
            where = recorded.function, recorded.guest, recorded.node, recorded.sent
            rows = await connection.fetch(Q.before, *where, most)
        return [row["request_id"] for row in reversed(rows)]

    def _recorded(self, row: Any, calls: list[Any], lines: list[Any], spans: list[Any]) -> Recorded:
        name = row["function"]
        _refuse_what_was_not_kept(row)
        deployment = self._deployments.get(row["deployment"])
        if deployment is None:
            raise Refused("MissingDeployment", f"The code that ran ({row['deployment']}) is not stored.")
        self._refuse_other_versions(deployment)
        own: dict[str, Any] = {}
        for blob in row["sealed"] or ():
            own.update(self._sealer.open(blob))
        if "seed" not in own:
            raise Refused("NoSeed", "Its seed is not kept: without FLUX_MASTER_KEY nothing can be sealed.")
        if row["surroundings_sealed"] is None:
            raise Refused("NoSurroundings", "What its guest was started with is not kept.")
        if row["guest"] is None or row["sent"] is None:
            raise Refused("NoGuest", "Which guest process ran it is not kept.")
        error = own.get("error")
        if error is None and row["error_exact"] is not None:
            error = msgspec.json.decode(row["error_exact"])
        failure = None if error is None else msgspec.convert(error, Failure)
        opened = [each["name"] for each in spans if each["opened"]]
        names = {each["span_id"]: each["name"] for each in spans if each["opened"]}
        output = own.get("output", row["output"])
        return Recorded(
            request_id=row["request_id"],
            trace_id=row["trace_id"],
            span_id=row["span_id"],
            function_span=next((each["span_id"] for each in spans if not each["opened"]), "0" * 16),
            function=name,
            deployment=deployment,
            surroundings=self._surroundings(row),
            node=row["node"],
            guest=row["guest"],
            invocation=row["invocation"],
            sent=row["sent"],
            seed=own["seed"],
            now_ns=own["now_ns"],
            request=_request(row, own),
            calls={call["seq"]: self._call(call, names) for call in calls},
            lines={line["seq"]: self._line(line) for line in lines},
            spans=opened,
            status=row["status"],
            outcome=row["outcome"],
            output=output,
            whole="output" in own or output is None or row["output_size"] == len(output),
            sha256=row["output_sha256"],
            headers=[
                (key, value) for key, value in own.get("response_headers") or _json(row["response_headers"])
            ],
            error=failure,
            cut_short="its process ended"
            if row["outcome"] == "interrupted"
            else CUT_SHORT.get(failure.type if failure is not None and failure.file is None else ""),
        )

    def _refuse_other_versions(self, deployment: Deployment) -> None:
        now = self._versions.get(deployment.runtime)
        if now is None:
            raise Refused("OtherGuest", f"Nothing here runs {deployment.runtime}.")
        for name, version in now.items():
            before = deployment.engine.get(name)
            if before != version:
                raise Refused(
                    "OtherGuest", f"It ran with another {name} than there is now: {before}, now {version}."
                )

    def _surroundings(self, row: Any) -> Surroundings:
        bounds = json.loads(row["bounds"])
        env = self._sealer.open(row["surroundings_sealed"])["env"]
        return Surroundings(
            row["surroundings"], env, bounds["memory_mb"], bounds["concurrency"], bounds["dev"]
        )

    def _call(self, row: Any, spans: Mapping[str, str]) -> RecordedCall:
        own = {} if row["sealed"] is None else self._sealer.open(row["sealed"])
        if row["delivered"] is not None and row["result_size"] is not None and "result" not in own:
            raise Refused(
                "CutResult",
                f"The answer to its host call {row['seq']} ({row['op']}) was cut: it had "
                f"{row['result_size']} bytes, of which {len(row['result'])} are kept.",
            )
        error = own.get("error")
        if error is None and row["error_exact"] is not None:
            error = msgspec.json.decode(row["error_exact"])
        if row["delivered"] is not None and row["now_ns"] is None:
            raise Refused(
                "NoClock", f"The clock that the answer to its host call {row['seq']} carried is not kept."
            )
        return RecordedCall(
            seq=row["seq"],
            op=row["op"],
            arguments=own.get("arguments", row["arguments"]),
            whole=row["arguments_size"] is None or "arguments" in own,
            sha256=row["arguments_sha256"],
            delivered=row["delivered"],
            result=own.get("result", row["result"]),
            error=None if error is None else msgspec.convert(error, CallError),
            now_ns=row["now_ns"] or 0,
            tx=row["tx"],
            span=spans.get(row["parent_span_id"]),
        )

    def _line(self, row: Any) -> RecordedLine:
        own = {} if row["sealed"] is None else self._sealer.open(row["sealed"])
        message, fields = own.get("message", row["message"]), own.get("fields", row["fields"])
        return RecordedLine(row["seq"], row["level"], message, fields)


def _refuse_what_was_not_kept(row: Any) -> None:
    if row["function"] is None or row["outcome"] == "rejected" or row["count"] > 1:
        raise Refused("NeverRan", "It was rejected: no function ran.")
    if row["record"] == "none" or (row["record"] == "errors" and row["outcome"] == "ok"):
        raise Refused("NotRecorded", f'Its payloads and calls were not kept (`"record": "{row["record"]}"`).')
    if row["deployment"] is None:
        raise Refused("NeverRan", "No function of that name was served.")
    if row["body_size"] and row["body_size"] != len(row["body"] or b"") and not row["sealed"]:
        raise Refused("CutInput", f"Its input was cut: it had {row['body_size']} bytes.")


def _request(row: Any, own: Mapping[str, Any]) -> Request:
    query = own.get("query", row["query"])
    params = own.get("params")
    if params is None:
        params = msgspec.json.decode(row["params_exact"]) if row["params_exact"] else {}
    return Request(
        trigger="replay",
        function=row["function"],
        body=own.get("body", row["body"] or b""),
        input=own.get("input", row["input"]),
        method=row["method"],
        url=own.get("url", row["url"]),
        path=own.get("path", row["path"]),
        route=row["route"],
        query=query,
        params=params,
        query_params=query_members(query) if query else {},
        headers=[(key, value) for key, value in own.get("headers", _json(row["request_headers"]))],
    )


def _deployment(row: Any) -> Deployment:
    return Deployment(
        id=row["id"],
        function=row["function"],
        runtime=row["runtime"],
        entry=row["entry"],
        files=bundle.unpack(row["bundle"]),
        manifest=json.loads(row["manifest"]),
        config=json.loads(row["config"]),
        engine=json.loads(row["engine"]),
    )


def _by_execution(rows: Sequence[Any]) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = defaultdict(list)
    for row in rows:
        found[row["request_id"]].append(row)
    return found


def _json(text: str | None) -> Any:
    return [] if text is None else json.loads(text)
