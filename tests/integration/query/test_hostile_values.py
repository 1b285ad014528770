"""No value that may stand in the tables breaks a reader, and none floods a page."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from flux.cli.render import lines, state
from flux.cli.render import trace as trace_page
from flux.cli.render import why as why_page
from flux.data.install import install
from flux.query import to_json
from flux.query.reader import Reader
from tests.integration.query.recorded import Record

A = "aaaa1111" + "0" * 24
NOW = datetime(2026, 3, 4, 12, tzinfo=UTC)
DEEP = "[" * 990 + "]" * 990
LONG = "x" * (1 << 20)

PAYLOADS = {
    "deep": DEEP.encode(),
    "far too deep": b"[" * 100_000,
    "great integer": b'{"n": ' + b"7" * 5000 + b"}",
    "great exponent": b'{"n": 1e999999999999}',
    "half a pair": b'{"\\ud83d": "\\udc00 \\ud83d"}',
    "nul": b'{"a\\u0000": "b\\u0000"}',
    "invalid UTF-8": b'{"a": "\xff\xfe"}',
    "raw surrogate bytes": b'"\xed\xa0\xbd"',
    "a megabyte": json.dumps({"text": LONG}).encode(),
    "wide": json.dumps({"text": "漢" * 300_000}).encode(),
    "lines": json.dumps("\n" * 100_000).encode(),
    "no JSON": b"NaN",
    "list": b"[1, 2]",
    "scalar": b"0",
    "escapes": json.dumps("\x1b[2J\u202e").encode(),
}
JSON = {
    "deep": DEEP,
    "list": "[1]",
    "scalar": "7",
    "text": '"x"',
    "great": '{"type": ' + "7" * 5000 + ', "message": ' + "7" * 5000 + ', "line": 1.5, "detail": [1]}',
    "nested": '{"type": {"a": 1}, "message": ["b"], "file": {}, "line": "x", "stack": 7, "detail": 7}',
    "long": json.dumps({"type": LONG, "message": LONG, "file": LONG, "line": 1, "detail": {"hint": LONG}}),
    "pairs": '[["a"], [1, 2], "x", null, [["a"], {"b": 1}]]',
    "empty": "{}",
    "null": "null",
}  # fmt: skip


async def _read(reader: Reader) -> None:
    """Everything that can be asked of it, as JSON and as pages."""
    document, told = await reader.trace(A), await reader.why(A)
    listed, logged = await reader.executions(), await reader.logs(A)
    for answer in (document, told, listed, logged):
        assert json.loads(to_json(answer, indent=2)) is not None
    shown = trace_page.page(document, 100, NOW) + why_page.page(told, 100, NOW)
    shown += [line for each in listed for line in lines.execution(each, 100, NOW)]
    assert trace_page.page(document, 100, NOW, full=True)
    assert sum(lines.log(line, NOW).width for line in logged) < 20_000
    assert len(shown) < 250
    assert sum(len(line.plain) for line in shown) < 100_000
    assert "\x1b" not in "".join(line.plain for line in shown)


async def _emptied(connection: Any) -> None:
    await connection.execute(
        "TRUNCATE flux.executions, flux.spans, flux.host_calls, flux.mutations, flux.logs"
    )


async def test_any_payload(reader: Reader, record: Record, connection: Any) -> None:
    ops = ("db.query", "db.sql", "fetch", "queue.push", "invoke", "secrets.get", "sleep", "db.begin", "odd")
    error = json.dumps({"type": "Error", "message": "x"})
    wrong = {}
    for name, data in PAYLOADS.items():
        await _emptied(connection)
        await record.execution(
            A, body=data, input=data, output=data, status=500, outcome="error", error=error
        )
        for seq, op in enumerate(ops, 1):
            await record.call(A, seq, op, {})
        await connection.execute("UPDATE flux.host_calls SET arguments = $1, result = $1", data)
        await record.log(A, 20, "info", "line", fields=data)
        try:
            await _read(reader)
        except Exception as failure:
            wrong[name] = failure
    assert wrong == {}


async def test_any_json(reader: Reader, record: Record, connection: Any) -> None:
    wrong = {}
    for name, value in JSON.items():
        await _emptied(connection)
        await record.execution(A, status=500, outcome="error", spans=False)
        await connection.execute(
            "UPDATE flux.executions SET error = $1, params = $1, request_headers = $1, response_headers = $1,"
            " warnings = $1",
            value,
        )
        await record.span(A, "aa", None, "root", 0, 5, status="ERROR")
        await record.call(A, 1, "db.sql", {"text": "select"}, span="c1")
        said = f'[{{"name": "exception", "attributes": {value}}}, {value}]'
        await connection.execute(
            "UPDATE flux.spans SET attributes = $1, events = $2, links = $1, status_message = $3",
            value,
            said,
            LONG,
        )
        await connection.execute("UPDATE flux.host_calls SET error = $1", value)
        await record.mutation(A, "UPDATE", {"id": 1}, {"id": 1}, {"id": 1})
        await connection.execute("UPDATE flux.mutations SET key = $1, before = $1, after = $1", value)
        await record.log(A, 20, LONG[:40], LONG)
        try:
            await _read(reader)
        except Exception as failure:
            wrong[name] = failure
    assert wrong == {}


async def test_any_row(reader: Reader, record: Record, connection: Any) -> None:
    await install(connection)
    await connection.execute("CREATE TABLE things (id int PRIMARY KEY, j jsonb, t text, n numeric, b bytea)")
    deep = "[" * 5000 + "]" * 5000
    await connection.execute(
        "INSERT INTO things VALUES (1, $1, $2, $3::text::numeric, '\\x00ff')", deep, LONG, "7" * 5000
    )
    await connection.execute("UPDATE things SET j = '{}'")
    history = await reader.history("things", "1")
    assert [m.op for m in history] == ["INSERT", "UPDATE"]
    assert history[0].after["n"] == "7" * 5000
    blame = await reader.blame("things", "1")
    assert to_json(history)
    assert to_json(blame)
    shown = state.history_page("things", "1", history, 100, NOW) + state.blame_page(
        "things", "1", blame, 100, NOW
    )
    assert sum(len(line.plain) for line in shown) < 5000
    outside = history[0].request_id
    assert outside is None


async def test_any_result_of_a_query(reader: Reader) -> None:
    result = await reader.sql(
        "select repeat('[', 3000)::text || repeat(']', 3000) as t,"
        " (repeat('[', 3000) || repeat(']', 3000))::json as j,"
        " repeat('7', 5000)::numeric as n, 'NaN'::numeric as nan, 'infinity'::timestamptz as later,"
        " '20000-01-01'::timestamptz as far, '4000-01-01 BC'::date as early, '-infinity'::date as never,"
        " '\\xff'::bytea as b, 'nan'::float8 as f, '{1,NULL}'::int8[] as a, '178000000 years'::interval as i,"
        " '24:00'::time as midnight, array['20000-01-01'::timestamp] as fars"
    )
    (row,) = result.rows
    assert json.loads(to_json(row))["n"] == "7" * 5000
    assert row["far"].startswith("20000-01-01")
