"""Every kind of value goes to Postgres and comes back exact, whatever the session's settings."""

from __future__ import annotations

from typing import Any

import asyncpg
import orjson
import pytest

from flux.record.call import HostCall

from .conftest import Guest

DIGITS = "1234567890" * 6 + "." + "0123456789" * 4

ROUND_TRIPS: list[tuple[str, Any, Any, str]] = [
    ("int8", 9223372036854775807, "9223372036854775807", "9223372036854775807"),
    ("int8", "-9223372036854775808", "-9223372036854775808", "-9223372036854775808"),
    ("int4", "7", 7, "7"),
    ("int2", 7.0, 7, "7"),
    ("oid", "4294967295", 4294967295, "4294967295"),
    ("numeric", DIGITS, DIGITS, DIGITS),
    ("numeric", 1e-30, "0.000000000000000000000000000001", "0.000000000000000000000000000001"),
    ("numeric", "1.50", "1.50", "1.50"),
    ("numeric", "NaN", "NaN", "NaN"),
    ("numeric", "-Infinity", "-Infinity", "-Infinity"),
    ("float8", 0.1, 0.1, "0.1"),
    ("float8", "NaN", "NaN", "NaN"),
    ("float8", "-Infinity", "-Infinity", "-Infinity"),
    ("float4", 0.1, 0.1, "0.1"),
    ("float4", 3.4028235e38, 3.4028235e38, "3.4028235e+38"),
    ("bool", True, True, "true"),
    ("bool", "false", False, "false"),
    ("text", "é\n'\"", "é\n'\"", "é\n'\""),
    ("char(3)", "a", "a  ", "a"),
    ("uuid", "6B1F1D94-0000-4000-8000-000000000000", "6b1f1d94-0000-4000-8000-000000000000", ""),
    ("bytea", {"$bytea": "AAEC/w=="}, {"$bytea": "AAEC/w=="}, "\\x000102ff"),
    ("timestamptz", "2024-01-01T00:00:00.123456Z", "2024-01-01T00:00:00.123456+00:00", ""),
    ("timestamptz", "2024-01-01T05:30:00+05:30", "2024-01-01T00:00:00.000000+00:00", ""),
    ("timestamptz", "infinity", "infinity", "infinity"),
    ("timestamptz", "-infinity", "-infinity", "-infinity"),
    ("timestamptz", "294276-12-31T23:59:59.999999Z", "294276-12-31T23:59:59.999999+00:00", ""),
    ("timestamptz", "4713-01-01 00:00:00+00 BC", "4713-01-01T00:00:00.000000+00:00 BC", ""),
    ("timestamp", "2024-01-01 10:11:12.5", "2024-01-01T10:11:12.500000", ""),
    ("date", "5874897-12-31", "5874897-12-31", ""),
    ("date", "infinity", "infinity", "infinity"),
    ("time", "24:00:00", "24:00:00", "24:00:00"),
    ("timetz", "01:02:03.5+05:30", "01:02:03.500000+05:30", "01:02:03.5+05:30"),
    ("interval", "1 year 2 mons -3 days +04:05:06.5", "1 year 2 mons -3 days +04:05:06.5", ""),
    ("interval", "P1DT2H", "1 day 02:00:00", ""),
    ("jsonb", {"b": [1, None]}, {"b": [1, None]}, '{"b": [1, null]}'),
    ("jsonb", "text", "text", '"text"'),
    ("jsonb", 5, 5, "5"),
    ("jsonb", [1, 2.5], [1, 2.5], "[1, 2.5]"),
    ("json", [{"a": 1}], [{"a": 1}], '[{"a":1}]'),
    ("int4[]", [1, "2", None], [1, 2, None], "{1,2,NULL}"),
    ("int8[]", ["1", 2], ["1", "2"], "{1,2}"),
    ("numeric[]", ["1.50", 2], ["1.50", "2"], "{1.50,2}"),
    ("text[]", ["a", 'b"'], ["a", 'b"'], '{a,"b\\""}'),
    ("int4[]", [[1, 2], [3, 4]], [[1, 2], [3, 4]], "{{1,2},{3,4}}"),
    ("jsonb[]", [{"a": 1}, [0.5]], [{"a": 1}, [0.5]], ""),
    ("bytea[]", [{"$bytea": "AA=="}], [{"$bytea": "AA=="}], ""),
    ("timestamptz[]", ["2024-01-01T00:00:00Z"], ["2024-01-01T00:00:00.000000+00:00"], ""),
    ("int4range", "[1,10)", "[1,10)", "[1,10)"),
    ("int8range", "(,5]", "(,6)", "(,6)"),
    ("numrange", "[1.5,]", "[1.5,)", "[1.5,)"),
    ("daterange", "[2024-01-01,2024-02-01)", "[2024-01-01,2024-02-01)", "[2024-01-01,2024-02-01)"),
    ("tsrange", '["2024-01-01 00:00:00",)', "[2024-01-01T00:00:00.000000,)", ""),
    ("int4range", "empty", "empty", "empty"),
    ("int4multirange", "{[1,3),[5,8)}", ["[1,3)", "[5,8)"], "{[1,3),[5,8)}"),
    ("inet", "10.0.0.1/8", "10.0.0.1/8", "10.0.0.1/8"),
    ("inet", "10.0.0.1", "10.0.0.1", "10.0.0.1/32"),
    ("cidr", "10.0.0.0/8", "10.0.0.0/8", "10.0.0.0/8"),
    ("macaddr", "08:00:2b:01:02:03", "08:00:2b:01:02:03", ""),
    ("bit(3)", "101", "101", "101"),
    ("varbit", "10110111000", "10110111000", "10110111000"),
    ("point", [1, 2.5], [1.0, 2.5], "(1,2.5)"),
    ("mood", "happy", "happy", "happy"),
    ("pair", {"a": "5", "b": "x"}, {"a": "5", "b": "x"}, "(5,x)"),
    ("pair[]", [{"a": 5}], [{"a": "5", "b": None}], ""),
    ("positive", 5, 5, "5"),
    ("int4", None, None, ""),
]


