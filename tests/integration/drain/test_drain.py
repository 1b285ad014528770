"""What was appended to a spool is in Postgres: complete, once, whatever happens on the way."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path

import asyncpg

from flux.drain.drain import Drain
from flux.drain.status import recorder_status
from flux.record.call import Attempt, CallError, HostCall
from flux.record.events import Deployed, End, Failure, Spans
from flux.recorder.seal import Sealer
from flux.spool.frames import segments
from tests.integration.drain.recorded import MASTER, arrival, called, complete, counts, opened, recorder


async def test_an_execution_is_stored_with_all_that_belongs_to_it(
    connection: asyncpg.Connection, drain: Drain, spools: Path
) -> None:
    made = recorder(spools)
    execution = opened(made, input=b'{"name":"ada"}', client="127.0.0.1")
    begin = HostCall("db.begin", b"{}", 1)
    execution.start(begin, "a" * 16)
    called(
        execution,
        "fetch",
        b'{"url":"http://a/"}',
        n=2,
        intend=True,
        result=b'{"status":200}',
        span_id="b" * 16,
    )
    inner = HostCall("db.sql", b'{"text":"select 1"}', 3, tx=1)
    execution.start(inner, None)
    from_postgres = CallError("unique_violation", "no", {"sqlstate": "23505"})
    called(
        execution,
        "db.sql",
        b"{}",
        n=4,
        error=from_postgres,
        xid=2**40,
        snapshot="10:20:10,14",
        first_n=1,
        last_n=2,
    )
    execution.log(HostCall("log", b"{}", 5), "warn", "look", b'{"a":[1]}', "c" * 16)
    execution.warn("something")
    execution.end(
        status=201,
        outcome="error",
        output=b'{"b":1,"a":2}',
        response_headers=[("x-a", "1")],
        error=Failure("TypeError", "bad", "functions/a.ts", 3, 4),
        guest="g1",
        invocation=7,
        duration_ns=1_500_000,
    )
    made.close()
    assert await drain.once() == 1

    row = await connection.fetchrow("SELECT * FROM flux.executions")
    assert row["request_id"] == execution.request_id
    assert row["node"] == made.node
    assert (row["status"], row["outcome"], row["duration_ms"]) == (201, "error", 1.5)
    assert bytes(row["output"]) == b'{"b":1,"a":2}'
    assert row["output_size"] == 13
    assert json.loads(row["output_json"]) == {"a": 2, "b": 1}
    assert bytes(row["body"]) == b'{"name": "ada"}'
    assert json.loads(row["error"]) == {
        "type": "TypeError",
        "message": "bad",
        "file": "functions/a.ts",
        "line": 3,
        "column": 4,
    }
    assert json.loads(row["request_headers"]) == [["content-type", "application/json"]]
    assert json.loads(row["warnings"]) == ["something"]
    assert (row["guest"], row["invocation"], row["client"]) == ("g1", 7, "127.0.0.1")
    assert Sealer(MASTER).open(row["sealed"][0]) == {"seed": b"s" * 32, "now_ns": 1}

    calls = await connection.fetch("SELECT * FROM flux.host_calls ORDER BY seq")
    assert [(c["seq"], c["op"], c["status"], c["tx"]) for c in calls] == [
        (1, "db.begin", "abandoned", None),
        (2, "fetch", "done", None),
        (3, "db.sql", "abandoned", 1),
        (4, "db.sql", "done", None),
    ]
    assert bytes(calls[1]["arguments"]) == b'{"url":"http://a/"}'
    assert bytes(calls[1]["result"]) == b'{"status":200}'
    assert calls[0]["started"] < calls[1]["started"] < calls[1]["delivered"] < calls[2]["started"]
    assert (calls[3]["xid"], calls[3]["snapshot"]) == (2**40, (10, 20, (10, 14)))
    assert json.loads(calls[3]["error"])["detail"] == {"sqlstate": "23505"}
    line = await connection.fetchrow("SELECT * FROM flux.logs")
    assert (line["seq"], line["level"], line["message"], bytes(line["fields"])) == (
        5,
        "warn",
        "look",
        b'{"a":[1]}',
    )


async def test_the_record_of_a_live_spool_is_readable_within_half_a_second(
    connection: asyncpg.Connection, database_url: str, spools: Path
) -> None:
    made = recorder(spools)
    drain, stop = Drain({"dsn": database_url}, spools, own=made.node), asyncio.Event()
    task = asyncio.create_task(drain.run(stop))
    complete(made)
    await until(lambda: made.journal.spool.drained() == made.journal.spool.place)
    began = time.monotonic()
    complete(made)
    await until(lambda: made.journal.spool.drained() == made.journal.spool.place)
    took = time.monotonic() - began
    stop.set()
    await task
    await drain.close()
    assert took < 0.5
    assert (await counts(connection))["executions"] == 2


async def test_what_comes_while_a_batch_is_stored_is_stored_with_what_comes_after_it(
    connection: asyncpg.Connection, database_url: str, spools: Path
) -> None:
    made = recorder(spools)
    complete(made)
    drain = Drain({"dsn": database_url}, spools, own=made.node)
    await drain.once()
    blocking = connection.transaction()
    await blocking.start()
    await connection.execute("LOCK TABLE flux.executions IN SHARE MODE")
    complete(made)
    storing = asyncio.create_task(drain.once())
    while not await connection.fetchval(
        "SELECT true FROM pg_locks WHERE relation = 'flux.executions'::regclass AND NOT granted"
    ):
        await asyncio.sleep(0.01)
    complete(made)
    await blocking.rollback()
    assert await storing == 1, "one record is not worth a transaction"
    complete(made)
    assert await drain.once() == 2
    await drain.close()
    assert (await counts(connection))["executions"] == 4
    made.close()


async def test_what_was_open_when_its_process_died_is_interrupted_with_its_calls_unknown(
    connection: asyncpg.Connection, drain: Drain, spools: Path
) -> None:
    made = recorder(spools)
    execution = opened(made)
    called(execution, "db.query", b'{"table":"a"}', n=1, result=b"{}")
    sent = HostCall("fetch", b'{"url":"http://b/"}', 2)
    execution.start(sent, None)
    execution.intend(sent)
    made.close()
    await drain.once()
    row = await connection.fetchrow("SELECT outcome, status, duration_ms, sealed FROM flux.executions")
    assert (row["outcome"], row["status"], row["duration_ms"]) == ("interrupted", None, None)
    calls = await connection.fetch("SELECT op, status, delivered FROM flux.host_calls ORDER BY seq")
    assert [tuple(call) for call in calls] == [("db.query", "done", 2), ("fetch", "unknown", None)]


async def test_an_orphan_is_adopted_finished_and_deleted(
    connection: asyncpg.Connection, drain: Drain, spools: Path
) -> None:
    made = recorder(spools)
    complete(made)
    assert await drain.once() == 0, "its writer lives"
    made.close()
    assert await drain.once() == 1
    assert list(spools.iterdir()) == []
    assert await connection.fetchval(
        "SELECT finished FROM flux.spool_positions WHERE spool_id = $1", made.node
    )


async def test_an_execution_long_in_flight_holds_up_no_other_and_is_not_emitted_twice(
    connection: asyncpg.Connection, database_url: str, spools: Path
) -> None:
    made = recorder(spools, segment_bytes=4096)
    slow = opened(made)
    called(slow, "fetch", b'{"url":"http://slow/"}', n=1, intend=True, result=b'{"status":1}')
    others = [complete(made) for _ in range(30)]
    first = Drain({"dsn": database_url}, spools, own=made.node)
    assert await first.once() == 30
    kept = segments(made.journal.spool.folder)
    assert kept[0] == 1, "the slow one's arrival stands in it"
    assert len(kept) < 5, "the rest has been deleted"
    await first.close()

    second = Drain({"dsn": database_url}, spools, own=made.node)
    assert await second.once() == 0
    complete(made)
    slow.end(status=200, outcome="ok")
    assert await second.once() == 2
    await second.close()
    there = await connection.fetch("SELECT request_id, outcome FROM flux.executions")
    assert len(there) == 32
    assert {row["outcome"] for row in there} == {"ok"}
    assert {other.request_id for other in others} < {row["request_id"] for row in there}
    result = await connection.fetchval(
        "SELECT result FROM flux.host_calls WHERE request_id = $1", slow.request_id
    )
    assert bytes(result) == b'{"status":1}'


async def test_rolled_back_rows_are_those_announced_and_not_committed_by_that_transaction(
    connection: asyncpg.Connection, drain: Drain, spools: Path
) -> None:
    made = recorder(spools)
    execution = opened(made)
    await connection.execute(
        "INSERT INTO flux.mutations (request_id, day, n, xid, system_id, schema_name, table_name, op, "
        "at, origin)"
        " VALUES ($1, $2::text::date, 5, '100', 1, 'public', 'users', 'INSERT', now(), 'flux')",
        execution.request_id,
        execution.day,
    )
    execution.attempts(
        [
            Attempt(5, 100, "public", "users", "INSERT", b'{"id":1}', None, b'{"id":1}', 10**18),
            Attempt(
                6, 100, "public", "users", "UPDATE", b'{"id":1}', b'{"a":1}', b'{"a":2}', 10**18, seq=3, cut=9
            ),
        ]
    )
    execution.end(status=500, outcome="error")
    made.close()
    await drain.once()
    filed = "SELECT n FROM flux.mutations WHERE row_hash = jsonb_hash_extended($1::jsonb, 0)"
    assert [row["n"] for row in await connection.fetch(filed, '{"id": 1}')] == [6]
    rows = await connection.fetch(
        "SELECT n, xid, rolled_back, seq, cut, before, origin FROM flux.mutations ORDER BY n"
    )
    assert [tuple(row) for row in rows] == [
        (5, 100, False, None, None, None, "flux"),
        (6, 100, True, 3, 9, '{"a": 1}', "flux"),
    ]


async def test_a_deployment_is_stored_once_and_the_function_points_at_the_latest(
    connection: asyncpg.Connection, drain: Drain, spools: Path
) -> None:
    made = recorder(spools)
    for at, name in ((2, "b" * 64), (1, "a" * 64), (2, "b" * 64)):
        entry, files = "hello/index.ts", {"hello/index.ts": "0"}
        made.deployed(
            Deployed(
                name,
                "hello",
                at,
                "typescript",
                entry,
                {"x": 1},
                files,
                b"tar",
                {},
                None,
                None,
                "/hello",
                "POST",
            )
        )
    made.close()
    await drain.once()
    assert await connection.fetchval("SELECT count(*) FROM flux.deployments") == 2
    assert await connection.fetchval("SELECT deployment FROM flux.functions") == "b" * 64


async def test_a_span_takes_the_execution_of_a_parent_that_is_stored_with_it(
    connection: asyncpg.Connection, drain: Drain, spools: Path
) -> None:
    made = recorder(spools)
    began = arrival()
    end = End(began.request_id, 200, "ok", 1)

    def span(span_id: str, parent: str | None) -> tuple[object, ...]:
        rest = ("n", 1, began.started_ns, 5, 1, None, {}, None, None, None, None)
        return (span_id, began.trace_id, parent, *rest)

    end.spans = [span(began.span_id, None)]
    made.journal.write(began, {}, begins=True)
    made.journal.write(end, {})
    made.journal.write(Spans([span("b" * 16, began.span_id), span("c" * 16, "b" * 16)]), {})
    made.close()
    await drain.once()
    found = await connection.fetch("SELECT span_id, request_id, day::text FROM flux.spans")
    place = (began.request_id, began.day)
    assert {row["span_id"]: (row["request_id"], row["day"]) for row in found} == dict.fromkeys(
        (began.span_id, "b" * 16, "c" * 16), place
    )


async def test_a_record_of_a_long_gone_day_gets_its_partition(
    connection: asyncpg.Connection, drain: Drain, spools: Path
) -> None:
    made = recorder(spools)
    complete(made, day="2021-03-04")
    made.close()
    await drain.once()
    assert await connection.fetchval("SELECT count(*) FROM flux.executions_20210304") == 1


async def test_levels_none_and_errors_leave_out_payloads_calls_logs_and_spans(
    connection: asyncpg.Connection, drain: Drain, spools: Path
) -> None:
    made = recorder(spools)
    bare = [complete(made, record="none"), complete(made, record="errors")]
    interrupted = opened(made, record="errors")
    called(interrupted, "fetch", b"{}", n=1, intend=True, result=b"{}")
    failed = opened(made, record="errors")
    called(failed, "fetch", b"{}", n=1, intend=True, result=b"{}")
    failed.end(status=500, outcome="error", error=Failure("E", "m"))
    made.close()
    await drain.once()
    rows = {row["request_id"]: row for row in await connection.fetch("SELECT * FROM flux.executions")}
    for execution in bare:
        row = rows[execution.request_id]
        assert (row["outcome"], row["body"], row["output"], row["query"], row["sealed"]) == (
            "ok",
            None,
            None,
            None,
            None,
        )
        assert (row["url"], row["body_size"]) == ("http://localhost:4000/hello", 15)
    assert rows[interrupted.request_id]["outcome"] == "interrupted"
    kept = rows[failed.request_id]
    assert (bytes(kept["body"]), kept["query"], len(kept["sealed"])) == (b'{"name": "ada"}', "name=ada", 1)
    assert await connection.fetchval("SELECT array_agg(request_id) FROM flux.host_calls") == [
        failed.request_id
    ]


async def test_durability_postgres_waits_for_the_commit(
    connection: asyncpg.Connection, database_url: str, spools: Path
) -> None:
    made = recorder(spools, durability="postgres")
    stop = asyncio.Event()
    drain = Drain({"dsn": database_url}, spools, own=made.node)
    complete(made)
    waiting = asyncio.create_task(made.settle())
    task = asyncio.create_task(drain.run(stop))
    await waiting
    assert (await counts(connection))["executions"] == 1
    stop.set()
    await task
    await drain.close()


async def test_status_counts_what_postgres_does_not_have(
    connection: asyncpg.Connection, drain: Drain, spools: Path
) -> None:
    made = recorder(spools)
    complete(made)
    status = await recorder_status(spools, connection)
    assert status.lag == 3
    assert status.bytes > 500
    made.close()
    await drain.once()
    assert (await recorder_status(spools, connection)).lag == 0


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what another task brings about."""
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.002)
