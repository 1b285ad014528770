"""Executions whose record is still with their node: shown as interrupted once that one is silent."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from flux.errors import NotFound
from flux.query import tail
from flux.query.reader import Reader
from flux.record.identity import program_of
from tests.integration.query.recorded import Record

A, B, C = "aaaa1111" + "0" * 24, "bbbb1111" + "0" * 24, "cccc1111" + "0" * 24
NODE, OTHER = "1" * 32, "2" * 32


async def _node(connection: Any, node: str, *, heard: float, stopped: bool = False) -> None:
    await connection.execute(
        "INSERT INTO flux.nodes (id, host, pid, version, started_at, heartbeat_at, stopped_at) "
        "SELECT $1, 'here', 1, '0', now() - interval '1 hour', beat, CASE WHEN $3 THEN beat END "
        "FROM (SELECT now() - $2 * interval '1 second' AS beat) b",
        node,
        heard,
        stopped,
    )


async def _changed(connection: Any, request_id: str, node: str | None, *, ago: float = 60) -> None:
    day = datetime.now(UTC).date()
    await connection.execute(
        "INSERT INTO flux.mutations (request_id, day, n, xid, system_id, schema_name, table_name, op, key, "
        "after, at, origin, application_name) VALUES ($1, $2, nextval('flux.mutation_order'), '7', 1, "
        "'public', 'notes', 'INSERT', '{\"id\": 1}', '{\"id\": 1}', now() - $3 * interval '1 second', "
        "'flux', $4)",
        request_id,
        day,
        ago,
        "elsewhere" if node is None else program_of(node),
    )


async def test_what_a_silent_node_did_is_interrupted_and_says_where_its_record_is(
    connection: Any, reader: Reader
) -> None:
    await _node(connection, NODE, heard=30)
    await _changed(connection, A, NODE)
    shown = await reader.trace("aaaa1111")
    assert (shown.outcome, shown.node, shown.trigger, shown.status) == (
        "interrupted",
        NODE,
        None,
        None,
    )
    assert [row.after for row in shown.mutations] == [{"id": 1}]
    assert "has been silent since" in shown.error.message
    why = await reader.why("aaaa1111")
    assert why.root_cause.type == "interrupted"
    assert NODE in why.suggestions[0].text


async def test_a_node_known_to_have_ended_need_not_be_silent_for_long(
    connection: Any, reader: Reader
) -> None:
    await _node(connection, NODE, heard=0, stopped=True)
    await _changed(connection, A, NODE)
    assert "has ended" in (await reader.trace(A)).error.message


async def test_what_a_living_node_has_not_recorded_yet_is_running_not_interrupted(
    connection: Any, reader: Reader
) -> None:
    await _node(connection, NODE, heard=1)
    await _changed(connection, A, NODE)
    with pytest.raises(NotFound, match=f"has not ended: it runs on node {NODE}"):
        await reader.trace(A)
    assert await reader.executions() == []


async def test_rows_of_another_program_or_of_an_unknown_node_make_no_execution(
    connection: Any, reader: Reader
) -> None:
    await _node(connection, NODE, heard=30)
    await _changed(connection, A, None)
    await _changed(connection, B, OTHER)
    for request_id in (A, B):
        with pytest.raises(NotFound, match="No execution and no trace is"):
            await reader.trace(request_id)


async def test_an_execution_known_only_by_a_job_it_pushed_is_found(connection: Any, reader: Reader) -> None:
    await _node(connection, NODE, heard=30)
    await connection.execute(f"SET application_name = '{program_of(NODE)}'")
    await connection.execute("SELECT flux.enqueue('mail', 'null', NULL, NULL, NULL, $1, 1, NULL)", A)
    shown = await reader.trace(A)
    assert (shown.outcome, shown.mutations) == ("interrupted", [])


async def test_a_drained_spool_without_the_record_says_so(connection: Any, reader: Reader) -> None:
    await _node(connection, NODE, heard=30, stopped=True)
    await _changed(connection, A, NODE)
    await connection.execute(
        'INSERT INTO flux.spool_positions (spool_id, segment, "offset", finished) VALUES ($1, 1, 0, true)',
        NODE,
    )
    assert "holds no record of it" in (await reader.trace(A)).error.message


async def test_lists_have_them_in_their_place_until_the_record_comes(
    connection: Any, record: Record, reader: Reader
) -> None:
    await _node(connection, NODE, heard=30)
    await record.execution(B, ago=90)
    await record.execution(C, ago=30)
    await _changed(connection, A, NODE, ago=60)
    listed = await reader.executions()
    assert [(row.request_id, row.outcome) for row in listed] == [
        (B, "ok"),
        (A, "interrupted"),
        (C, "ok"),
    ]
    assert [row.request_id for row in await reader.executions(limit=1)] == [C]
    assert [row.request_id for row in await reader.executions(limit=2)] == [A, C]
    assert [row.request_id for row in await reader.executions(failed=True)] == [A]
    assert [row.request_id for row in await reader.executions(status="200")] == [B, C]
    await record.execution(A, ago=60)
    assert [row.outcome for row in await reader.executions()] == ["ok", "ok", "ok"]
    assert (await reader.trace(A)).error is None


async def test_tail_tells_of_a_node_that_falls_silent(
    connection: Any, other: Record, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tail, "INTERVAL", 0.01)
    await _node(connection, NODE, heard=0)
    await _changed(connection, A, NODE, ago=1)
    stream = reader.tail(backlog=10)
    coming = asyncio.ensure_future(anext(stream))
    async with asyncio.timeout(20):
        await other.connection.execute("UPDATE flux.nodes SET stopped_at = now()")
        first = await coming
        assert (first.request_id, first.outcome) == (A, "interrupted")
        await other.execution(A, ago=0)
        second = await anext(stream)
    assert (second.request_id, second.outcome) == (A, "ok")
    await stream.aclose()  # type: ignore[attr-defined]
