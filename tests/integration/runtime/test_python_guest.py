"""The Python guest: handlers, ctx, values, output and errors, in a real process behind a scripted host."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from flux.errors import DeadlineExceeded, FunctionError, GuestDied
from flux.record.call import CallError, HostCall
from tests.integration.runtime.python_guest import (
    NOW,
    Python,
    ScriptedHost,
    deployment,
    invocation,
    python_engine,
)


@pytest.fixture
async def python(tmp_path: Path) -> AsyncIterator[Python]:
    async with python_engine(tmp_path) as found:
        yield found


async def test_an_async_and_a_sync_handler_return_their_value(python: Python) -> None:
    assert await python.run("async def handler(input, ctx): return {'got': input}", {"a": 1}) == {
        "got": {"a": 1}
    }
    assert await python.run("def handler(input, ctx): return [input, None]", "x") == ["x", None]
    assert await python.run("def handler(input, ctx): return input") is None


async def test_the_request_the_environment_and_the_ids_are_in_ctx(python: Python) -> None:
    code = """
        import os
        async def handler(input, ctx):
            r = ctx.request
            return [r.method, r.path, r.params, r.query, r.headers["X-A"], r.headers.all("x-a"),
                    r.text(), dict(ctx.env), os.environ.get("PATH"), os.environ["GREETING"],
                    ctx.request_id[:2], ctx.trace_id[:2]]
    """
    request = {
        "params": {"id": "7"},
        "query": {"a": ["1"], "b": ["2", "3"]},
        "headers": [["x-A", "one"], ["X-a", "two"]],
    }
    assert await python.run(code, {"k": 1}, **request) == [
        "POST",
        "/hello",
        {"id": "7"},
        {"a": "1", "b": ["2", "3"]},
        "one, two",
        ["one", "two"],
        '{"k": 1}',
        {"GREETING": "hi"},
        None,
        "hi",
        "aa",
        "bb",
    ]


async def test_an_input_of_its_own_is_told_from_the_body(python: Python) -> None:
    guest = await python.load("def handler(input, ctx): return [input, ctx.request.body]")
    whole = invocation({"form": 1})
    asked = msgspec.structs.replace(whole, input=b'{"q":"1"}')
    assert json.loads((await guest.invoke(asked, ScriptedHost())).body) == [{"q": "1"}, {"form": 1}]


async def test_a_response_has_its_status_headers_and_body(python: Python) -> None:
    code = """
        from flux_functions import Response
        def handler(input, ctx):
            return {
                "text": Response("hé", 201, {"x-a": "1"}),
                "bytes": Response(b"\\x00\\xff", headers=[("set-cookie", "a"), ("set-cookie", "b")]),
                "json": Response({"a": 1}, 404, {"Content-Type": "application/problem+json"}),
                "string": Response.json("x"),
                "empty": Response(status=204),
                "move": Response.redirect("/there"),
            }[input]
    """
    guest = await python.load(code)
    replies = {}
    for name in ("text", "bytes", "json", "string", "empty", "move"):
        reply = await guest.invoke(invocation(name), ScriptedHost())
        replies[name] = (reply.status, reply.headers, reply.body)
    assert replies == {
        "text": (201, [("x-a", "1"), ("content-type", "text/plain; charset=utf-8")], "hé".encode()),
        "bytes": (
            200,
            [("set-cookie", "a"), ("set-cookie", "b"), ("content-type", "application/octet-stream")],
            b"\x00\xff",
        ),
        "json": (404, [("Content-Type", "application/problem+json")], b'{"a":1}'),
        "string": (200, [("content-type", "application/json")], b'"x"'),
        "empty": (204, [], b""),
        "move": (302, [("location", "/there")], b""),
    }


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


async def test_an_error_has_its_class_place_and_a_stack_of_user_frames(python: Python) -> None:
    code = """
        import json
        class Odd(Exception): pass
        def deep(x):
            return json.loads(x)
        async def handler(input, ctx):
            try:
                é = 1; deep("{")
            except ValueError as error:
                raise Odd("outer") from error
    """
    error = await python.fail(code)
    assert (error.error_type, error.message) == ("Odd", "outer")
    assert (error.file, error.line, error.column) == ("functions/hello/main.py", 10, 9)
    assert error.stack is not None
    assert error.stack.count('File "functions/hello/main.py"') == 3
    assert "direct cause" in error.stack
    assert "json/decoder" not in error.stack
    assert "raise Odd" in error.stack
    assert await python.run("def handler(input, ctx): return 1") == 1


async def test_the_place_of_an_error_is_the_users_code_that_called_the_library(python: Python) -> None:
    error = await python.fail("import json\ndef handler(input, ctx):\n    é = json.loads('{')\n")
    assert (error.error_type, error.line, error.column) == ("JSONDecodeError", 3, 9)


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("{'user': {'when': {1, 2}}}", "$.user.when: set is not JSON; sort it into a list"),
        ("[1, float('nan')]", "$[1]: nan is not JSON"),
        ("{'a b': [object()]}", "$['a b'][0]: object is not JSON"),
        ("{(1, 2): 3}", "$: a key of type tuple is not JSON"),
        ("{'s': '\\ud800'}", "$.s: a string with a lone surrogate is not JSON"),
        ("(lambda a: a.append(a) or a)([])", "$[0]: the value contains itself"),
    ],
)
async def test_an_output_that_json_cannot_hold_is_named(python: Python, expression: str, said: str) -> None:
    error = await python.fail(f"def handler(input, ctx): return {expression}")
    assert (error.error_type, error.message) == ("NotJSON", said)


async def test_outputs_keep_big_numbers_dates_enums_and_dataclasses(python: Python) -> None:
    code = """
        import enum, dataclasses, datetime, decimal, uuid
        class Colour(enum.Enum):
            RED = "red"
        @dataclasses.dataclass
        class Point:
            x: int
            y: decimal.Decimal
        def handler(input, ctx):
            point = Point(1, decimal.Decimal("2.50"))
            return [2**80, Colour.RED, point, datetime.time(1, 2), (1,), {1: "é"}, b"x"]
    """
    assert await python.run(code) == [
        2**80,
        "red",
        {"x": 1, "y": "2.50"},
        "01:02:00",
        [1],
        {"1": "é"},
        {"$bytea": "eA=="},
    ]


async def test_a_validation_error_carries_its_fields(python: Python) -> None:
    code = """
        from decimal import Decimal
        from flux_functions import ValidationError
        def handler(input, ctx):
            few = {"email": "is missing", "limit": Decimal(5)}
            raise ValidationError(few if input else {"all": "x" * 2_000_000})
    """
    error = await python.fail(code, 1)
    assert (error.error_type, error.fields) == ("ValidationError", {"email": "is missing", "limit": "5"})
    assert (await python.fail(code)).fields == {"input": "The input is not valid."}


@pytest.mark.parametrize(
    ("code", "kind", "line", "column", "said"),
    [
        ("x = 1\ndef handler(input, ctx)\n    pass", "SyntaxError", 2, 24, "expected ':'"),
        ("import nothing_like_it", "ModuleNotFoundError", 1, 1, "nothing_like_it"),
        ("def f():\n    return 1 / 0\nf()", "ZeroDivisionError", 2, 12, "division by zero"),
        (
            "x = 1",
            "BadFunction",
            1,
            1,
            "hello/main.py has no `handler`: write `async def handler(input, ctx):`.",
        ),
        ("handler = 3", "BadFunction", 1, 1, "is not a function"),
        ("\ndef handler(input): pass", "BadFunction", 2, 1, "must take two arguments"),
        ("import sys\nsys.exit(3)", "SystemExit", 2, 1, "ended its process"),
        (
            "import asyncio\nasyncio.get_event_loop().call_later(1, print)",
            "InvocationOver",
            2,
            1,
            "inside the handler",
        ),
    ],
)
async def test_code_that_does_not_load_says_where(
    python: Python, code: str, kind: str, line: int, column: int, said: str
) -> None:
    error = await python.fail(code)
    assert (error.error_type, error.file) == (kind, "functions/hello/main.py")
    assert (error.line, error.column) == (line, column)
    assert said in error.message


async def test_a_syntax_error_in_an_imported_file_names_that_file(python: Python) -> None:
    with pytest.raises(FunctionError) as caught:
        await python.load(
            "import helper\ndef handler(input, ctx): pass", **{"hello/helper.py": "a = (1,\nb ="}
        )
    assert (caught.value.file, caught.value.error_type) == ("functions/hello/helper.py", "SyntaxError")


async def test_own_files_and_shared_folders_are_importable(python: Python) -> None:
    files = {
        "e-mail/main.py": """
            import helper
            from .helper import ONE
            from .._lib.util import TWO
            from _lib import util
            import email.message
            def handler(input, ctx):
                data = open(__file__.replace("main.py", "data.txt")).read()
                return [helper.ONE, ONE, TWO, util.TWO, __name__, data]
        """,
        "e-mail/helper.py": "ONE = 1",
        "e-mail/data.txt": "data",
        "_lib/util.py": "TWO = 2",
    }
    guest = await python.engine.load(deployment(files, "e-mail/main.py"))
    reply = await guest.invoke(invocation(), ScriptedHost())
    assert json.loads(reply.body) == [1, 1, 2, 2, "functions.e-mail.main", "data"]


async def test_an_error_in_a_task_that_nobody_awaited_is_logged(python: Python) -> None:
    host = ScriptedHost()
    code = """
        import asyncio
        async def bad():
            raise ValueError("lost")
        async def handler(input, ctx):
            asyncio.create_task(bad())
            await asyncio.sleep(0.01)
            return 1
    """
    assert await python.run(code, host=host) == 1
    assert host.logs() == [("error", "A task that was not awaited failed: ValueError: lost")]


async def test_an_error_of_any_size_is_told(python: Python) -> None:
    error = await python.fail("def handler(input, ctx): raise ValueError('\\ud800é' * 500_000)")
    assert error.error_type == "ValueError"
    assert error.message.startswith("?é?é")
    output = await python.fail("def handler(input, ctx): return 'x' * (201 * 2**20)", timeout=60)
    assert output.message == "201 MiB of JSON or body; 200 can be sent at once."


async def test_ending_the_process_by_exit_is_an_error_of_the_invocation(python: Python) -> None:
    error = await python.fail("import sys\nasync def handler(input, ctx):\n    sys.exit(1)")
    assert (error.error_type, error.line) == ("SystemExit", 3)
    code = """
        import asyncio, sys
        async def bad():
            sys.exit(2)
        async def handler(input, ctx):
            task = asyncio.create_task(bad())
            await asyncio.sleep(0.01)
            return "alive"
    """
    assert await python.run(code) == "alive"
    with pytest.raises(GuestDied):
        await python.run("import os\ndef handler(input, ctx): os._exit(3)")


async def test_endless_recursion_is_an_error_and_endless_loops_are_killed(python: Python) -> None:
    error = await python.fail("def f(): return f()\ndef handler(input, ctx): return f()")
    assert error.error_type == "RecursionError"
    assert error.stack is not None
    assert len(error.stack.splitlines()) < 120
    with pytest.raises(DeadlineExceeded):
        await python.run("def handler(input, ctx):\n    while True: pass", timeout=0.2)


async def test_an_invocation_past_its_deadline_winds_up_and_the_others_finish(python: Python) -> None:
    release = asyncio.Event()

    async def wait(call: HostCall) -> object:
        await release.wait()
        return 7

    guest = await python.load(
        """
        async def handler(input, ctx):
            try:
                return await ctx.invoke("slow")
            finally:
                try:
                    await ctx.db.execute("cleanup")
                except Exception as error:
                    print(type(error).__name__)
        """
    )
    late, patient = ScriptedHost({"invoke": wait}), ScriptedHost({"invoke": wait, "db.sql": {"rows": []}})
    other = asyncio.create_task(guest.invoke(invocation(), patient))
    with pytest.raises(DeadlineExceeded):
        await guest.invoke(invocation(timeout=0.2), late)
    await asyncio.wait_for(python.said.wait(), 5)
    release.set()
    assert (await other).body == b"7"
    assert python.lines == ["InvocationOver"]
    assert [call.op for call in late.calls] == ["invoke"]
    assert [call.op for call in patient.calls] == ["invoke", "db.sql"]


async def test_a_timer_that_is_cancelled_ends_the_hosts_sleep(python: Python) -> None:
    async def forever(call: HostCall) -> object:
        await asyncio.Event().wait()
        return {}

    host = ScriptedHost({"sleep": forever, "invoke": 3})
    code = """
        import asyncio
        async def handler(input, ctx):
            loop = asyncio.get_running_loop()
            loop.call_later(60, print, "left behind")
            asyncio.create_task(asyncio.sleep(60))
            return await asyncio.wait_for(ctx.invoke("quick"), 30)
    """
    assert await asyncio.wait_for(python.run(code, host=host), 3) == 3
    slept = [call.n for call in host.calls if call.op == "sleep"]
    assert len(slept) == 3
    assert sorted(host.cancelled) == slept


async def test_a_timeout_fires_when_the_hosts_sleep_ends(python: Python) -> None:
    async def forever(call: HostCall) -> object:
        await asyncio.Event().wait()
        return {}

    code = """
        import asyncio
        async def handler(input, ctx):
            try:
                async with asyncio.timeout(5):
                    await ctx.invoke("never")
            except TimeoutError:
                return "timed out"
    """
    host = ScriptedHost({"invoke": forever})
    assert await python.run(code, host=host, timeout=0.3) == "timed out"
    assert host.cancelled == [2]
    assert [call.op for call in host.calls] == ["sleep", "invoke"]


async def test_calls_left_open_are_seen_through_by_the_host(python: Python) -> None:
    release = asyncio.Event()

    async def wait(call: HostCall) -> object:
        await release.wait()
        return {"id": "1", "duplicate": False}

    guest = await python.load(
        """
        import asyncio
        async def handler(input, ctx):
            asyncio.create_task(ctx.queue.push("later"))
            await asyncio.sleep(0)
            return 1
        """
    )
    host = ScriptedHost({"queue.push": wait})
    task = asyncio.create_task(guest.invoke(invocation(), host))
    done, _ = await asyncio.wait({task}, timeout=0.2)
    assert not done
    release.set()
    assert (await task).body == b"1"


async def test_to_thread_runs_inline_and_threads_are_refused(python: Python) -> None:
    code = """
        import asyncio, threading
        async def handler(input, ctx):
            value = await asyncio.to_thread(lambda: 5)
            try:
                threading.Thread(target=print).start()
            except RuntimeError as error:
                return [value, str(error)]
    """
    value, said = await python.run(code)
    assert value == 5
    assert "threads" in said


@pytest.mark.parametrize(
    ("statement", "kind", "said"),
    [
        ("open('/etc/passwd')", "PermissionError", "functions read their own code only"),
        ("open('/proc/self/environ')", "PermissionError", "own code only"),
        ("open(__file__ + '/../../../../x')", "PermissionError", "own code only"),
        ("open(__file__, 'a')", "PermissionError", "can't be written"),
        ("open(64, 'rb')", "PermissionError", "own code only"),
        ("__import__('os').listdir('/')", "PermissionError", "can't be listed"),
        ("__import__('os').remove(__file__)", "PermissionError", "can't change files"),
        ("__import__('os').mkdir('/tmp/x')", "PermissionError", "can't change files"),
        ("__import__('socket').socket()", "NotPermitted", "httpx.AsyncClient"),
        ("__import__('socket').getaddrinfo('x', 1)", "NotPermitted", "httpx.AsyncClient"),
        ("__import__('urllib.request').request.urlopen('http://x')", "NotPermitted", "httpx.AsyncClient"),
        ("__import__('subprocess').run(['true'])", "NotPermitted", "start or signal processes"),
        ("__import__('os').system('true')", "NotPermitted", "start or signal processes"),
        ("__import__('os').fork()", "NotPermitted", "start or signal processes"),
        ("__import__('os').kill(1, 0)", "NotPermitted", "start or signal processes"),
        ("__import__('ctypes')", "ImportError", "not available"),
        ("__import__('time').sleep(1)", "RuntimeError", "asyncio.sleep"),
        ("__import__('httpx').get('http://x')", "NotPermitted", "httpx.AsyncClient"),
    ],
)
async def test_the_guard_refuses(python: Python, statement: str, kind: str, said: str) -> None:
    error = await python.fail(f"def handler(input, ctx):\n    {statement}")
    assert error.error_type == kind, error.stack
    assert said in error.message


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


async def test_a_host_call_in_top_level_code_or_after_the_end_is_refused(python: Python) -> None:
    code = """
        kept = []
        async def handler(input, ctx):
            if kept:
                return await kept[0].db.fetchval("late")
            kept.append(ctx)
    """
    guest = await python.load(code)
    await guest.invoke(invocation(), ScriptedHost())
    with pytest.raises(FunctionError, match="after the handler has returned"):
        await guest.invoke(invocation(), ScriptedHost())


async def test_the_clock_outside_invocations_is_the_start_frames(python: Python) -> None:
    code = """
        import time, random
        BEGAN, DICE = time.time_ns(), random.random()
        def handler(input, ctx): return [BEGAN, DICE]
    """
    first = await python.run(code)
    assert first[0] == NOW
    assert await python.run(code) == first