@pytest.fixture
async def typed(guest: Guest, admin: asyncpg.Connection) -> Guest:
    await admin.execute(
        "create type mood as enum ('happy', 'sad'); create type pair as (a int8, b text);"
        "create domain positive as int4 check (value > 0)"
    )
    return guest


async def test_values_round_trip(typed: Guest) -> None:
    wrong = []
    for kind, given, expected, text in ROUND_TRIPS:
        [row] = await typed.rows(f"select $1::{kind} as v, $1::{kind}::text as t", given)
        if row["v"] != expected or (text and row["t"] != text):
            wrong.append((kind, given, row))
    assert wrong == []


async def test_no_setting_changes_what_a_value_looks_like(typed: Guest) -> None:
    tx = await typed.begin()
    for setting in (
        "timezone = 'Asia/Tokyo'",
        "datestyle = 'German'",
        "intervalstyle = 'iso_8601'",
        "extra_float_digits = -15",
        "bytea_output = 'escape'",
    ):
        await typed.rows(f"set local {setting}", tx=tx)
    text = (
        "select '2024-01-02 00:00:00.5+00'::timestamptz as s, '2024-01-02'::date as d, "
        "'1 day'::interval as i, "
        "0.1::float8 as f, '\\x01'::bytea as b"
    )
    assert await typed.rows(text, tx=tx) == [
        {
            "s": "2024-01-02T00:00:00.500000+00:00",
            "d": "2024-01-02",
            "i": "1 day",
            "f": 0.1,
            "b": {"$bytea": "AQ=="},
        }
    ]


async def test_json_goes_through_as_text(guest: Guest, admin: asyncpg.Connection) -> None:
    number = b"12345678901234567890.12345678901234567890"
    arguments = (
        b'{"text":"select $1::jsonb as a, $2::json as b","params":[{"z":'
        + number
        + b',"a":1.0},{"z":'
        + number
        + b',"a":1.0}]}'
    )
    outcome = await guest.session.perform(HostCall("db.sql", arguments, 1))
    assert outcome.result is not None
    assert outcome.result.startswith(
        b'{"rows":[{"a":{"a": 1.0, "z": ' + number + b'},"b":{"z":' + number + b',"a":1.0}}]'
    )


async def test_only_types_that_json_cannot_say_are_named(guest: Guest) -> None:
    answer = await guest.ask(
        "db.sql",
        text="select 1::int8 a, 1::numeric b, now() c, now()::timestamp d, now()::date e, ''::bytea f, "
        "gen_random_uuid() g, 1 h, 'x' i, '{}'::jsonb j, now()::time k, true l where false",
    )
    assert answer["types"] == {
        "a": "int8",
        "b": "numeric",
        "c": "timestamptz",
        "d": "timestamp",
        "e": "date",
        "f": "bytea",
        "g": "uuid",
    }


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("int8", "9223372036854775808"),
        ("int8", 1.5),
        ("int4", 2.5),
        ("int4[]", [1.5]),
        ("numeric", "1,5"),
        ("timestamptz", "tomorrow-ish"),
        ("date", "2023-02-29"),
        ("bytea", "AA=="),
        ("bytea", {"$bytea": "?"}),
        ("uuid", "nope"),
        ("float8", "abc"),
        ("int4range", "1-10"),
        ("text", 5),
        ("text[]", "a"),
        ("bool", "maybe"),
    ],
)
async def test_what_does_not_fit_is_refused_by_number_and_type(guest: Guest, kind: str, value: Any) -> None:
    error = await guest.fail("db.sql", text=f"select 1, $1::text, $2::{kind}", params=["ok", value])
    assert error.type == "invalid_parameter"
    assert error.message.startswith("Parameter $2 can't be sent as ")
    assert await guest.rows("select 1 as one") == [{"one": 1}]


