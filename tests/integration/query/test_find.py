"""Naming an execution."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from flux.app.application import READING
from flux.config import Config
from flux.errors import Ambiguous, NotFound, UsageError
from flux.query import find
from flux.query.reader import Reader
from flux.store.database import Store
from tests.integration.query.recorded import OneConnection, Record

A = "aaaa1111" + "0" * 24
B = "aaaa2222" + "0" * 24


async def test_a_whole_id_a_prefix_and_a_trace_id_name_an_execution(record: Record, reader: Reader) -> None:
    await record.execution(A)
    trace_id = (await reader.trace(A)).trace_id
    assert await reader.resolve(A) == A
    assert await reader.resolve("aaaa1111") == A
    assert await reader.resolve(A.upper()) == A
    assert await reader.resolve(f"{A[:8]}-{A[8:]}") == A
    assert await reader.resolve(trace_id) == A


async def test_a_shared_trace_id_opens_its_earliest_root(record: Record, reader: Reader) -> None:
    trace_id = "c" * 32
    await record.execution(B, ago=50, trace_id=trace_id)
    await record.execution(A, ago=90, trace_id=trace_id)
    await record.execution("bbbb" + "0" * 28, ago=120, trace_id=trace_id, parent_request_id=A)
    assert await reader.resolve(trace_id) == A


async def test_an_ambiguous_prefix_lists_its_candidates(record: Record, reader: Reader) -> None:
    await record.execution(A, ago=120)
    await record.execution(B, ago=60, status=500, outcome="error")
    with pytest.raises(Ambiguous) as raised:
        await reader.resolve("aaaa")
    assert "2 executions" in raised.value.message
    first, second = raised.value.candidates
    assert first.startswith("aaaa1111")
    assert "create_user" in first
    assert "500 error" in second


async def test_last_is_the_latest_that_no_other_execution_invoked(record: Record, reader: Reader) -> None:
    await record.execution(A, ago=60)
    await record.execution(B, ago=30, parent_request_id=A, trigger="invoke")
    assert await reader.resolve("last") == A


async def test_an_id_that_arrives_within_half_a_second_is_found(reader: Reader, other: Record) -> None:
    search = asyncio.create_task(reader.resolve(A))
    await asyncio.sleep(0)
    await other.execution(A)
    assert await search == A


async def test_unknown_names_are_told_apart_from_wrong_ones(reader: Reader) -> None:
    with pytest.raises(NotFound, match="begins with `abcd`"):
        await reader.resolve("abcd")
    with pytest.raises(NotFound, match="Nothing has been recorded"):
        await reader.resolve("last")
    with pytest.raises(UsageError):
        await reader.resolve("abc")
    with pytest.raises(UsageError):
        await reader.resolve("users'; --")


async def test_last_waits_for_what_the_spools_hold(
    record: Record, other: Record, connection: Any, tmp_path: Path
) -> None:
    spool = tmp_path / "n1"
    spool.mkdir()
    (spool / "3.seg").write_bytes(b"x" * 100)
    (tmp_path / "a file").write_text("")
    await record.execution(A, ago=60)
    await record.connection.execute(
        """INSERT INTO flux.spool_positions (spool_id, segment, "offset") VALUES ('n1', 3, 40)"""
    )
    search = asyncio.create_task(Reader(OneConnection(connection), spool_dir=tmp_path).resolve("last"))
    await asyncio.sleep(0)
    await other.execution(B, ago=10)
    await other.connection.execute('UPDATE flux.spool_positions SET "offset" = 100')
    assert await search == B


async def test_an_id_is_not_found_only_once_the_spools_are_drained(
    record: Record, other: Record, connection: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(find, "LAG", 60.0)
    spool = tmp_path / "n1"
    spool.mkdir()
    (spool / "3.seg").write_bytes(b"x" * 100)
    await record.connection.execute(
        """INSERT INTO flux.spool_positions (spool_id, segment, "offset") VALUES ('n1', 3, 40)"""
    )
    reader = Reader(OneConnection(connection), spool_dir=tmp_path)
    search = asyncio.create_task(reader.resolve(A))
    done, _ = await asyncio.wait([search], timeout=3 * find.PATIENCE)
    assert not done
    await other.execution(A, ago=1)
    await other.connection.execute('UPDATE flux.spool_positions SET "offset" = 100')
    assert await search == A
    with pytest.raises(NotFound):
        await reader.resolve(B)


async def test_a_search_in_vain_ends_before_a_read_over_http_gives_postgres_up(
    store_config: Config, tmp_path: Path
) -> None:
    spool = tmp_path / "n1"
    spool.mkdir()
    (spool / "3.seg").write_bytes(b"x")  # which nobody drains
    together = f"{A[:20]}000000000007"
    async with await Store.open(store_config, application_name="test", migrate=False) as store:
        reader = Reader(store, spool_dir=tmp_path, patience=READING)
        for name in (B, together):
            with pytest.raises(NotFound):
                await reader.resolve(name)
