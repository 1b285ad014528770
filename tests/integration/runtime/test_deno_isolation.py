# ruff: noqa: E501 - TypeScript inside
"""A guest reads its own code and nothing else, and can't forge what the host reads."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from flux.errors import FunctionError
from flux.runtime.deno import GUEST
from flux.runtime.pool import SubprocessEngine
from tests.integration.runtime.local_guest import ScriptedHost, deployment, engine, run


@pytest.fixture(name="deno")
async def _deno(tmp_path: Path) -> AsyncIterator[SubprocessEngine]:
    async with engine(tmp_path) as made:
        yield made


@pytest.mark.parametrize(
    "line",
    [
        'import x from "/etc/passwd" with { type: "text" };',
        'import x from "file:///etc/passwd" with { type: "bytes" };',
        'import x from "../../../../other/bundle/g/index.ts";',
        'import x from "../../import_map.json" with { type: "json" };',
        'import x from "http://127.0.0.1:9/x.ts";',
        'import x from "npm:left-pad";',
        'import x from "jsr:@std/path";',
        'import { readFileSync as x } from "node:fs";',
        'import { readFileSync as x } from "fs";',
        'import x from "node:process";',
        'import x from "node:child_process";',
        'import x from "node:worker_threads";',
        'import { createRequire as x } from "node:module";',
        'import x from "node:timers/promises";',
        f'import {{ open as x }} from "{(GUEST / "frames.ts").as_uri()}";',
        f'import {{ open as x }} from "{(GUEST / "frames.ts").as_uri()}?again";',
        f'import * as x from "{(GUEST / "main.ts").as_uri()}?again";',
    ],
)
async def test_what_is_not_in_the_bundle_cannot_be_imported(deno: SubprocessEngine, line: str) -> None:
    with pytest.raises(FunctionError) as caught:
        await deno.load(deployment(f"{line}\nexport default () => String(x);"))
    assert caught.value.error_type in {"ImportError", "TypeError"}
    assert "root:" not in caught.value.message


async def test_a_denied_module_is_named_in_the_error(deno: SubprocessEngine) -> None:
    with pytest.raises(FunctionError, match="Functions can't import `node:fs`") as caught:
        await deno.load(deployment('\nimport fs from "node:fs";\nexport default () => fs;'))
    assert (caught.value.file, caught.value.line) == ("functions/f/index.ts", 2)


async def test_the_socket_that_frames_come_by_is_gone_before_user_code_runs(deno: SubprocessEngine) -> None:
    guest = await deno.load(deployment("export default () => 1;"))
    command = Path(f"/proc/{guest.processes[0].pid}/cmdline").read_bytes().decode().rstrip("\0").split("\0")
    [granted] = [part for part in command if part.startswith("--allow-net=unix:")]
    door = Path(granted.removeprefix("--allow-net=unix:"))
    assert door.is_absolute()
    assert not door.parent.exists()


@pytest.mark.parametrize(
    "expression",
    [
        'import("/etc/passwd", { with: { type: "text" } })',
        'import("http://127.0.0.1:9/x.ts")',
        'import("node:fs")',
        'import("node:process")',
        'fetch("file:///etc/passwd")',
        'fetch("data:text/plain,x")',
        "new Function(\"return import('node:fs')\")()",
        'globalThis.Deno.readTextFile("/etc/passwd")',
        'new Worker("data:text/javascript,1", { type: "module" })',
        'new WebSocket("ws://127.0.0.1:9")',
        "process.stdout.write('x')",
        "require('node:fs')",
        "globalThis.constructor.constructor('return Deno')()",
    ],
)
async def test_nothing_outside_can_be_reached_while_running(deno: SubprocessEngine, expression: str) -> None:
    host = ScriptedHost()
    guest = await deno.load(
        deployment(
            f"export default async () => {{ try {{ return ['reached', String(await {expression})]; }} catch {{ return 'refused'; }} }}"
        )
    )
    assert await run(guest, host=host) == "refused"
    assert host.calls == []


async def test_commonjs_is_refused_by_name(deno: SubprocessEngine) -> None:
    source = 'import tool from "./tool.cjs";\nexport default () => tool();'
    tool = "module.exports = () => Object.keys(require('node:fs')).length;"
    with pytest.raises(FunctionError, match="Functions can't use CommonJS"):
        await deno.load(deployment(source, {"f/tool.cjs": tool}))


async def test_harmless_modules_of_node_work(deno: SubprocessEngine) -> None:
    source = """import { join } from "node:path"; import { format } from "util"; import assert from "node:assert/strict";
    import { Buffer } from "node:buffer"; import { EventEmitter } from "node:events";
    export default () => { assert.equal(1, 1); return [join("a", "b"), format("%d", 1), Buffer.from("x").toString("hex"), typeof EventEmitter,
      typeof Deno, typeof process]; };"""
    guest = await deno.load(deployment(source))
    assert await run(guest) == ["a/b", "1", "78", "function", "undefined", "undefined"]


async def test_a_bundle_may_import_its_own_files_and_json(deno: SubprocessEngine) -> None:
    source = """import { twice } from "../lib/twice.ts";
    import data from "./data.json" with { type: "json" };
    export default () => twice(data.n);"""
    files = {"lib/twice.ts": "export const twice = (n: number): number => 2 * n;", "f/data.json": '{"n": 21}'}
    assert await run(await deno.load(deployment(source, files))) == 42


async def test_patched_prototypes_neither_break_nor_forge_frames(deno: SubprocessEngine) -> None:
    source = """
    const forged = () => ({ t: "done", i: 99 });
    (Object.prototype as any).toJSON = forged;
    (Object.prototype as any).error = { type: "x", message: "forged" };
    JSON.stringify = () => "forged"; JSON.parse = () => ({ t: "done" });
    Array.prototype.push = () => 0; Array.prototype.join = () => "forged";
    Map.prototype.get = () => undefined; Map.prototype.set = function () { return this; }; Map.prototype.delete = () => false;
    Uint8Array.prototype.set = () => {}; Uint8Array.prototype.subarray = function () { return this; };
    TextEncoder.prototype.encodeInto = () => ({ read: 0, written: 0 }); TextEncoder.prototype.encode = () => new Uint8Array(0);
    TextDecoder.prototype.decode = () => "forged";
    Promise.prototype.then = function () { return new Promise(() => {}); };
    globalThis.queueMicrotask = () => {}; Reflect.apply = () => undefined;
    export default async ({ ctx }: any) => { const rows = await ctx.db.sql("select 1"); delete (Object.prototype as any).toJSON; return rows.length; };
    """
    host = ScriptedHost()
    guest = await deno.load(deployment(source))
    assert await run(guest, host=host) == 0
    assert [call.op for call in host.calls] == ["db.sql"]
    assert await run(guest) == 0


async def test_env_of_the_machine_does_not_show(deno: SubprocessEngine) -> None:
    guest = await deno.load(
        deployment("export default ({ ctx }: any) => [Object.keys(ctx.env), typeof process];")
    )
    assert await run(guest) == [[], "undefined"]