async def test_an_enum_value_that_is_none_is_the_servers_error(typed: Guest) -> None:
    error = await typed.fail("db.sql", text="select $1::mood", params=["angry"])
    assert error.type == "invalid_text_representation"


async def test_records_and_nested_rows_are_json(guest: Guest) -> None:
    outcome = await guest.outcome("db.sql", text="select row(1::int8, 'a') as r, array[row(1, 2)] as a")
    assert outcome.result is not None
    assert orjson.loads(outcome.result)["rows"] == [{"r": ["1", "a"], "a": [[1, 2]]}]


INTERVALS = [
    "1.5 months", "-1.5 months", "0.5 years", "-2.75 years", "1.55 years", "1.5 weeks", "0.1 decade",
    "0.01 century", "0.001 millennium", "1.23456789 days", "-0.3 days", "2.5 hours", "0.0000005 s",
    "0.0000015 s", "1.9999999 s", "1 day 02:03:04.1234567", "-00:00:00.9999999", "12:34.5", "1 2:03:04",
    "1-2", "-1-2", "1-2 3 4:05:06", "90", "90.5", ".5 day", "1. day", "@ 1 year 2 mons ago", "1d12h", "3h5m",
    "5 msec", "7 usecs", "2 mils", "P1.5M", "P0.5Y", "P-1.5W", "P1.5D", "PT1.5H", "PT0.1234567S",
    "P1Y-2M3DT-4H", "1.1 months 1.1 days 1.1 hours", "33.33 months", "99.99 years", "1 week 1.5 days ago",
    "-1.5 days 02:00",
]  # fmt: skip
MOMENTS = [
    "2024-01-01T00:00:00.1234567Z", "2024-01-01T00:00:00.123456499Z", "2024-01-01T00:00:00.1234565Z",
    "2024-12-31T23:59:59.9999999Z", "2024-01-01T00:00:00.999999999+05:30", "1999-12-31 23:59:59.99999949-08",
    "10000-01-01 00:00:00.12345678+00", "2024-01-01T00:00:00.0000005Z", "2024-01-01T00:00:00.0000015Z",
]  # fmt: skip


@pytest.mark.parametrize(
    ("pg_type", "texts"),
    [
        ("interval", INTERVALS),
        ("timestamptz", MOMENTS),
        ("timestamp", MOMENTS),
        ("time", ["23:59:59.9999999", "01:02:03.1234565", "01:02:03.123456789"]),
        ("timetz", ["01:02:03.123456789+02"]),
    ],
)
async def test_a_parameter_is_read_as_postgres_reads_the_same_text(
    guest: Guest, pg_type: str, texts: list[str]
) -> None:
    sql = f"SELECT $1::text::{pg_type}::text AS theirs, $2::{pg_type}::text AS ours"
    found = {text: (await guest.rows(sql, text, text))[0] for text in texts}
    assert {text: row["ours"] for text, row in found.items()} == {
        text: row["theirs"] for text, row in found.items()
    }


async def test_a_number_of_five_thousand_digits_goes_both_ways(
    guest: Guest, admin: asyncpg.Connection
) -> None:
    digits = b"9" * 5000
    text = "select $1::numeric as n, $2::jsonb as j, $3::numeric[] as l, $4::jsonb as k"
    params = b",".join((digits, digits, b"[%b]" % digits, b'{"a": [%b]}' % digits))
    arguments = b'{"text":"%b","params":[%b]}' % (text.encode(), params)
    outcome = await guest.session.perform(HostCall("db.sql", arguments, 90))
    assert outcome.error is None
    assert outcome.result is not None
    assert outcome.result.count(digits) == 4


@pytest.mark.parametrize(
    ("pg_type", "json"),
    [
        ("int8", b"9" * 5000),
        ("int8", b'"%b"' % (b"9" * 5000)),
        ("int4", b"1e99999999999"),
        ("int4[]", b"[1e99999999999]"),
        ("numeric", b"1e99999999999"),
        ("numeric", b"1e-99999999999"),
        ("float8", b"1e400"),
        ("float8", b'"1_000"'),
        ("text[]", b"[" * 900 + b"]" * 900),
        ("int4", b"[" * 900 + b"]" * 900),
        ("interval", b'"9999999999 years"'),
        ("interval", b'"%b days"' % (b"9" * 5000)),
        ("timestamptz", b'"9999999-01-01"'),
        ("date", b'"9999999-01-01"'),
    ],
)
async def test_what_no_value_can_be_is_refused_by_name(guest: Guest, pg_type: str, json: bytes) -> None:
    """At once: nothing of it is written out, and the connection goes on."""
    arguments = b'{"text":"select $1::%b","params":[%b]}' % (pg_type.encode(), json)
    outcome = await guest.session.perform(HostCall("db.sql", arguments, 90))
    assert outcome.error is not None
    assert outcome.error.type == "invalid_parameter"
    assert outcome.error.message.startswith("Parameter $1 can't be sent as ")
    assert len(outcome.error.message) < 200
    assert await guest.rows("select 1 as one") == [{"one": 1}]
