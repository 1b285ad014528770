"""The Python guest: handlers, ctx, values and errors, in a real process behind a scripted host."""

from __future__ import annotations

import json

import msgspec
import pytest

from flux.errors import FunctionError
from tests.integration.runtime.python_guest import (
    NOW,
    Python,
    ScriptedHost,
    deployment,
    invocation,
)


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


async def test_the_clock_outside_invocations_is_the_start_frames(python: Python) -> None:
    code = """
        import time, random
        BEGAN, DICE = time.time_ns(), random.random()
        def handler(input, ctx): return [BEGAN, DICE]
    """
    first = await python.run(code)
    assert first[0] == NOW
    assert await python.run(code) == first
