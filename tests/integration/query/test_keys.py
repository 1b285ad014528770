"""Every type of key comes back by what a person writes for it, through the real capture."""

from __future__ import annotations

from typing import Any

import asyncpg
import pytest

from flux.data.install import install
from flux.errors import NotFound, UsageError
from flux.query.reader import Reader

ONE = [
    ("int8", "9007199254740993", "9007199254740993", ["9007199254740992", "9007199254740994"]),
    ("int8", "-9223372036854775808", "-9223372036854775808", []),
    ("int8", "7", "007", ["8"]),
    ("numeric", "1234567890123456789.12", "1234567890123456789.12", ["1234567890123456789.13"]),
    ("numeric", "21.00", "21", ["21.01"]),
    ("numeric", "0.1", "0.10", ["0.10000000000000000001"]),
    ("numeric(10,2)", "21.01", "21.01", []),
    ("numeric", "NaN", "nan", []),
    ("float8", "0.30000000000000004", "0.30000000000000004", ["0.3"]),
    ("float8", "Infinity", "inf", ["-inf"]),
    ("uuid", "6ba7b810-9dad-11d1-80b4-00c04fd430c8", "{6BA7B8109DAD11D180B400C04FD430C8}", []),
    ("text", "9007199254740993", "9007199254740993", ["9007199254740992"]),
    ("text", "21.00", "21.00", ["21.0", "21"]),
    ("text", "007", "007", ["7"]),
    ("text", "true", "true", ["t"]),
    ("text", "a,b=c \"d\" 'e' \\ {f}", "a,b=c \"d\" 'e' \\ {f}", []),
    ("text", "k=v", "k=k=v", ["v"]),
    ("text", '{"k": 1}', '{"k": 1}', ["x"]),
    ("text", "漢字 é", "漢字 é", []),
    ("text", "x" * 3000, "x" * 3000, ["x" * 2999]),
    ("varchar(3)", "abc", "abc", []),
    ("char(5)", "ab", "ab", ["abc"]),
    ("date", "2026-03-04", "March 4, 2026", ["2026-03-05"]),
    ("timestamp", "2026-03-04 12:00:00.123456", "2026-03-04T12:00:00.123456", ["2026-03-04T12:00:00.123457"]),
    ("timestamptz", "2026-03-04 12:00:00+02", "2026-03-04T10:00:00Z", ["2026-03-04T12:00:00Z"]),
    ("timestamptz", "infinity", "infinity", []),
    ("timestamptz", "20000-01-01 00:00:00+00", "20000-01-01 00:00:00+00", []),
    ("time", "12:00:00.5", "12:00:00.500", []),
    ("interval", "1 day 02:00:00", "1 day 2 hours", ["1 day"]),
    ("bytea", "\\x00ff", "\\x00FF", ["\\x00"]),
    ("bool", "true", "t", ["false"]),
    ("mood", "so, \"so\"", "so, \"so\"", ["fine"]),
    ("positive", "9007199254740993", "9007199254740993", ["9007199254740992"]),
    ("int4[]", "{1,2}", "{1, 2}", ["{2,1}"]),
    ("inet", "10.0.0.1", "10.0.0.1/32", ["10.0.0.2"]),
    ("int4range", "[1,5)", "[1,4]", ["[1,5]"]),
    ("jsonb", '{"a": 1.0}', '{"a": 1}', ['{"a": 2}']),
]  # fmt: skip


@pytest.fixture(autouse=True)
async def _types(connection: Any) -> None:
    await install(connection)
    await connection.execute(
        "CREATE TYPE mood AS ENUM ('fine', 'so, \"so\"');"
        "CREATE DOMAIN positive AS int8 CHECK (value > 0);"
        # What the reader's session says of them must not matter.
        "SET TimeZone = 'Asia/Tokyo'; SET bytea_output = 'escape'; SET IntervalStyle = 'iso_8601';"
        "SET extra_float_digits = 0"
    )


async def test_a_key_of_one_column(reader: Reader, connection: Any) -> None:
    wrong = {}
    for number, (kind, stored, asked, others) in enumerate(ONE):
        try:
            await _comes_back(reader, connection, f"things_{number}", kind, stored, asked, others)
        except Exception as error:
            wrong[kind, asked[:40]] = error
    assert wrong == {}


async def _comes_back(
    reader: Reader, connection: Any, table: str, kind: str, stored: str, asked: str, others: list[str]
) -> None:
    await connection.execute(f"CREATE TABLE {table} (k {kind} PRIMARY KEY, note text)")
    await connection.execute(f"INSERT INTO {table} VALUES ($1::text::{kind}, 'a')", stored)
    await connection.execute(f"UPDATE {table} SET note = 'b' WHERE k = $1::text::{kind}", stored)
    # Each is there too, so that a key that is taken for its neighbour finds a row.
    for other in others:
        await connection.execute(f"INSERT INTO {table} VALUES ($1::text::{kind}, 'other')", other)
    history = await reader.history(table, asked)
    assert [(m.op, m.after["note"]) for m in history] == [("INSERT", "a"), ("UPDATE", "b")]
    for other in others:
        assert [m.after["note"] for m in await reader.history(table, f"k={other}")] == ["other"]
    blame = await reader.blame(table, asked)
    assert (blame["note"].value, blame["note"].before_capture) == ("b", False)
    assert blame["k"].before_capture is False
    await connection.execute(f"DELETE FROM {table} WHERE k = $1::text::{kind}", stored)
    assert [m.op for m in await reader.history(table, asked)] == ["INSERT", "UPDATE", "DELETE"]
    assert (await reader.blame(table, asked))["note"].op == "DELETE"


