# ruff: noqa: E501 - TypeScript inside
"""What a function leaves behind is a warning with its line, and ctx.waitUntil is how to mean it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path
from typing import Any

import pytest

from flux.errors import FunctionError
from flux.record.call import HostCall, Outcome
from flux.runtime.deployment_guest import DeploymentGuest
from flux.runtime.engine import Reply
from flux.runtime.pool import SubprocessEngine
from tests.integration.runtime.local_guest import ScriptedHost, deployment, engine, invocation
from tests.integration.runtime.python_guest import Python, python_engine


@pytest.fixture(name="deno")
async def _deno(tmp_path: Path) -> AsyncIterator[SubprocessEngine]:
    async with engine(tmp_path) as made:
        yield made


async def load(deno: SubprocessEngine, body: str) -> DeploymentGuest:
    """A function whose handler's body begins in line 2."""
    return await deno.load(
        deployment(f"export default async function ({{ input, ctx }}: any) {{\n{body}\n}}")
    )


async def reply(guest: DeploymentGuest, host: ScriptedHost | None = None, timeout: float = 5.0) -> Reply:
    return await guest.invoke(invocation(timeout=timeout), host or ScriptedHost())


async def whole(told: Reply | FunctionError) -> list[str]:
    """All its warnings: where the work has ended by then, they come with the answer."""
    return [*told.warnings, *(await told.rest if told.rest is not None else [])]


class Held(ScriptedHost):
    """Answers calls of `op` only once they are let go."""

    def __init__(self, op: str) -> None:
        self.let_go = asyncio.Event()
        self.asking = asyncio.Event()

        async def wait(call: HostCall) -> Outcome:
            self.asking.set()
            await self.let_go.wait()
            return Outcome(result=b'{"rows":[],"count":0,"tag":"","types":{}}')

        super().__init__(lambda call, _: wait(call) if call.op == op else None)


INSERT = "ctx.db.query({ table: 'a', operation: 'insert', data: { a: 1 } })"

