"""What a Python handler asks of its host: the database, secrets, spans, logs, httpx; each call as the host
sees it.
"""

from __future__ import annotations

import asyncio
import json

from flux.record.call import CallError, HostCall
from tests.integration.runtime.python_guest import (
    Python,
    ScriptedHost,
)


async def test_database_calls_carry_parameters_and_give_python_values(python: Python) -> None:
    host = ScriptedHost(
        {
            "db.sql": {
                "rows": [
                    {"id": "9007199254740993", "price": "1.50", "raw": {"$bytea": "AP8="}, "ids": ["1", None]}
                ],
                "count": 1,
                "tag": "SELECT 1",
                "types": {"id": "int8", "price": "numeric", "raw": "bytea", "ids": "int8[]"},
            },
            "db.query": {"rows": [{"id": 1}], "count": 1},
        }
    )
    code = """
        from datetime import datetime, timezone, date
        from decimal import Decimal
        from uuid import UUID
        async def handler(input, ctx):
            row = await ctx.db.fetchrow(
                "select $1", Decimal("1.10"), datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=timezone.utc),
                date(2026, 1, 2), b"\\x00\\xff", UUID(int=1), None, [1, 2**70])
            assert isinstance(row["price"], Decimal) and row["raw"] == b"\\x00\\xff"
            assert row["ids"] == [1, None]
            value = await ctx.db.fetchval("select 2")
            tag = await ctx.db.execute("delete")
            rows = await ctx.db.query(table="t", operation="insert", data={"a": 1})
            more = await ctx.db.query({"table": "t", "operation": "select"}, limit=3)
            try:
                row["nope"]
            except KeyError as error:
                return [row["id"], value, tag, rows, rows.count, more, str(error)]
    """
    assert await python.run(code, host=host) == [
        9007199254740993,
        9007199254740993,
        "SELECT 1",
        [{"id": 1}],
        1,
        [{"id": 1}],
        "\"no column 'nope'; there are: id, price, raw, ids\"",
    ]
    assert host.seen()[0] == {
        "text": "select $1",
        "params": [
            "1.10",
            "2026-01-02T03:04:05.000006+00:00",
            "2026-01-02",
            {"$bytea": "AP8="},
            "00000000-0000-0000-0000-000000000001",
            None,
            [1, 2**70],
        ],
    }
    assert host.seen("db.query") == [
        {"table": "t", "operation": "insert", "data": {"a": 1}},
        {"table": "t", "operation": "select", "limit": 3},
    ]


async def test_a_transaction_commits_or_rolls_back_and_its_calls_name_it(python: Python) -> None:
    host = ScriptedHost(
        {"db.sql": {"rows": [], "count": 0, "tag": "UPDATE 0"}, "queue.push": {"id": "1", "duplicate": False}}
    )
    code = """
        async def handler(input, ctx):
            async with ctx.db.transaction(isolation="serializable") as tx:
                await tx.execute("one")
                await ctx.db.execute("outside")
                await tx.queue.push("job", {"a": 1}, delay=5, idempotency_key="k")
            try:
                async with ctx.db.transaction() as tx:
                    await tx.execute("two")
                    raise ValueError("no")
            except ValueError:
                pass
            async def work(tx):
                return (await tx.sql("three")).tag
            return await ctx.db.transaction(work)
    """
    assert await python.run(code, host=host) == "UPDATE 0"
    assert [(call.op, call.tx) for call in host.calls] == [
        ("db.begin", None),
        ("db.sql", 1),
        ("db.sql", None),
        ("queue.push", 1),
        ("db.commit", 1),
        ("db.begin", None),
        ("db.sql", 6),
        ("db.rollback", 6),
        ("db.begin", None),
        ("db.sql", 9),
        ("db.commit", 9),
    ]
    assert host.seen("db.begin")[0] == {"isolation": "serializable"}
    assert host.seen("queue.push") == [
        {"name": "job", "payload": {"a": 1}, "options": {"delay": 5, "idempotencyKey": "k"}}
    ]