TWO = [
    ("a=9007199254740993,b=x", "plain"),
    ("b=x,a=9007199254740993", "plain"),
    ('{"a": 9007199254740993, "b": "x"}', "plain"),
    ('{"a": "9007199254740993", "b": "x"}', "plain"),
    ("a=9007199254740993,b=x=1, y", "signs"),
    ('{"b": "x,a=7", "a": 9007199254740993}', "nested"),
    ("a=9007199254740993,b=", "empty"),
    ("a=9007199254740993,b=21.00", "number"),
]


async def test_a_key_of_two_columns(reader: Reader, connection: Any) -> None:
    await connection.execute("CREATE TABLE pairs (a int8, b text, note text, PRIMARY KEY (a, b))")
    texts = {"x": "plain", "x=1, y": "signs", "x,a=7": "nested", "": "empty", "21.00": "number"}
    for text, value in texts.items():
        await connection.execute("INSERT INTO pairs VALUES (9007199254740993, $1, $2)", text, value)
        await connection.execute("INSERT INTO pairs VALUES (9007199254740992, $1, 'other')", text)
    for asked, note in TWO:
        assert [m.after["note"] for m in await reader.history("pairs", asked)] == [note], asked
        assert (await reader.blame("pairs", asked))["note"].value == note, asked


async def test_a_row_that_moves_to_another_great_key_is_followed(reader: Reader, connection: Any) -> None:
    await connection.execute("CREATE TABLE big (id int8 PRIMARY KEY, v int)")
    await connection.execute("INSERT INTO big VALUES (9007199254740993, 1), (9007199254740992, 9)")
    await connection.execute("UPDATE big SET id = 9007199254740995 WHERE id = 9007199254740993")
    await connection.execute("UPDATE big SET v = 2 WHERE id = 9007199254740995")
    history = await reader.history("big", "9007199254740995")
    assert [(m.op, m.after["v"]) for m in history] == [("INSERT", 1), ("UPDATE", 1), ("UPDATE", 2)]
    assert history[0].key == {"id": "9007199254740993"}


async def test_a_table_that_is_gone_is_asked_by_the_kind_of_its_keys(reader: Reader, connection: Any) -> None:
    await connection.execute(
        "CREATE TABLE big (id int8 PRIMARY KEY);"
        "INSERT INTO big VALUES (9007199254740993), (9007199254740992);"
        "CREATE TABLE words (id text PRIMARY KEY); INSERT INTO words VALUES ('9007199254740993'), ('7');"
        "CREATE TABLE flags (id bool PRIMARY KEY); INSERT INTO flags VALUES (true), (false);"
    )
    await connection.execute("DROP TABLE big, words, flags")
    for table, key in (("big", "9007199254740993"), ("words", "9007199254740993"), ("flags", "true")):
        assert [m.op for m in await reader.history(table, key)] == ["INSERT"], table


async def test_what_the_type_would_cut_is_no_key(reader: Reader, connection: Any) -> None:
    await connection.execute(
        "CREATE TABLE short (id varchar(3) PRIMARY KEY); INSERT INTO short VALUES ('abc');"
        "CREATE TABLE cents (id numeric(10,2) PRIMARY KEY); INSERT INTO cents VALUES (21.01)"
    )
    with pytest.raises(UsageError, match="can't hold `abcdef`"):
        await reader.history("short", "abcdef")
    with pytest.raises(UsageError, match=r"can't hold `21\.005`"):
        await reader.history("cents", "21.005")


async def test_a_value_of_another_type_is_refused_by_name(reader: Reader, connection: Any) -> None:
    await connection.execute("CREATE TABLE big (id int8 PRIMARY KEY)")
    for wrong in ("x", "1.5", "", "9223372036854775808", '{"id": 1.5}'):
        with pytest.raises(UsageError) as raised:
            await reader.history("big", wrong)
        assert raised.value.hint == "Its key is id (bigint)."
    with pytest.raises(NotFound):
        await reader.history("big", "9007199254740993")


async def test_a_column_named_twice_is_refused(reader: Reader, connection: Any) -> None:
    await connection.execute("CREATE TABLE pairs (a text, b text, PRIMARY KEY (a, b))")
    with pytest.raises(UsageError, match="gives b twice") as raised:
        await reader.history("pairs", "a=x,b=y,b=z")
    assert '{"a": "...", "b": "..."}' in str(raised.value.hint)


async def test_equal_keys_that_are_written_otherwise_are_one(reader: Reader, connection: Any) -> None:
    try:
        await connection.execute(
            "CREATE COLLATION loose (provider = icu, locale = 'und-u-ks-level2', deterministic = false)"
        )
    except asyncpg.FeatureNotSupportedError:
        await connection.execute("CREATE EXTENSION citext; CREATE TABLE people (email citext PRIMARY KEY)")
    else:
        await connection.execute("CREATE TABLE people (email text COLLATE loose PRIMARY KEY)")
    await connection.execute("INSERT INTO people VALUES ('Ada@example.com')")
    assert [m.op for m in await reader.history("people", "ada@EXAMPLE.com")] == ["INSERT"]