LEFT: list[tuple[str, list[str]]] = [
    (
        f"const audit = async () => {{\n  await ctx.sleep(50);\n  await {INSERT};\n}};\naudit();\nreturn 1;",
        [
            "functions/f/index.ts:3: A timer had not run out when the handler returned; what comes after it never runs"
        ],
    ),
    (
        "const audit = async () => {\n  await new Promise((done) => setTimeout(done, 50));\n  throw new Error('x');\n};\naudit();\nreturn 1;",
        ["functions/f/index.ts:3: A timer had not run out"],
    ),
    (
        "\nPromise.reject(new TypeError('bad'));\nreturn 1;",
        ["functions/f/index.ts:3: Nobody caught: TypeError: bad"],
    ),
    ("\n\nPromise.reject('text');\nreturn 1;", ["functions/f/index.ts:4: Nobody caught: NonError: "]),
    (
        f"\n{INSERT};\nreturn 1;",
        ["functions/f/index.ts:3: ctx.db.query was still open when the handler returned"],
    ),
    (
        f"const audit = async () => {{\n  await {INSERT};\n  await {INSERT};\n}};\naudit();\nreturn 1;",
        [
            "functions/f/index.ts:3: ctx.db.query was still open when the handler returned",
            "functions/f/index.ts:4: ctx.db.query came after the handler had returned, and was not done",
        ],
    ),
    (
        f"const audit = async () => {{\n  await {INSERT};\n  throw new RangeError('late');\n}};\naudit();\nreturn 1;",
        [
            "ctx.db.query was still open",
            "functions/f/index.ts:4: After the handler had returned, nobody caught: RangeError: late",
        ],
    ),
    (
        "for (let i = 0; i < 3; i++) fetch('http://a.test/', { method: 'POST', body: 'x' });\nreturn 1;",
        [
            "functions/f/index.ts:2: fetch was still open when the handler returned: await it, or hand the work to ctx.waitUntil. (3 times)"
        ],
    ),
    (
        "ctx.db.transaction(async (tx: any) => {});\nawait ctx.db.sql('select 1');\nreturn 1;",
        ["functions/f/index.ts:2: ctx.db.commit was still open"],
    ),
    (
        "setTimeout(() => { throw new Error('in a timer'); }, 5);\nawait ctx.sleep(9);\nreturn 1;",
        ["functions/f/index.ts:2: Nobody caught: Error: in a timer"],
    ),
    (
        "const id = setTimeout(() => {}, 5);\nclearTimeout(id);\nawait fetch('http://a.test/', { signal: AbortSignal.timeout(100) });\nreturn 1;",
        [],
    ),
    (
        "const p = Promise.reject(new Error('caught later'));\nawait null;\nawait p.catch(() => 0);\nreturn 1;",
        [],
    ),
    ("await ctx.sleep(1);\nreturn ctx.db.sql('select 1');", []),
    # A patience that was not needed holds nothing.
    (
        "return await Promise.race([ctx.db.sql('select 1'), new Promise((_, r) => setTimeout(r, 100))]);",
        [],
    ),
    (
        "const patience = (ms: number) => new Promise((_, r) => setTimeout(() => r(new Error('late')), ms));\nreturn await Promise.race([ctx.db.sql('select 1'), patience(100)]);",
        [],
    ),
    (
        "const patience = async (ms: number) => { await ctx.sleep(ms); throw new Error('late'); };\nreturn await Promise.any([patience(100), ctx.db.sql('select 1')]);",
        [],
    ),
    (
        "const stop = new AbortController();\nsetTimeout(() => stop.abort(), 100);\nawait fetch('http://a.test/', { signal: stop.signal });\nreturn 1;",
        [],
    ),
    (
        "const late = new Promise((_, r) => setTimeout(() => r(new Error('late')), 100));\nreturn (await Promise.race([ctx.sleep(1), late])) ?? 1;",
        [],
    ),
    (
        f"const audit = async () => {{\n  await ctx.sleep(100);\n  await {INSERT};\n}};\naudit();\nreturn await Promise.race([ctx.db.sql('select 1'), ctx.sleep(100)]);",
        ["functions/f/index.ts:3: A timer had not run out"],
    ),
    (
        f"setTimeout(() => {{ stop(); {INSERT}; }}, 100);\nconst stop = () => new AbortController().abort();\nreturn 1;",
        ["functions/f/index.ts:2: A timer had not run out"],
    ),
]


def holds(call: HostCall, asked: dict[str, Any]) -> Outcome | Awaitable[Outcome] | None:
    """Answers a fetch, and lets nobody's patience of 100 ms run out."""
    if asked == {"ms": 100}:
        return asyncio.get_running_loop().create_future()
    if call.op == "fetch":
        return Outcome(
            result=b'{"status":200,"status_text":"OK","url":"http://a.test/","headers":[],"body":null,"redirected":false}'
        )
    return None


@pytest.mark.parametrize(("body", "said"), LEFT)
async def test_what_a_handler_leaves_behind_is_a_warning_with_its_line(
    deno: SubprocessEngine, body: str, said: list[str]
) -> None:
    guest = await load(deno, body)
    told = await reply(guest, ScriptedHost(holds))
    assert len(told.warnings) == len(said), told.warnings
    for warning, words in zip(told.warnings, said, strict=True):
        assert words in warning


async def test_a_failing_handler_tells_what_it_left_behind_too(deno: SubprocessEngine) -> None:
    guest = await load(deno, f"{INSERT};\nthrow new Error('no');")
    with pytest.raises(FunctionError) as caught:
        await reply(guest)
    assert ["functions/f/index.ts:2: ctx.db.query" in each for each in caught.value.warnings] == [True]


