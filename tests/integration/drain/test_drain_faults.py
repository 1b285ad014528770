"""The drain where things go wrong: lost connections, damaged bytes, refused records, copied spools."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import asyncpg
import pytest

from flux.drain import drained
from flux.drain.drain import AWAY, Drain
from flux.drain.status import recorder_status
from flux.record.events import Failure
from flux.recorder.journal import encode
from flux.spool.frames import segments
from tests.integration.drain.recorded import arrival, called, complete, counts, opened, recorder


async def test_a_connection_lost_between_two_batches_loses_nothing_that_was_read_ahead(
    connection: asyncpg.Connection, drain: Drain, spools: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drained, "BATCH_ROWS", 10)
    made = recorder(spools, segment_bytes=4096)
    slow = opened(made, function="slow")
    called(slow, "fetch", b'{"url":"http://slow/"}', n=1, intend=True, result=b'{"status":1}')
    for _ in range(60):
        complete(made)
    slow.end(status=200, outcome="ok")
    for _ in range(60):
        complete(made)
    made.close()
    await connection.execute(
        """
        CREATE FUNCTION lose() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN new; END $$;
        CREATE TRIGGER lose BEFORE INSERT ON flux.executions FOR EACH ROW WHEN (new.function = 'slow')
        EXECUTE FUNCTION lose()
        """
    )
    with pytest.raises(AWAY):
        await drain.once()
    there = (await counts(connection))["executions"]
    assert 10 < there < 121, "some batches went before, some are left"
    assert segments(spools / made.node)[0] == 1, "the slow one's arrival stands in it"
    await connection.execute("DROP FUNCTION lose CASCADE")
    assert await drain.once() == 121 - there
    assert await counts(connection) == {
        "executions": 121, "host_calls": 241, "logs": 120, "spans": 0, "mutations": 0, "quarantine": 0
    }  # fmt: skip
    status = await connection.fetchrow(
        "SELECT outcome, (SELECT result FROM flux.host_calls h WHERE h.request_id = e.request_id) AS result"
        " FROM flux.executions e WHERE function = 'slow'"
    )
    assert (status["outcome"], bytes(status["result"])) == ("ok", b'{"status":1}')


async def test_two_drains_of_one_spool_store_each_record_once(
    connection: asyncpg.Connection, database_url: str, spools: Path
) -> None:
    made = recorder(spools)
    drains = [Drain({"dsn": database_url}, spools, own=made.node) for _ in range(2)]
    for _ in range(10):
        complete(made)
        await asyncio.gather(*(drain.once() for drain in drains))
    for drain in drains:
        await drain.once()
        await drain.close()
    assert await counts(connection) == {
        "executions": 10, "host_calls": 20, "logs": 10, "spans": 0, "mutations": 0, "quarantine": 0
    }  # fmt: skip


async def test_json_that_postgres_refuses_is_left_null_and_its_bytes_are_kept(
    connection: asyncpg.Connection, drain: Drain, spools: Path
) -> None:
    made = recorder(spools)
    bodies = [
        b'{"a":"\\u0000"}',
        b'"\\ud800"',
        b"[" * 3000 + b"]" * 3000,
        b"1e400000",
        b'{"a":"\\\\u0000"}',
        b"no json",
    ]
    for body in bodies:
        execution = opened(made, body=body, url="/a\0b")
        execution.end(status=200, outcome="ok", output=body, error=Failure("E", "nul \0 and half \ud83d"))
    made.close()
    assert await drain.once() == len(bodies)
    rows = await connection.fetch("SELECT body, input_json, output_json, url, error FROM flux.executions")
    assert {bytes(row["body"]): row["input_json"] is not None for row in rows} == {
        body: body == b'{"a":"\\\\u0000"}' for body in bodies
    }
    assert {row["url"] for row in rows} == {"/a\u2400b"}
    assert {json.loads(row["error"])["message"] for row in rows} == {"nul \u2400 and half \ufffd"}


async def test_a_number_too_small_for_postgres_costs_one_execution_its_json(
    connection: asyncpg.Connection, drain: Drain, spools: Path
) -> None:
    made = recorder(spools)
    for _ in range(5):
        complete(made)
    poisoned = complete(made, body=b"1e-20000")
    complete(made)
    made.close()
    assert await drain.once() == 7
    assert (await counts(connection))["executions"] == 7
    assert (await counts(connection))["quarantine"] == 0
    without = await connection.fetch("SELECT request_id, body FROM flux.executions WHERE output_json IS NULL")
    assert [(row["request_id"], bytes(row["body"])) for row in without] == [
        (poisoned.request_id, b"1e-20000")
    ]


async def test_a_record_that_postgres_refuses_goes_raw_to_the_quarantine_and_holds_up_nothing(
    connection: asyncpg.Connection, drain: Drain, spools: Path
) -> None:
    made = recorder(spools)
    complete(made)
    bad = arrival(day="not a day")
    made.open(bad, seed=b"", now_ns=0).end(status=200, outcome="ok")
    made.journal.spool.append(b"\xc1 is no msgpack")
    complete(made)
    made.close()
    await drain.once()
    assert (await counts(connection))["executions"] == 2
    held = await connection.fetch(
        'SELECT request_id, reason, record FROM flux.quarantine ORDER BY segment, "offset"'
    )
    assert [row["request_id"] for row in held] == [bad.request_id, bad.request_id, None]
    assert bytes(held[0]["record"]) == encode(bad)
    assert bytes(held[2]["record"]) == b"\xc1 is no msgpack"
    quarantine = (await recorder_status(spools, connection)).quarantine
    assert quarantine is not None
    assert (quarantine.count, quarantine.reason) == (3, held[2]["reason"])


async def test_damaged_bytes_go_to_the_quarantine_and_reading_goes_on_behind_them(
    connection: asyncpg.Connection, drain: Drain, spools: Path
) -> None:
    made = recorder(spools)
    first = complete(made)
    _, begins = made.journal.spool.place
    complete(made)
    third = complete(made)
    made.close()
    path = spools / made.node / "00000001.seg"
    data = bytearray(path.read_bytes())
    data[begins + 40] ^= 0xFF
    path.write_bytes(data)
    await drain.once()
    there = {row["request_id"] for row in await connection.fetch("SELECT request_id FROM flux.executions")}
    assert there == {first.request_id, third.request_id}
    reasons = [
        row["reason"] for row in await connection.fetch("SELECT reason FROM flux.quarantine ORDER BY id")
    ]
    assert reasons[0] == "Damaged: a record whose checksum is wrong."
    assert reasons[1:] == [
        "An intent of an execution whose arrival is not there.",
        "An end of an execution whose arrival is not there.",
    ]


async def test_a_copied_spool_is_refused_and_named(
    connection: asyncpg.Connection, drain: Drain, spools: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = recorder(spools)
    complete(made)
    elsewhere = spools.with_name("elsewhere")
    shutil.copytree(spools, elsewhere)
    made.close()
    await drain.once()
    copied = Drain({"dsn": str(drain._connect_args["dsn"])}, elsewhere, own=None)
    assert await copied.once() == 0
    await copied.close()
    assert "is a copy of spool" in caplog.text
    assert (elsewhere / made.node).is_dir(), "it is left as it is"
    assert (await counts(connection))["executions"] == 1
    status = await recorder_status(elsewhere, connection)
    assert status.spools[0].problem is not None


async def test_a_finished_spool_whose_folder_came_back_is_not_drained_again(
    connection: asyncpg.Connection, drain: Drain, spools: Path
) -> None:
    made = recorder(spools)
    complete(made)
    made.close()
    hidden = spools.with_name("hidden")
    (spools / made.node).rename(hidden)
    spools_again = spools / made.node
    shutil.copytree(hidden, hidden.with_name("spare"))
    hidden.rename(spools_again)
    await connection.execute(
        'INSERT INTO flux.spool_positions (spool_id, segment, "offset", finished) VALUES ($1, 1, 0, true)',
        made.node,
    )
    assert await drain.once() == 0
    assert (await counts(connection))["executions"] == 0
    assert not spools_again.exists()


async def test_closed_connections_delay_records_and_lose_none(
    connection: asyncpg.Connection, database_url: str, spools: Path
) -> None:
    made = recorder(spools)
    stop = asyncio.Event()
    drain = Drain({"dsn": database_url}, spools, own=made.node)
    task = asyncio.create_task(drain.run(stop))
    for _ in range(5):
        for _ in range(20):
            complete(made)
        await asyncio.sleep(0)
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() "
            "AND pid <> pg_backend_pid()"
        )
    await until(lambda: made.journal.spool.drained() == made.journal.spool.place)
    stop.set()
    await task
    await drain.close()
    found = await counts(connection)
    assert (found["executions"], found["host_calls"], found["quarantine"]) == (100, 200, 0)


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what another task brings about."""
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.002)
