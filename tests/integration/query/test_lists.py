"""Lists and streams of executions and log lines, and a person's own SQL."""

from __future__ import annotations

from typing import Any

import asyncpg
import pytest

from flux.errors import NotFound, UsageError
from flux.query.reader import Reader
from flux.query.statement import QueryError
from tests.integration.query.recorded import OneConnection, Record

A = "aaaa1111" + "0" * 24
B = "bbbb2222" + "0" * 24
C = "cccc3333" + "0" * 24


async def test_executions_are_filtered_and_oldest_first(record: Record, reader: Reader) -> None:
    await record.execution(A, ago=90)
    await record.execution(B, ago=60, status=404, outcome="rejected", function=None)
    await record.execution(C, ago=30, status=503, outcome="error", function="pay")

    async def ids(**wanted: Any) -> list[str]:
        return [shape.request_id for shape in await reader.executions(**wanted)]

    assert await ids() == [A, B, C]
    assert await ids(limit=2) == [B, C]
    assert await ids(function="pay") == [C]
    assert await ids(status="404") == [B]
    assert await ids(status="5xx") == [C]
    assert await ids(failed=True) == [B, C]


async def test_tail_gives_the_backlog_then_what_is_recorded_after(
    record: Record, other: Record, reader: Reader
) -> None:
    await record.execution(A, ago=90)
    await record.execution(B, ago=60)
    stream = reader.tail(backlog=1)
    assert (await anext(stream)).request_id == B
    await other.execution(C, ago=0, duration_ms=4.0)
    assert (await anext(stream)).request_id == C
    late = "dddd" + "0" * 28
    await other.execution(late, ago=30, duration_ms=40_000.0)
    assert (await anext(stream)).request_id == late
    await stream.aclose()


async def test_logs_of_one_execution_and_of_all(record: Record, other: Record, reader: Reader) -> None:
    await record.execution(A, ago=90)
    await record.log(A, 1, "info", "one", ago=90, fields=b'{"a": 1}')
    await record.log(A, 2, "error", "two", ago=90)
    await record.execution(B, ago=30, function="pay")
    await record.log(B, 1, "warn", "three", ago=30)
    assert [line.message for line in await reader.logs(A)] == ["one", "two"]
    assert [line.message for line in await reader.logs(level="warn")] == ["two", "three"]
    assert [line.message for line in await reader.logs(function="pay")] == ["three"]
    assert [line.message for line in await reader.logs(limit=1)] == ["three"]
    first = (await reader.logs("aaaa"))[0]
    assert (first.fields, first.function, first.request_id) == ({"a": 1}, "create_user", A)
    stream = reader.follow_logs(backlog=1)
    assert (await anext(stream)).message == "three"
    await other.log(B, 2, "info", "four", ago=30)
    assert (await anext(stream)).message == "four"
    await stream.aclose()


async def test_sql_returns_json_safe_rows(reader: Reader) -> None:
    result = await reader.sql(
        "SELECT 3::bigint AS big, 1.50::numeric AS n, 2 AS small, 'x'::bytea AS b,"
        " '{\"k\": [1]}'::jsonb AS j,"
        " ARRAY[1, 2]::bigint[] AS many, interval '1 month' AS i, NULL AS nothing, 1 AS small,"
        " timestamptz '2026-01-02 03:04:05+00' AS at"
    )
    assert result.rows == [
        {
            "big": "3",
            "n": "1.50",
            "small": 2,
            "b": {"$bytea": "eA=="},
            "j": {"k": [1]},
            "many": ["1", "2"],
            "i": "1 mon",
            "nothing": None,
            "small_2": 1,
            "at": "2026-01-02T03:04:05.000000+00:00",
        }
    ]


async def test_sql_only_reads(reader: Reader, connection: Any) -> None:
    await connection.execute("CREATE TABLE t (a int)")
    with pytest.raises(QueryError, match="read-only"):
        await reader.sql("INSERT INTO t VALUES (1)")
    with pytest.raises(QueryError, match=r"permission denied|must be superuser"):
        await reader.sql("COPY (SELECT 1) TO PROGRAM 'cat'")
    with pytest.raises(UsageError, match="one statement"):
        await reader.sql("SELECT 1; COMMIT; INSERT INTO t VALUES (1)")
    with pytest.raises(UsageError, match="no SQL"):
        await reader.sql(" ; ")
    with pytest.raises(QueryError, match="does not exist"):
        await reader.sql("SELECT nope")
    assert await connection.fetchval("SELECT count(*) FROM t") == 0
    assert await connection.fetchval("SELECT current_user") == "postgres"


async def test_sql_says_when_there_are_more_rows(reader: Reader) -> None:
    result = await reader.sql("SELECT generate_series(1, 11) AS i", limit=10)
    assert (len(result.rows), result.more) == (10, True)
    assert not (await reader.sql("SELECT generate_series(1, 10) AS i", limit=10)).more


async def test_a_database_without_the_record_says_so(empty_database_url: str) -> None:
    empty = Reader(OneConnection(await asyncpg.connect(empty_database_url)))
    with pytest.raises(NotFound, match="Nothing has been recorded"):
        await empty.trace("last")
    await empty.close()