async def test_work_handed_to_wait_until_goes_on_after_the_answer_and_makes_calls(
    deno: SubprocessEngine,
) -> None:
    host = Held("db.sql")
    guest = await load(
        deno,
        f"ctx.waitUntil((async () => {{ await ctx.db.sql('select 1'); await {INSERT}; ctx.log('done'); }})());\nreturn 7;",
    )
    told = await reply(guest, host)
    assert (told.body, told.rest is not None, list(told.warnings)) == (b"7", True, [])
    assert told.rest is not None
    assert [call.op for call in host.calls] in ([], ["db.sql"])
    host.let_go.set()
    assert await told.rest == []
    assert [call.op for call in host.calls] == ["db.sql", "db.query"]
    assert host.logged == [("info", "done")]
    assert guest.processes[0].in_flight == 0


async def test_an_error_answers_at_once_and_its_work_goes_on(deno: SubprocessEngine) -> None:
    host = Held("db.sql")
    guest = await load(deno, "ctx.waitUntil(ctx.db.sql('select 1'));\nthrow new Error('no');")
    with pytest.raises(FunctionError) as caught:
        await reply(guest, host)
    assert caught.value.rest is not None
    host.let_go.set()
    assert await caught.value.rest == []


async def test_work_that_fails_is_a_warning_and_a_line_of_the_log(deno: SubprocessEngine) -> None:
    host = ScriptedHost()
    guest = await load(
        deno,
        "ctx.waitUntil((async () => {\n  await ctx.db.sql('select 1');\n  throw new TypeError('bad');\n})());\nreturn 1;",
    )
    told = await reply(guest, host)
    assert await whole(told) == [
        "functions/f/index.ts:4: Work handed to ctx.waitUntil failed: TypeError: bad"
    ]
    ((level, line),) = host.logged
    assert (level, line.startswith("ctx.waitUntil: TypeError: bad")) == ("error", True)


async def test_work_may_hand_over_more_work_and_what_that_leaves_is_a_warning(deno: SubprocessEngine) -> None:
    body = f"ctx.waitUntil((async () => {{\n  await ctx.db.sql('select 1');\n  ctx.waitUntil(ctx.db.sql('select 2'));\n  {INSERT};\n  ctx.sleep(5);\n}})());\nreturn 1;"
    host = Held("sleep")
    told = await reply(await load(deno, body), host)
    (said,) = await whole(told)
    assert said.startswith("functions/f/index.ts:6: A timer had not run out")
    assert [call.op for call in host.calls] == ["db.sql", "db.sql", "db.query", "sleep"]


async def test_work_that_does_not_end_is_cut_off_at_the_deadline(deno: SubprocessEngine) -> None:
    guest = await load(deno, "ctx.waitUntil(new Promise(() => {}));\nreturn 1;")
    told = await reply(guest, timeout=0.3)
    assert await whole(told) == [
        "Work handed to ctx.waitUntil was cut off: it did not end within 300 ms (timeout_ms)."
    ]


async def test_work_that_dies_with_its_process_says_so(deno: SubprocessEngine) -> None:
    guest = await load(deno, "ctx.waitUntil(new Promise(() => {}));\nreturn 1;")
    told = await reply(guest)
    assert told.rest is not None
    guest.processes[0].kill("a test wants it", "stopped")
    (said,) = await told.rest
    assert said.startswith("Work handed to ctx.waitUntil was cut off: The guest process of `f`")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("ctx.waitUntil(async () => {});", "ctx.waitUntil takes a promise; call the function."),
        ("ctx.waitUntil(3);", "ctx.waitUntil takes a promise."),
    ],
)
async def test_wait_until_takes_promises_only(deno: SubprocessEngine, body: str, words: str) -> None:
    with pytest.raises(FunctionError) as caught:
        await reply(await load(deno, f"\n{body}"))
    assert (caught.value.message, caught.value.line) == (words, 3)