async def test_host_errors_are_exceptions_with_their_type_and_detail(python: Python) -> None:
    refused = CallError(
        "unique_violation", "duplicate key", {"sqlstate": "23505", "constraint": "users_email_key"}
    )
    host = ScriptedHost({"db.sql": refused, "invoke": CallError("ValueError", "child", {"status": "500"})})
    code = """
        from flux_functions import DatabaseError, HostError, InvokeError
        async def handler(input, ctx):
            try:
                await ctx.db.execute("insert")
            except DatabaseError as error:
                first = [error.type, error.code, error.constraint, str(error)]
            try:
                await ctx.invoke("other")
            except InvokeError as error:
                return [first, error.type, error.detail]
    """
    assert await python.run(code, host=host) == [
        ["unique_violation", "23505", "users_email_key", "duplicate key"],
        "ValueError",
        {"status": "500"},
    ]
    error = await python.fail("async def handler(input, ctx):\n    await ctx.db.execute('insert')", host=host)
    assert (error.error_type, error.message) == ("unique_violation", "duplicate key")
    assert (error.file, error.line, error.column) == ("functions/hello/main.py", 2, 5)


async def test_secrets_invoke_and_sleep_are_host_calls(python: Python) -> None:
    host = ScriptedHost({"secrets.get": {"value": "s3"}, "invoke": [1, 2]})
    code = """
        import asyncio
        async def handler(input, ctx):
            await ctx.sleep(20)
            await asyncio.sleep(1.5)
            return [await ctx.secrets.get("KEY", "none"), await ctx.invoke("other", {"x": 1})]
    """
    assert await python.run(code, host=host) == ["s3", [1, 2]]
    assert [(call.op, json.loads(call.arguments)) for call in host.calls] == [
        ("sleep", {"ms": 20}),
        ("sleep", {"ms": 1500.0}),
        ("secrets.get", {"key": "KEY", "fallback": "none"}),
        ("invoke", {"name": "other", "payload": {"x": 1}}),
    ]


async def test_spans_nest_and_calls_name_the_innermost(python: Python) -> None:
    host = ScriptedHost()
    code = """
        import asyncio
        async def handler(input, ctx):
            async def inner():
                await ctx.sleep(1)
                return 7
            with ctx.trace.span("outer", size=3):
                value = await ctx.trace.span("inner", inner)
            try:
                async with ctx.trace.span("bad"):
                    raise ValueError("no")
            except ValueError:
                ctx.log("after")
            return value
    """
    assert await python.run(code, host=host) == 7
    assert [(call.op, call.span) for call in host.calls] == [
        ("span.start", None),
        ("span.start", 1),
        ("sleep", 2),
        ("span.end", 1),
        ("span.end", None),
        ("span.start", None),
        ("span.end", None),
        ("log", None),
    ]
    assert host.seen("span.start")[0] == {"name": "outer", "attributes": {"size": 3}}
    assert host.seen("span.end")[2] == {"start": 6, "error": {"type": "ValueError", "message": "no"}}


async def test_what_is_printed_and_logged_becomes_log_calls(python: Python) -> None:
    host = ScriptedHost()
    code = """
        import logging, sys, warnings
        print("at load")
        async def handler(input, ctx):
            print("one\\ntwo", end="")
            print("!", file=sys.stderr)
            ctx.log("plain", {"a": 1}, b=object)
            ctx.log.error("bad")
            logging.getLogger("x").info("noted %s", 5)
            logging.getLogger("x").debug("dropped")
            ctx.log.warn("\\ud800")
    """
    assert await python.run(code, host=host) is None
    assert host.logs() == [
        ("info", "one"),
        ("error", "!"),
        ("info", "plain"),
        ("error", "bad"),
        ("info", "noted 5"),
        ("warn", "?"),
        ("info", "two"),
    ]
    assert host.seen("log")[2]["fields"] == {"a": 1, "b": "<class 'object'>"}
    assert "at load" in python.lines


