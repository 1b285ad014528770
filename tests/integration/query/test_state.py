"""What was done to a row, and by whom."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from flux.errors import NotFound, UsageError
from flux.query.reader import Reader
from tests.integration.query.recorded import Record

A = "aaaa1111" + "0" * 24
B = "bbbb2222" + "0" * 24
C = "cccc3333" + "0" * 24


@pytest.fixture(autouse=True)
async def _tables(connection: Any) -> None:
    await connection.execute(
        "CREATE TABLE stock (id int PRIMARY KEY, qty int, note text);"
        "CREATE TABLE lines (order_id int, line int, item text, PRIMARY KEY (order_id, line));"
        "CREATE TABLE bare (a int)"
    )


async def test_history_is_oldest_first_with_rolled_back_attempts(record: Record, reader: Reader) -> None:
    await record.execution(A, ago=90)
    n = await record.mutation(
        A, "INSERT", {"id": 1}, None, {"id": 1, "qty": 5, "note": None}, table="stock", ago=90
    )
    await record.call(A, 1, "db.sql", {"text": "insert"}, {}, span="c1", ago=90, first_n=n, last_n=n)
    old, new = {"id": 1, "qty": 5, "note": None}, {"id": 1, "qty": 4, "note": None}
    await record.mutation(B, "UPDATE", {"id": 1}, old, new, table="stock", ago=60, rolled_back=True)
    await record.mutation(
        C, "UPDATE", {"id": 1}, old, old | {"note": "x"}, table="stock", ago=30, origin="outside",
        actor="ann", application_name="psql",
    )  # fmt: skip
    history = await reader.history("stock", "1")
    assert [(m.op, m.rolled_back) for m in history] == [
        ("INSERT", False),
        ("UPDATE", True),
        ("UPDATE", False),
    ]
    assert history[0].span_id.endswith("c1")
    assert history[1].changed == ["qty"]
    assert (history[2].request_id, history[2].actor, history[2].application_name) == (
        None,
        "ann",
        "psql",
    )
    assert [m.n for m in await reader.history("public.stock", "id=1", column="note")] == [32, 96]
    assert [m.n for m in await reader.history("stock", "1", limit=1)] == [96]
    since = record.now - timedelta(seconds=70)
    assert [m.n for m in await reader.history("stock", "1", since=since)] == [64, 96]


async def test_history_follows_a_row_through_changes_of_its_key(record: Record, reader: Reader) -> None:
    def row(identity: int, qty: int) -> dict[str, int]:
        return {"id": identity, "qty": qty}

    other = {"table": "stock"}
    await record.mutation(
        A, "INSERT", {"id": 2}, None, row(2, 0), **other
    )  # an earlier row 2, gone before the move
    await record.mutation(A, "DELETE", {"id": 2}, row(2, 0), None, **other)
    born = await record.mutation(A, "INSERT", {"id": 1}, None, row(1, 5), **other)
    moved = await record.mutation(B, "UPDATE", {"id": 1}, row(1, 5), row(2, 5), **other)
    await record.mutation(B, "INSERT", {"id": 1}, None, row(1, 77), **other)  # another row takes the key
    ended = await record.mutation(C, "UPDATE", {"id": 2}, row(2, 5), row(3, 6), **other)
    numbers = [m.n for m in await reader.history("stock", "3")]
    assert numbers == [32, 64, born, moved, ended]
    blame = await reader.blame("stock", "3")
    assert (blame["qty"].request_id, blame["id"].request_id) == (C, C)


async def test_a_key_of_two_columns_is_written_by_name(record: Record, reader: Reader) -> None:
    key = {"order_id": 7, "line": 2}
    await record.mutation(A, "INSERT", key, None, key | {"item": "tea"}, table="lines")
    assert len(await reader.history("lines", "order_id=7,line=2")) == 1
    with pytest.raises(UsageError, match="line is missing") as raised:
        await reader.history("lines", "order_id=7")
    assert "--id order_id=...,line=..." in str(raised.value.hint)


async def test_blame_names_who_set_each_column_and_later_attempts(
    record: Record, reader: Reader, connection: Any
) -> None:
    await connection.execute("SET session_replication_role = replica; DELETE FROM stock")
    before, after = {"id": 1, "qty": 5, "note": "a"}, {"id": 1, "qty": 4, "note": "a"}
    await record.mutation(A, "INSERT", {"id": 1}, None, before, table="stock", ago=90)
    await record.mutation(
        B, "UPDATE", {"id": 1}, before, before | {"qty": 9}, table="stock", rolled_back=True, ago=80
    )
    await record.mutation(B, "UPDATE", {"id": 1}, before, after, table="stock", ago=60)
    await record.mutation(
        C, "UPDATE", {"id": 1}, after, after | {"note": "z"}, table="stock", rolled_back=True, ago=30
    )
    await connection.execute("ALTER TABLE stock DISABLE TRIGGER ALL; INSERT INTO stock VALUES (1, 4, 'a')")
    blame = await reader.blame("stock", "1")
    assert list(blame) == ["id", "qty", "note"]
    assert (blame["qty"].value, blame["qty"].request_id, blame["qty"].rolled_back_attempt) == (
        4,
        B,
        None,
    )
    assert blame["note"].request_id == A
    attempt = blame["note"].rolled_back_attempt
    assert (attempt.value, attempt.request_id) == ("z", C)


async def test_what_no_change_explains_is_said_to_predate_capture(reader: Reader, connection: Any) -> None:
    await connection.execute("ALTER TABLE stock DISABLE TRIGGER ALL; INSERT INTO stock VALUES (8, 1, 'old')")
    assert await reader.history("stock", "8") == []
    entry = (await reader.blame("stock", "8"))["note"]
    assert (entry.value, entry.request_id, entry.at, entry.before_capture) == (
        "old",
        None,
        None,
        True,
    )


async def test_a_table_that_is_gone_still_has_its_history(record: Record, reader: Reader) -> None:
    await record.mutation(A, "INSERT", {"id": "k1"}, None, {"id": "k1", "x": 1}, table="dropped")
    assert [m.op for m in await reader.history("dropped", "k1")] == ["INSERT"]
    assert (await reader.blame("dropped", "k1"))["x"].request_id == A


async def test_wrong_tables_keys_and_columns_are_named(reader: Reader) -> None:
    with pytest.raises(NotFound, match="no table `stok`") as raised:
        await reader.history("stok", "1")
    assert raised.value.hint == "Did you mean `stock`?"
    with pytest.raises(NotFound, match="no row 99"):
        await reader.blame("stock", "99")
    with pytest.raises(UsageError, match="invalid input syntax"):
        await reader.history("stock", "x'; drop table stock; --")
    with pytest.raises(UsageError, match="no primary key"):
        await reader.history("bare", "1")
    with pytest.raises(UsageError, match="no column `nope`"):
        await reader.history("stock", "1", column="nope")