async def test_an_invocation_with_open_work_counts_until_it_is_over(deno: SubprocessEngine) -> None:
    host = Held("db.sql")
    guest = await load(deno, "ctx.waitUntil(ctx.db.sql('select 1'));\nreturn 1;")
    told = await reply(guest, host)
    assert guest.processes[0].in_flight == 1
    closing = asyncio.create_task(guest.close(5))
    host.let_go.set()
    assert await whole(told) == []
    await closing


# Python

PYTHON_LEFT: list[tuple[str, list[str]]] = [
    (
        "async def audit(ctx):\n    await ctx.sleep(50)\n    await ctx.db.execute('insert into a values (1)')\n\nasync def handler(input, ctx):\n    audit(ctx)\n    return 1",
        ["functions/hello/main.py:6: `audit` was called here and never awaited, so it did not run"],
    ),
    (
        "import asyncio\nasync def audit(ctx):\n    await ctx.sleep(50)\n\nasync def handler(input, ctx):\n    asyncio.create_task(audit(ctx))\n    return 1",
        [
            "functions/hello/main.py:6: The task made here had not begun when the handler returned, and never ran"
        ],
    ),
    (
        "import asyncio\nasync def audit(ctx):\n    await ctx.sleep(50)\n\nasync def handler(input, ctx):\n    task = asyncio.create_task(audit(ctx))\n    await asyncio.sleep(0)\n    return 1",
        ["functions/hello/main.py:3: A task waited here when the handler returned, and was cancelled"],
    ),
    (
        "import asyncio\nasync def audit(ctx):\n    raise ValueError('bad')\n\nasync def handler(input, ctx):\n    task = asyncio.create_task(audit(ctx))\n    await asyncio.sleep(0)\n    return 1",
        ["functions/hello/main.py:3: A task that was not awaited failed: ValueError: bad"],
    ),
    (
        "import asyncio\nasync def audit(ctx):\n    try:\n        await ctx.sleep(50)\n    finally:\n        await ctx.db.execute('select 1')\n\nasync def handler(input, ctx):\n    task = asyncio.create_task(audit(ctx))\n    await asyncio.sleep(0)\n    return 1",
        [
            "functions/hello/main.py:4: A task waited here",
            "functions/hello/main.py:6: `db.sql` came after the handler had returned, and was not done",
        ],
    ),
    (
        "import asyncio\nasync def audit(ctx):\n    try:\n        await ctx.sleep(50)\n    except BaseException:\n        raise KeyError('late')\n\nasync def handler(input, ctx):\n    task = asyncio.create_task(audit(ctx))\n    await asyncio.sleep(0)\n    return 1",
        [
            "functions/hello/main.py:4: A task waited here",
            "functions/hello/main.py:6: After the handler had returned, a task failed: KeyError: 'late'",
        ],
    ),
    (
        "import asyncio\nasync def handler(input, ctx):\n    asyncio.get_running_loop().call_soon(lambda: 1 / 0)\n    await asyncio.sleep(0)\n    return 1",
        ["functions/hello/main.py:3: Nobody caught: ZeroDivisionError: division by zero"],
    ),
    (
        "import asyncio\nasync def handler(input, ctx):\n    asyncio.get_running_loop().call_later(0.001, lambda: 1 / 0)\n    await ctx.sleep(5)\n    return 1",
        ["functions/hello/main.py:3: Nobody caught: ZeroDivisionError: division by zero"],
    ),
    (
        "import asyncio\nasync def handler(input, ctx):\n    asyncio.get_running_loop().create_future().set_exception(KeyError('k'))\n    return 1",
        ["Nobody caught: KeyError: 'k'"],
    ),
    (
        "import asyncio\nasync def handler(input, ctx):\n    task = asyncio.create_task(ctx.sleep(50))\n    await asyncio.sleep(0)\n    task.cancel()\n    return 1",
        [],
    ),
    (
        "async def handler(input, ctx):\n    for _ in range(3):\n        ctx.db.execute('select 1')\n    return 1",
        [
            "functions/hello/main.py:3: `Statements.execute` was called here and never awaited, so it did not run: await it, or hand it to ctx.wait_until. (3 times)"
        ],
    ),
    (
        "import asyncio\nasync def one(ctx):\n    await ctx.sleep(1)\n\nasync def handler(input, ctx):\n    await asyncio.gather(one(ctx), one(ctx))\n    async with asyncio.timeout(5):\n        await ctx.sleep(1)\n    return 1",
        [],
    ),
]


