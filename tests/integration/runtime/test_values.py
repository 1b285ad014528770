# ruff: noqa: E501 - TypeScript inside
"""Values that JSON can't say: one rule in both languages, wherever a value leaves a function."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from flux.errors import FunctionError
from flux.runtime.pool import SubprocessEngine
from tests.integration.runtime.local_guest import ScriptedHost, deployment, engine, invocation, result
from tests.integration.runtime.python_guest import Python, python_engine


@pytest.fixture(name="deno")
async def _deno(tmp_path: Path) -> AsyncIterator[SubprocessEngine]:
    async with engine(tmp_path) as made:
        yield made


@pytest.fixture(name="python")
async def _python(tmp_path: Path) -> AsyncIterator[Python]:
    async with python_engine(tmp_path) as made:
        yield made


WRITTEN = {
    "bytes": {"$bytea": "8/8="},
    "nested": [{"deep": {"$bytea": "AAE="}}],
    "big": "9007199254740993",
    "date": "2024-01-02T03:04:05",
    "text": "é",
}
TYPESCRIPT = "{ bytes: new Uint8Array([243, 255]), nested: [{ deep: new Uint8Array([0, 1]).buffer }], big: 9007199254740993n, date: { toJSON: () => '2024-01-02T03:04:05' }, text: 'é', gone: undefined }"
PYTHON = "{'bytes': bytearray([243, 255]), 'nested': ({'deep': memoryview(b'\\0\\1')},), 'big': Decimal('9007199254740993'), 'date': datetime(2024, 1, 2, 3, 4, 5), 'text': 'é'}"
EVERYWHERE_TS = f"const v = {TYPESCRIPT};\nctx.log('x', v);\nawait ctx.queue.push('a', v);\nawait ctx.invoke('a', v);\nawait ctx.db.sql('select 1', [v]);\nawait ctx.db.query({{ table: 'a', operation: 'insert', data: v }});\nreturn v;"
EVERYWHERE_PY = f"from decimal import Decimal\nfrom datetime import datetime\nasync def handler(input, ctx):\n    v = {PYTHON}\n    ctx.log('x', v)\n    await ctx.queue.push('a', v)\n    await ctx.invoke('a', v)\n    await ctx.db.sql('select 1', [v])\n    await ctx.db.query(table='a', operation='insert', data=v)\n    return v"


def everywhere(host: ScriptedHost) -> list[Any]:
    """The value where it left the function: log fields, payloads, parameters."""
    told = {call.op: json.loads(call.arguments) for call in (*host.notes, *host.calls)}
    return [
        told["log"]["fields"],
        told["queue.push"]["payload"],
        told["invoke"]["payload"],
        told["db.sql"]["params"][0],
        told["db.query"]["data"],
    ]


async def test_typescript_writes_bytes_and_big_integers_the_same_wherever_they_leave(
    deno: SubprocessEngine,
) -> None:
    host = ScriptedHost()
    guest = await deno.load(
        deployment(f"export default async function ({{ ctx }}: any) {{\n{EVERYWHERE_TS}\n}}")
    )
    told = await guest.invoke(invocation(), host)
    assert json.loads(told.body) == WRITTEN
    assert everywhere(host) == [WRITTEN] * 5


async def test_python_writes_them_as_typescript_does(python: Python) -> None:
    host = ScriptedHost()
    guest = await python.load(EVERYWHERE_PY)
    told = await guest.invoke(invocation(), host)
    assert json.loads(told.body) == WRITTEN
    assert everywhere(host) == [WRITTEN] * 5


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("{ a: [1, NaN] }", "`a[1]` is NaN; write it as a string or as null."),
        ("-Infinity", "it is -Infinity"),
        ("{ m: new Map() }", "`m` is a Map; write Object.fromEntries(map)"),
        ("[new Set()]", "`[0]` is a Set; write [...set]."),
        ("{ a: { later: Promise.resolve(1) } }", "`a.later` is a promise; await it."),
        ("{ when: new Date(NaN) }", "`when` is a Date that is no date."),
        ("(() => { const a: any = { b: [] }; a.b[0] = a; return a; })()", "`b[0]` contains itself"),
    ],
)
@pytest.mark.parametrize(
    "way", ["return {};", "await ctx.db.sql('select 1', [{}]);", "await ctx.queue.push('a', {});"]
)
async def test_what_json_cannot_say_is_refused_with_its_place(
    deno: SubprocessEngine, value: str, words: str, way: str
) -> None:
    body = way.replace("{}", f"({value})")
    guest = await deno.load(deployment(f"export default async function ({{ ctx }}: any) {{\n{body}\n}}"))
    with pytest.raises(FunctionError) as caught:
        await guest.invoke(invocation(), ScriptedHost())
    assert caught.value.error_type == "JSONError"
    reason = words.partition(" ")[2]  # in a list of parameters the place is another
    assert (words if way.startswith("return") else reason) in caught.value.message


BACK_TS = "export default async function ({ input, ctx }: any) { const got = await ctx.invoke('a'); return [input.b instanceof Uint8Array, [...(got.b ?? [])]]; }"
BACK_PY = "async def handler(input, ctx):\n    got = await ctx.invoke('a')\n    return [isinstance(input['b'], bytes), list(got['b'])]"


@pytest.mark.parametrize("method", [None, "POST"])
@pytest.mark.parametrize("language", ["typescript", "python"])
async def test_bytes_between_functions_are_bytes_again(
    deno: SubprocessEngine, python: Python, language: str, method: str | None
) -> None:
    """From a client they stay what the client has written."""
    guest = await (deno.load(deployment(BACK_TS)) if language == "typescript" else python.load(BACK_PY))
    host = ScriptedHost(lambda call, _: result({"b": {"$bytea": "AQI="}}) if call.op == "invoke" else None)
    given = invocation(body=b'{"b":{"$bytea":"AQI="}}')
    given = msgspec.structs.replace(given, request={**given.request, "method": method})
    assert json.loads((await guest.invoke(given, host)).body) == [method is None, [1, 2]]


DEEP = "[" * 20_000 + "1" + "]" * 20_000
DIGITS = "7" * 6_000


async def test_python_reads_what_postgres_holds_however_deep_and_long(python: Python) -> None:
    rows = f'{{"rows":[{{"deep":{DEEP},"n":"{DIGITS}","j":{DIGITS}}}],"count":1,"tag":"","types":{{"n":"numeric"}}}}'
    rows_int = f'{{"rows":[{{"n":"{DIGITS}"}}],"count":1,"tag":"","types":{{"n":"int8"}}}}'
    code = "async def handler(input, ctx):\n    row = (await ctx.db.fetch('select 1'))[0]\n    depth, value = 0, row.get('deep')\n    while isinstance(value, list):\n        depth, value = depth + 1, value[0]\n    return [depth, str(row['n'])[:3], len(str(row.get('j', 0)))]"
    answers = iter([rows, rows_int])
    host = ScriptedHost(lambda call, _: _outcome(next(answers)))
    guest = await python.load(code)
    assert json.loads((await guest.invoke(invocation(), host)).body) == [20_000, "777", 6_000]
    assert json.loads((await guest.invoke(invocation(), host)).body) == [0, "777", 1]


def _outcome(text: str) -> Any:
    from flux.record.call import Outcome

    return Outcome(result=text.encode())