async def test_stray_bytes_on_stdout_never_reach_the_protocol(python: Python) -> None:
    code = """
        import os
        def handler(input, ctx):
            os.write(1, b"stray\\n")
            try:
                return os.read(0, 10).decode()
            except OSError as error:
                return str(error)
    """
    assert await python.run(code) == ""
    await asyncio.wait_for(python.said.wait(), 5)
    assert python.lines == ["stray"]


async def test_httpx_goes_through_the_host(python: Python) -> None:
    async def answer(call: HostCall) -> object:
        asked = json.loads(call.arguments)
        if asked["url"].endswith("/moved"):
            headers = [["location", "http://api.test/final"]]
            return {
                "status": 302,
                "status_text": "Found",
                "url": asked["url"],
                "headers": headers,
                "body": "",
            }
        if asked["url"].endswith("/down"):
            return CallError("DNSError", "GET http://api.test/down: unknown name")
        return {
            "status": 201,
            "status_text": "Created",
            "url": asked["url"],
            "headers": [["content-type", "application/json"], ["x-a", "1"], ["x-a", "2"]],
            "body": '{"ok": true}' if asked["method"] == "POST" else {"$bytea": "AP8="},
        }

    host = ScriptedHost({"fetch": answer})
    code = """
        import httpx
        async def handler(input, ctx):
            options = {"base_url": "http://api.test", "timeout": 3, "follow_redirects": True}
            async with httpx.AsyncClient(**options) as client:
                made = await client.post("/things?a=1", json={"n": 1}, headers={"x-key": "k"})
                moved = await client.get("/moved")
                try:
                    await client.get("/down")
                except httpx.ConnectError as error:
                    failed = str(error)
            return [made.status_code, made.reason_phrase, made.json(), made.headers.get_list("x-a"),
                    moved.content, str(moved.url), failed]
    """
    assert await python.run(code, host=host) == [
        201,
        "Created",
        {"ok": True},
        ["1", "2"],
        {"$bytea": "AP8="},
        "http://api.test/final",
        "GET http://api.test/down: unknown name",
    ]
    first = host.seen("fetch")[0]
    assert (first["method"], first["url"], json.loads(first["body"])) == (
        "POST",
        "http://api.test/things?a=1",
        {"n": 1},
    )
    assert first["redirect"] == "manual"
    names = {name.lower() for name, _ in first["headers"]}
    assert {"x-key", "content-type"} <= names
    assert not names & {"host", "content-length", "connection", "accept-encoding"}
    assert [call.op for call in host.calls] == ["fetch"] * 4


async def test_httpx_timeouts_are_the_hosts_to_keep(python: Python) -> None:
    async def answer(call: HostCall) -> object:
        return CallError("TimeoutError", "GET http://api.test/: no answer within 0.5 s", {"phase": "read"})

    host = ScriptedHost({"fetch": answer})
    code = """
        import httpx
        async def handler(input, ctx):
            named = []
            for timeout in (0.5, 5, None, httpx.Timeout(None, read=2)):
                options = {} if timeout == 5 else {"timeout": timeout}
                async with httpx.AsyncClient(**options) as client:
                    try:
                        await client.get("http://api.test/")
                    except httpx.TimeoutException as error:
                        named.append(f"{type(error).__name__}: {error}")
            return sorted(set(named))
    """
    assert await python.run(code, host=host) == ["ReadTimeout: GET http://api.test/: no answer within 0.5 s"]
    every = ("connect", "read", "write", "pool")
    assert [asked.get("timeout") for asked in host.seen("fetch")] == [
        dict.fromkeys(every, 500),
        dict.fromkeys(every, 5_000),
        None,
        {"read": 2_000},
    ]