@pytest.fixture(name="python")
async def _python(tmp_path: Path) -> AsyncIterator[Python]:
    async with python_engine(tmp_path) as made:
        yield made


@pytest.mark.parametrize(("code", "said"), PYTHON_LEFT)
async def test_what_a_python_handler_leaves_behind_is_a_warning_with_its_line(
    python: Python, code: str, said: list[str]
) -> None:
    guest = await python.load(code)
    told = await guest.invoke(invocation(timeout=5), ScriptedHost(quick))
    assert len(told.warnings) == len(said), told.warnings
    for warning, words in zip(told.warnings, said, strict=True):
        assert words in warning
    assert python.lines == []


def quick(call: HostCall, asked: dict[str, Any]) -> Outcome | Awaitable[Outcome] | None:
    """Lets short sleeps run out, and no longer ones."""
    if asked.get("ms", 0) > 10:
        return asyncio.get_running_loop().create_future()
    return None


async def test_python_work_handed_to_wait_until_goes_on_after_the_answer(python: Python) -> None:
    host = Held("db.sql")
    code = "async def work(ctx):\n    await ctx.db.execute('select 1')\n    ctx.wait_until(ctx.queue.push('a'))\n    ctx.log('done')\n\nasync def handler(input, ctx):\n    ctx.wait_until(work(ctx))\n    return 7"
    guest = await python.load(code)
    told = await guest.invoke(invocation(timeout=5), host)
    assert (told.body, told.rest is not None, list(told.warnings)) == (b"7", True, [])
    assert told.rest is not None
    await host.asking.wait()
    host.let_go.set()
    assert await told.rest == []
    assert [call.op for call in host.calls] == ["db.sql", "queue.push"]
    assert host.logged == [("info", "done")]
    assert guest.processes[0].in_flight == 0


async def test_python_work_that_fails_is_a_warning_and_a_line_of_the_log(python: Python) -> None:
    host = ScriptedHost()
    code = "async def work(ctx):\n    await ctx.db.execute('select 1')\n    raise ValueError('bad')\n\nasync def handler(input, ctx):\n    ctx.wait_until(work(ctx))\n    raise RuntimeError('no')"
    guest = await python.load(code)
    with pytest.raises(FunctionError) as caught:
        await guest.invoke(invocation(timeout=5), host)
    assert await whole(caught.value) == [
        "functions/hello/main.py:3: Work handed to ctx.wait_until failed: ValueError: bad"
    ]
    assert host.logged == [("error", "ctx.wait_until: ValueError: bad")]


async def test_python_work_that_does_not_end_is_cut_off_at_the_deadline(python: Python) -> None:
    code = "import asyncio\nasync def handler(input, ctx):\n    ctx.wait_until(asyncio.get_running_loop().create_future())\n    return 1"
    guest = await python.load(code)
    told = await guest.invoke(invocation(timeout=0.3), ScriptedHost())
    assert await whole(told) == [
        "Work handed to ctx.waitUntil was cut off: it did not end within 300 ms (timeout_ms)."
    ]


async def test_python_wait_until_takes_awaitables_only(python: Python) -> None:
    error = await python.fail(
        "async def work(): ...\nasync def handler(input, ctx):\n    ctx.wait_until(work)"
    )
    assert (error.message, error.line) == (
        "ctx.wait_until takes an awaitable; call the function, not function",
        3,
    )
