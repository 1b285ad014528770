# ruff: noqa: E501 - TypeScript inside
"""What a TypeScript function can do: input, ctx, results and errors, in a real Deno."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import orjson
import pytest

from flux.errors import FunctionError, RuntimeFault
from flux.record.call import HostCall, Outcome
from flux.runtime.deployment_guest import DeploymentGuest
from flux.runtime.pool import SubprocessEngine
from tests.integration.runtime.local_guest import (
    ScriptedHost,
    answer,
    deployment,
    engine,
    failure,
    invocation,
    result,
    rows,
    run,
)


@pytest.fixture(name="deno")
async def _deno(tmp_path: Path) -> AsyncIterator[SubprocessEngine]:
    async with engine(tmp_path, env={"GREETING": "hello"}) as made:
        yield made


async def load(deno: SubprocessEngine, body: str) -> DeploymentGuest:
    """A function whose handler has this body."""
    imports = 'import { defineFunction, ValidationError, DatabaseError } from "@flux/functions";\n'
    handler = f'export default defineFunction({{ name: "f", handler: async ({{ input, ctx }}: any) => {{\n{body}\n}} }});'
    return await deno.load(deployment(imports + handler))


async def test_a_handler_gets_its_input_and_returns_json(deno: SubprocessEngine) -> None:
    guest = await load(deno, "return { got: input.email, nothing: undefined };")
    assert await run(guest, {"email": "a@b.c"}) == {"got": "a@b.c"}


async def test_a_plain_function_is_a_handler_and_undefined_becomes_null(deno: SubprocessEngine) -> None:
    guest = await deno.load(deployment("export default function () {}"))
    assert await run(guest) is None


async def test_ctx_request_shows_what_came(deno: SubprocessEngine) -> None:
    guest = await load(
        deno,
        """const r = ctx.request;
        return [r.method, r.path, r.params.id, r.query, r.headers.get("x-a"), r.text(), ctx.env.GREETING, ctx.requestId];""",
    )
    given = invocation(
        body=b'{"a":1}',
        params={"id": "7"},
        query={"q": ["1"], "t": ["x", "y"]},
        headers=[["X-A", "1"], ["x-a", "2"]],
    )
    reply = await guest.invoke(given, ScriptedHost())
    assert orjson.loads(reply.body) == [
        "POST", "/f", "7", {"q": "1", "t": ["x", "y"]}, "1, 2", '{"a":1}', "hello", "a" * 32,
    ]  # fmt: skip


async def test_a_body_that_is_not_json_is_given_as_text(deno: SubprocessEngine) -> None:
    guest = await load(deno, "return input;")
    assert await run(guest, body=b"a=1&b=2") == "a=1&b=2"
    assert await run(guest, body=b"") is None


async def test_a_response_sets_status_headers_and_bytes(deno: SubprocessEngine) -> None:
    guest = await load(
        deno,
        """const headers = new Headers({ "x-one": "1" });
        headers.append("set-cookie", "a=1"); headers.append("set-cookie", "b=2");
        const stream = new ReadableStream({ start(c) { c.enqueue(new Uint8Array([1, 2])); c.enqueue(new Uint8Array([255])); c.close(); } });
        return new Response(stream, { status: 201, headers });""",
    )
    reply = await answer(guest)
    assert (reply.status, reply.body) == (201, b"\x01\x02\xff")
    assert reply.headers == [("set-cookie", "a=1"), ("set-cookie", "b=2"), ("x-one", "1")]


async def test_database_calls_carry_their_arguments_and_decode_bytes(deno: SubprocessEngine) -> None:
    def respond(call: HostCall, args: object) -> Outcome:
        return rows({"id": "9007199254740993", "raw": {"$bytea": "AQI="}}, id="int8", raw="bytea")

    host = ScriptedHost(respond)
    guest = await load(
        deno,
        """const [row] = await ctx.db.query({ table: "t", operation: "insert", data: { a: 1n, b: new Uint8Array([1, 2]), c: null } });
        const again = await ctx.db.sql("select $1", [new Date(0)]);
        return { id: row.id, raw: [...row.raw], count: again.count, rows: again.length };""",
    )
    assert await run(guest, host=host) == {"id": "9007199254740993", "raw": [1, 2], "count": 1, "rows": 1}
    assert host.asked == [
        (
            "db.query",
            {"table": "t", "operation": "insert", "data": {"a": "1", "b": {"$bytea": "AQI="}, "c": None}},
        ),
        ("db.sql", {"text": "select $1", "params": ["1970-01-01T00:00:00.000Z"]}),
    ]


async def test_a_transaction_commits_when_its_function_returns(deno: SubprocessEngine) -> None:
    host = ScriptedHost()
    guest = await load(
        deno,
        """return await ctx.db.transaction(async (tx) => {
          await tx.sql("select 1"); await tx.queue.push("job", { a: 1 }, { delay: 5 }); return "kept";
        }, { isolation: "serializable" });""",
    )
    assert await run(guest, host=host) == "kept"
    assert [(call.op, call.tx) for call in host.calls] == [
        ("db.begin", None), ("db.sql", 1), ("queue.push", 1), ("db.commit", 1),
    ]  # fmt: skip
    assert host.asked[0] == ("db.begin", {"isolation": "serializable"})
    assert host.asked[2][1] == {"name": "job", "payload": {"a": 1}, "options": {"delay": 5}}


async def test_a_transaction_rolls_back_when_its_function_throws(deno: SubprocessEngine) -> None:
    host = ScriptedHost()
    guest = await load(deno, 'await ctx.db.transaction(async (tx) => { throw new RangeError("no"); });')
    with pytest.raises(FunctionError) as caught:
        await run(guest, host=host)
    assert caught.value.error_type == "RangeError"
    assert [call.op for call in host.calls] == ["db.begin", "db.rollback"]


async def test_queue_invoke_and_secrets_are_host_calls(deno: SubprocessEngine) -> None:
    def respond(call: HostCall, args: object) -> Outcome | None:
        answers = {
            "queue.push": {"id": "1", "duplicate": False},
            "invoke": [1],
            "secrets.get": {"value": "s"},
        }
        return result(answers[call.op])

    host = ScriptedHost(respond)
    guest = await load(
        deno, 'return [await ctx.queue.push("j"), await ctx.invoke("g", 5), await ctx.secrets.get("K", "d")];'
    )
    assert await run(guest, host=host) == [{"id": "1", "duplicate": False}, [1], "s"]
    assert host.asked == [
        ("queue.push", {"name": "j", "payload": None, "options": {}}),
        ("invoke", {"name": "g", "payload": 5}),
        ("secrets.get", {"key": "K", "fallback": "d"}),
    ]


async def test_spans_nest_by_async_context(deno: SubprocessEngine) -> None:
    host = ScriptedHost()
    guest = await load(
        deno,
        """await Promise.all([
          ctx.trace.span("a", async () => { await ctx.sleep(1); await ctx.trace.span("b", () => ctx.db.sql("1")); }),
          ctx.db.sql("2"),
        ]);""",
    )
    await run(guest, host=host)
    spans = {orjson.loads(note.arguments).get("name"): note for note in host.notes if note.op == "span.start"}
    assert spans["a"].span is None
    assert spans["b"].span == spans["a"].n
    inside = {orjson.loads(call.arguments)["text"]: call.span for call in host.calls if call.op == "db.sql"}
    assert inside == {"1": spans["b"].n, "2": None}
    assert [orjson.loads(note.arguments) for note in host.notes if note.op == "span.end"] == [
        {"start": spans["b"].n}, {"start": spans["a"].n},
    ]  # fmt: skip


async def test_fetch_returns_a_real_response(deno: SubprocessEngine) -> None:
    def respond(call: HostCall, args: dict[str, object]) -> Outcome:
        return result(
            {"status": 404, "status_text": "Not Found", "url": "http://x/y", "headers": [["x-a", "1"]],
             "body": {"$bytea": "/w=="}, "redirected": True}
        )  # fmt: skip

    host = ScriptedHost(respond)
    guest = await load(
        deno,
        """const r = await fetch("http://x/y", { method: "post", body: JSON.stringify({ a: 1 }), headers: { "Content-Type": "application/json" } });
        return [r instanceof Response, r.ok, r.status, r.url, r.redirected, r.headers.get("x-a"), [...await r.bytes()]];""",
    )
    assert await run(guest, host=host) == [True, False, 404, "http://x/y", True, "1", [255]]
    assert host.asked == [
        ("fetch", {"method": "POST", "url": "http://x/y", "headers": [["content-type", "application/json"]],
                   "body": '{"a":1}', "redirect": "follow"})
    ]  # fmt: skip


async def test_fetch_takes_every_kind_of_body(deno: SubprocessEngine) -> None:
    answer_ = {
        "status": 204,
        "status_text": "",
        "url": "http://x/",
        "headers": [],
        "body": None,
        "redirected": False,
    }
    host = ScriptedHost(lambda call, args: result(answer_))
    guest = await load(
        deno,
        """const form = new FormData(); form.append("a", "1"); form.append("f", new File(["hi"], "f.txt", { type: "text/plain" }));
        const stream = new ReadableStream({ start(c) { c.enqueue(new TextEncoder().encode("st")); c.close(); } });
        for (const body of [new URLSearchParams({ a: "1" }), new Blob(["b"], { type: "x/y" }), new Uint8Array([255]), stream, form]) {
          await fetch("http://x/", { method: "POST", body });
        }
        await fetch(new Request("http://x/r", { method: "PUT", body: "req" }));""",
    )
    await run(guest, host=host)
    sent = [args for _, args in host.asked]
    assert [args["body"] for args in sent[:4]] == ["a=1", "b", {"$bytea": "/w=="}, "st"]
    assert sent[1]["headers"] == [["content-type", "x/y"]]
    boundary = sent[4]["headers"][0][1].partition("boundary=")[2]
    assert sent[4]["body"] == (
        f'--{boundary}\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n'
        f'--{boundary}\r\nContent-Disposition: form-data; name="f"; filename="f.txt"\r\nContent-Type: text/plain\r\n\r\nhi\r\n'
        f"--{boundary}--\r\n"
    )
    assert (sent[5]["method"], sent[5]["body"]) == ("PUT", "req")


async def test_an_aborted_fetch_is_cancelled_and_does_not_hold_the_invocation_up(
    deno: SubprocessEngine,
) -> None:
    never = asyncio.Event()

    async def hang() -> Outcome:
        await never.wait()
        return result({})

    host = ScriptedHost(lambda call, args: hang() if call.op == "fetch" else None)
    guest = await load(
        deno,
        'try { await fetch("http://x/", { signal: AbortSignal.timeout(5) }); } catch (e) { return [e.name, e instanceof DOMException]; }',
    )
    assert await run(guest, host=host) == ["TimeoutError", True]
    assert [call.op for call in host.cancelled] == ["fetch"]


async def test_a_timer_that_is_cleared_or_left_over_does_not_hold_the_invocation_up(
    deno: SubprocessEngine,
) -> None:
    never = asyncio.Event()

    async def hang() -> Outcome:
        await never.wait()
        return result({})

    host = ScriptedHost(lambda call, args: hang())
    guest = await load(
        deno, "clearTimeout(setTimeout(() => {}, 1000)); setTimeout(() => {}, 2000); return 1;"
    )
    assert await run(guest, host=host) == 1
    assert [orjson.loads(call.arguments) for call in host.cancelled] in ([{"ms": 2000}], [])


async def test_timers_are_sleeps_of_the_host(deno: SubprocessEngine) -> None:
    host = ScriptedHost()
    guest = await load(
        deno,
        """let ticks = 0;
        await new Promise((done) => { const t = setInterval(() => { if (++ticks === 3) { clearInterval(t); done(0); } }, 10); });
        return [ticks, await new Promise((done) => setTimeout(done, 7, "x"))];""",
    )
    assert await run(guest, host=host) == [3, "x"]
    assert [args["ms"] for _, args in host.asked] == [10, 10, 10, 7]


async def test_console_and_log_are_notes_of_the_invocation(deno: SubprocessEngine) -> None:
    host = ScriptedHost()
    guest = await load(
        deno,
        """console.log("a %s", "b", { x: 1 }); console.error("bad"); ctx.log("plain", { user: 7 }); ctx.log.warn("w", 1, 2);
        ctx.log.debug({ deep: [1] });""",
    )
    await run(guest, host=host)
    assert host.logged == [
        ("info", "a b { x: 1 }"), ("error", "bad"), ("info", "plain"), ("warn", "w 1 2"), ("debug", "{ deep: [ 1 ] }"),
    ]  # fmt: skip
    assert orjson.loads(host.notes[2].arguments)["fields"] == {"user": 7}


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("{ user: { id: NaN } }", "What the handler returned can't be written as JSON: `user.id` is NaN"),
        ("(() => { const a: any = { list: [] }; a.list.push(a); return a; })()", "`list[0]` contains itself"),
        ("() => 1", "it is a function"),
        ("new Blob([])", "wrap it in `new Response(...)`"),
    ],
)
async def test_a_value_that_json_cannot_hold_is_named(
    deno: SubprocessEngine, expression: str, message: str
) -> None:
    guest = await load(deno, f"return {expression};")
    with pytest.raises(FunctionError) as caught:
        await run(guest)
    assert caught.value.error_type == "JSONError"
    assert message in caught.value.message


async def test_an_error_tells_type_place_and_stack_without_paths_of_the_machine(
    deno: SubprocessEngine, tmp_path: Path
) -> None:
    guest = await load(deno, "class Odd extends Error {}\ninput.missing.deeper;")
    with pytest.raises(FunctionError) as caught:
        await run(guest, {})
    error = caught.value
    assert (error.error_type, error.file, error.line, error.column) == (
        "TypeError",
        "functions/f/index.ts",
        4,
        15,
    )
    assert error.guest is not None
    assert error.guest.startswith("deno-")
    assert error.invocation == 1
    assert "functions/f/index.ts:4:15" in (error.stack or "")
    assert str(tmp_path) not in (error.stack or "")
    assert "main.ts" not in (error.stack or "")


async def test_a_database_error_points_at_the_call(deno: SubprocessEngine) -> None:
    refuse = failure(
        "unique_violation", "duplicate key", sqlstate="23505", constraint="users_email_key", detail="d"
    )
    guest = await load(
        deno,
        """async function insert() {
          return await ctx.db.sql("insert");
        }
        if (input.catch) try { await insert(); } catch (e) {
          return [e instanceof DatabaseError, e.name, e.type, e.code, e.constraint, e.detail.detail];
        }
        await insert();""",
    )
    host = ScriptedHost(lambda call, args: refuse)
    assert await run(guest, {"catch": True}, host) == [
        True, "DatabaseError", "unique_violation", "23505", "users_email_key", "d",
    ]  # fmt: skip
    with pytest.raises(FunctionError) as caught:
        await run(guest, {}, host)
    assert (caught.value.error_type, caught.value.line) == ("unique_violation", 4)


async def test_a_validation_error_carries_its_fields(deno: SubprocessEngine) -> None:
    guest = await load(deno, 'throw new ValidationError({ email: "is taken" });')
    with pytest.raises(FunctionError) as caught:
        await run(guest)
    assert (caught.value.error_type, caught.value.fields) == ("ValidationError", {"email": "is taken"})


@pytest.mark.parametrize("thrown", ['"text"', "null", "{ a: 1 }", "undefined", "Symbol('x')"])
async def test_whatever_is_thrown_is_reported(deno: SubprocessEngine, thrown: str) -> None:
    guest = await load(deno, f"throw {thrown};")
    with pytest.raises(FunctionError, match="something that is not an Error") as caught:
        await run(guest)
    assert caught.value.error_type == "NonError"


async def test_an_unhandled_rejection_is_logged_and_ends_nothing(deno: SubprocessEngine) -> None:
    host = ScriptedHost()
    guest = await load(
        deno,
        'Promise.reject(new Error("stray")); queueMicrotask(() => { throw new Error("micro"); }); await ctx.sleep(1); return 1;',
    )
    assert await run(guest, host=host) == 1
    assert sorted((level, message.splitlines()[0]) for level, message in host.logged) == [
        ("error", "Unhandled: Error: micro"), ("error", "Unhandled: Error: stray"),
    ]  # fmt: skip
    assert await run(guest) == 1


async def test_calls_after_the_handler_are_refused_and_open_ones_awaited(deno: SubprocessEngine) -> None:
    release = asyncio.Event()

    async def wait() -> Outcome:
        await release.wait()
        return result({"id": "1", "duplicate": False})

    host = ScriptedHost(lambda call, args: wait() if call.op == "queue.push" else None)
    guest = await load(
        deno, 'ctx.queue.push("late").then(() => ctx.db.sql("never")).catch(() => {}); return 1;'
    )
    running = asyncio.create_task(run(guest, host=host))
    while not host.calls:
        await asyncio.sleep(0)
    assert not running.done()
    release.set()
    assert await running == 1
    assert await run(guest, host=host) == 1
    assert [call.op for call in host.calls] == ["queue.push", "queue.push"]


@pytest.mark.parametrize(
    ("source", "kind", "line", "message"),
    [
        ("const a = 1;\nconst b = ;\n", "SyntaxError", 2, "Expression expected"),
        ('import x from "./nope.ts";\nexport default () => x;', "ImportError", 1, "f/nope.ts"),
        ('\nthrow new RangeError("top");', "RangeError", 2, "top"),
        ("export const a = 1;", "TypeError", None, "has no handler"),
        ('import { nope } from "@flux/functions"; export default () => nope;', "SyntaxError", 1, "nope"),
    ],
)
async def test_code_that_does_not_load_is_named(
    deno: SubprocessEngine, tmp_path: Path, source: str, kind: str, line: int | None, message: str
) -> None:
    with pytest.raises(FunctionError) as caught:
        await deno.load(deployment(source))
    error = caught.value
    assert (error.error_type, error.line) == (kind, line)
    assert message in error.message
    assert error.file == (None if line is None else "functions/f/index.ts")
    assert str(tmp_path) not in error.message + (error.stack or "")


async def test_top_level_code_that_never_ends_is_killed(tmp_path: Path) -> None:
    async with engine(tmp_path, load_timeout=0.3) as deno:
        with pytest.raises(
            RuntimeFault, match=r"functions/f/index\.ts: the module's top-level code did not finish"
        ):
            await deno.load(deployment("for (;;) {}\nexport default () => 1;"))


async def test_host_calls_at_the_top_level_are_refused(deno: SubprocessEngine) -> None:
    with pytest.raises(FunctionError, match="inside a handler only"):
        await deno.load(deployment('await fetch("http://x/"); export default () => 1;'))
