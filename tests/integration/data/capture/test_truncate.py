"""TRUNCATE takes rows that its transaction can't see: they are in the log all the same."""

from __future__ import annotations

from collections.abc import AsyncIterator

import asyncpg
import pytest

from tests.integration.data.capture.owner import Owner, backward, forward

SNAPSHOT = "SELECT 1"
COMPLETE = "SELECT flux.complete_truncations()"


@pytest.fixture
async def other(owner: Owner, database_url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


async def _whole(owner: Owner, table: str, states: list[tuple[int, object]]) -> None:
    log = await owner.log()
    assert len({mutation["n"] for mutation in log}) == len(log)
    final = await owner.state([table])
    empty = {table: type(final[table])()}
    assert backward(final, log) == empty
    assert forward(empty, log) == final
    for last, state in states:
        assert forward(empty, [m for m in log if m["n"] <= last]) == state


@pytest.mark.parametrize("isolation", ["REPEATABLE READ", "SERIALIZABLE"])
@pytest.mark.parametrize("key", ["PRIMARY KEY", ""])
async def test_rows_newer_than_its_snapshot_are_captured(
    owner: Owner, other: asyncpg.Connection, isolation: str, key: str
) -> None:
    await owner.run(
        f"CREATE TABLE t (id int {key}, v text)",
        "INSERT INTO t SELECT g, 'old' FROM generate_series(1, 5) g",
    )
    epochs = await owner.epochs()
    await owner.run(f"BEGIN ISOLATION LEVEL {isolation}", "SELECT count(*) FROM t")
    await other.execute("INSERT INTO t VALUES (10, 'new'), (11, 'new')")
    await other.execute("UPDATE t SET v = 'changed' WHERE id = 2; DELETE FROM t WHERE id = 3")
    await other.execute("UPDATE t SET id = 40 WHERE id = 4; DELETE FROM t WHERE id = 11")
    await other.execute("BEGIN; INSERT INTO t VALUES (12, 'undone'); ROLLBACK")
    last = await other.fetchval("SELECT max(n) FROM flux.mutations")
    state = await Owner(other).state(["t"])
    await owner.run(
        "INSERT INTO t VALUES (20, 'own')" if isolation[0] == "R" else "SELECT", "TRUNCATE t", "COMMIT"
    )
    await owner.run("INSERT INTO t VALUES (1, 'after')")
    assert (await owner.epochs())[-1] == ("t", "truncate beyond its snapshot")
    assert await owner.connection.fetchval(COMPLETE) == 1
    assert await owner.epochs() == epochs
    gone = [m for m in await owner.log("op = 'TRUNCATE'") if m["before"]["v"] != "own"]
    assert sorted((m["before"]["id"], m["before"]["v"]) for m in gone) == [
        (1, "old"), (2, "changed"), (5, "old"), (10, "new"), (40, "old"),
    ]  # fmt: skip
    assert {(m["key"] or {}).get("id", m["before"]["id"]) == m["before"]["id"] for m in gone} == {True}
    assert len({(m["request_id"], m["xid"], m["actor"]) for m in gone}) == 1
    await _whole(owner, "t", [(last, state)])


async def test_of_a_partition_only_its_own_rows_are_completed(
    owner: Owner, other: asyncpg.Connection
) -> None:
    await owner.run(
        "CREATE TABLE p (id int PRIMARY KEY) PARTITION BY RANGE (id)",
        "CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10)",
        "CREATE TABLE p2 PARTITION OF p FOR VALUES FROM (10) TO (20)",
        "BEGIN ISOLATION LEVEL REPEATABLE READ", "SELECT count(*) FROM p",
    )  # fmt: skip
    await other.execute("INSERT INTO p VALUES (5), (15)")
    await owner.run("TRUNCATE p1", "COMMIT")
    assert await owner.connection.fetchval(COMPLETE) == 1
    assert [m["before"] for m in await owner.log("op = 'TRUNCATE'")] == [{"id": 5}]
    await _whole(owner, "p", [])


async def test_one_that_is_undone_leaves_nothing_and_two_are_completed_in_their_order(
    owner: Owner, other: asyncpg.Connection
) -> None:
    await owner.run("CREATE TABLE t (id int PRIMARY KEY)", "INSERT INTO t VALUES (1)")
    await owner.run("BEGIN ISOLATION LEVEL REPEATABLE READ", SNAPSHOT)
    await other.execute("INSERT INTO t VALUES (2)")
    await owner.run("TRUNCATE t", "ROLLBACK")
    assert await owner.connection.fetchval(COMPLETE) == 0
    await owner.run("BEGIN ISOLATION LEVEL REPEATABLE READ", SNAPSHOT)
    await other.execute("INSERT INTO t VALUES (3)")
    await other.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; TRUNCATE t; COMMIT")
    await other.execute("INSERT INTO t VALUES (1)")
    await owner.run("TRUNCATE t", "COMMIT")
    assert await owner.connection.fetchval(COMPLETE) == 2
    assert [m["before"]["id"] for m in await owner.log("op = 'TRUNCATE'")].count(1) == 2
    await _whole(owner, "t", [])


async def test_more_rows_than_numbers_were_kept_for_leave_the_epoch(
    owner: Owner, other: asyncpg.Connection
) -> None:
    await owner.run("CREATE TABLE t (id int PRIMARY KEY)")
    await owner.run("BEGIN ISOLATION LEVEL REPEATABLE READ", SNAPSHOT)
    await other.execute("INSERT INTO t SELECT g FROM generate_series(1, 33000) g")
    await owner.run("TRUNCATE t", "COMMIT")
    assert await owner.connection.fetchval(COMPLETE) == 0
    assert ("t", "truncate beyond its snapshot") in await owner.epochs()
    assert await owner.log("op = 'TRUNCATE'") == []


async def test_under_read_committed_there_is_no_epoch(owner: Owner, other: asyncpg.Connection) -> None:
    await owner.run("CREATE TABLE t (id int PRIMARY KEY)", "BEGIN", "SELECT count(*) FROM t")
    await other.execute("INSERT INTO t VALUES (1)")
    await owner.run("TRUNCATE t", "COMMIT")
    assert await owner.epochs() == [("t", "created")]
    await _whole(owner, "t", [])
