"""Records that can't be had through a server: whatever stands in a spool is stored exactly, or quarantined
exactly, and never holds up what comes after it.
"""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import asyncpg
import msgspec

from flux.drain.drain import Drain
from flux.drain.status import recorder_status
from flux.record.call import Attempt, CallError
from flux.record.events import Call, End, Event, Failure, Intent, LogLine, Spans
from flux.recorder.journal import encode
from flux.recorder.recorder import Recorder
from tests.integration.drain.recorded import arrival, complete, recorder

ROUNDS = int(os.environ.get("FLUX_POISON_ROUNDS", "60"))
SEED = int(os.environ.get("FLUX_POISON_SEED", "7"))

TEXTS = ("\0", "\ud800", "\udfff\ud800", "\u2400", "", "x" * (2**20 + 3), "\\u0000", "'", "\uffff", "\x1b[2J")
BYTES = (
    b'"\\u0000"', b'"\\ud800"', b"\xff\xfe", b"NaN", b"[" * 5000 + b"]" * 5000, b'{"a":1,"a":2}', b"1e400",
    b"1" * 5000, b"", b'{"a":1e-400}', b"\0", b"x" * (2**20 + 1), b"-0.0",
)  # fmt: skip
NUMBERS = (0, -1, 2**31 - 1, 2**31, 2**63 - 1, -(2**63), 2**64 - 1, -(2**31) - 1)
VALUES = (*TEXTS, *BYTES, *NUMBERS, float("nan"), float("inf"), None, True, [], {}, ["\0"], {"\0": "\ud800"})


def _poison(draw: random.Random, made: Recorder) -> tuple[str, list[bytes]]:
    """An execution with wrong values in it; its id, and its records as they were appended."""
    began = arrival(
        body=draw.choice(BYTES),
        input=draw.choice((None, *BYTES)),
        url=draw.choice(TEXTS),
        path=draw.choice(TEXTS),
        query=draw.choice(TEXTS),
        function=draw.choice((None, *TEXTS)),
        params={draw.choice(TEXTS): draw.choice(TEXTS)},
        headers=[(draw.choice(TEXTS), draw.choice(TEXTS))],
    )
    calls = [
        Call(
            seq,
            draw.choice(("fetch", *TEXTS)),
            draw.choice(BYTES),
            "done",
            1,
            10**18,
            result=draw.choice((None, *BYTES)),
            error=draw.choice((None, CallError(draw.choice(TEXTS), draw.choice(TEXTS), {"\0": "\ud800"}))),
        )
        for seq in (1, 2)
    ]
    lines = [LogLine(3, 10**18, draw.choice(TEXTS), draw.choice(TEXTS), draw.choice((None, *BYTES)), None)]
    end = End(began.request_id, 200, "ok", 1, output=draw.choice((None, *BYTES)), calls=calls[1:], logs=lines)
    end.error = draw.choice((None, Failure("E", draw.choice(TEXTS), fields={"\0": draw.choice(VALUES)})))
    end.warnings = [draw.choice(TEXTS)]
    end.attempts = [Attempt(draw.choice(NUMBERS), 7, "public", "\0", "INSERT", None, None, b"{", 10**18)]
    row: list[Any] = ["a" * 16, "b" * 32, None, "n", 1, 10**18, 5, 1, None, {}, None, None, None, None]
    row[draw.randrange(3, 13)] = draw.choice(VALUES)
    end.spans = [tuple(row)]
    for _ in range(draw.randrange(3)):
        target, member = draw.choice(
            (
                (began, "day"), (began, "started_ns"), (began, "job_attempt"), (began, "body_size"),
                (end, "status"), (end, "duration_ns"), (end, "invocation"), (calls[0], "seq"),
                (calls[1], "at_ns"),
                (calls[0], "xid"), (calls[1], "snapshot"), (calls[1], "tx"), (calls[0], "duration_ns"),
                (lines[0], "at_ns"), (lines[0], "seq"), (end.attempts[0], "xid"), (end.attempts[0], "at_ns"),
            )
        )  # fmt: skip
        texts = member in ("day", "snapshot")
        setattr(target, member, draw.choice(TEXTS) if texts else draw.choice(NUMBERS))
    events = [began, Intent(began.request_id, calls[:1]), end]
    for event in events:
        made.journal.write(event, {}, begins=event is began)
    if draw.random() < 0.2:
        loose = Spans([tuple(row), tuple(row[: draw.randrange(14)])])
        made.journal.write(loose, {})
    return began.request_id, [encode(event) for event in events]


async def test_random_wrong_values_are_stored_or_quarantined_exactly_and_hold_up_nothing(
    connection: asyncpg.Connection, drain: Drain, spools: Path
) -> None:
    draw = random.Random(SEED)
    made = recorder(spools)
    poisoned: dict[str, list[bytes]] = {}
    fine = []
    for _ in range(ROUNDS):
        request_id, records = _poison(draw, made)
        poisoned[request_id] = records
        fine.append(complete(made).request_id)
    made.close()
    while await drain.once():
        pass
    executions = {row["request_id"]: row for row in await connection.fetch("SELECT * FROM flux.executions")}
    assert set(fine) <= set(executions)
    quarantine = await connection.fetch('SELECT * FROM flux.quarantine ORDER BY segment, "offset"')
    kept: dict[str, list[bytes]] = {}
    for row in quarantine:
        kept.setdefault(row["request_id"], []).append(row["record"])
        assert row["reason"]
    for request_id, records in poisoned.items():
        assert (request_id in executions) != (request_id in kept)
        if request_id in kept:
            assert kept[request_id] == records
            continue
        await _exact(connection, executions[request_id], records)
    status = await recorder_status(spools, connection)
    assert status.quarantine is not None
    assert status.quarantine.count == len(quarantine)
    assert (status.lag, status.spools) == (0, [])
    assert len(kept) < len(poisoned)


async def _exact(connection: asyncpg.Connection, row: asyncpg.Record, records: list[bytes]) -> None:
    """What replay reads is what was recorded, byte for byte."""
    began, intent, end = (msgspec.msgpack.decode(data, type=Event) for data in records)
    assert row["body"] == (began.body or None)
    assert row["input"] == began.input
    assert row["output"] == end.output
    stored = await connection.fetch(
        "SELECT arguments, result FROM flux.host_calls WHERE request_id = $1 ORDER BY seq", row["request_id"]
    )
    calls = {call.seq: call for call in (*intent.calls, *end.calls)}
    assert [(r["arguments"], r["result"]) for r in stored] == [
        (calls[seq].arguments, calls[seq].result) for seq in sorted(calls)
    ]
    fields = await connection.fetchval(
        "SELECT fields FROM flux.logs WHERE request_id = $1", row["request_id"]
    )
    assert fields == end.logs[0].fields
