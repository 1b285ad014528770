"""Values that break stores: what is sent, answered and pushed is in the record byte for byte, and what comes
after them is recorded as if nothing had been.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import random
import time
from collections.abc import Iterator, Sequence
from typing import Any

import asyncpg
import httpx
import pytest

from tests.acceptance.conftest import Project
from tests.integration.drain.recorded import complete, recorder

ROUNDS = int(os.environ.get("FLUX_POISON_ROUNDS", "30"))
"""Random inputs for each language."""
SEED = int(os.environ.get("FLUX_POISON_SEED", "20"))

NASTY = (
    "\\u0000", "\\ud800", "\\udfff", "\\ud83d", "\\ude00\\ud83d", "\\ud83d\\ude00", "\\\\u0000",
    "\\\\\\u0000", "\\uffff", "\\u2028", "\\u001b[31m", "\\r\\n", "\\t", "\\\"", "\\/",
    "\u2400", "\ufffd", "\U0010ffff",
    "\u202e", "\x7f", "'; drop table users; --", "$1", "%s", "{}", "NaN", "",
)  # fmt: skip
NUMBERS = (
    "0", "-0", "-0.0", "1E+2", "1e400", "-1e400", "1e-400", "5e-324", "9007199254740993", "1" * 400,
    "18446744073709551616", "-9223372036854775809", "0.1000000000000000055511151231257827", "1.0",
)  # fmt: skip

TYPESCRIPT = """
import { defineFunction, ValidationError } from "@flux/functions";

export default defineFunction({
  name: "ts",
  handler: async ({ input, ctx }) => {
    const text = String(input.text), seen: unknown[] = [];
    ctx.log.info(text, { value: input.value, text });
    ctx.log.error(text.repeat(2), input.value);
    await ctx.trace.span(text || "empty", async () => {
      const asked = [["select $1::text as back", text], ["select $1::jsonb as back", input.value]];
      for (const [sql, value] of asked) {
        try { seen.push((await ctx.db.sql(sql as string, [value as never]))[0].back); }
        catch (error) { seen.push((error as { type: string }).type); }
      }
    }, { text, value: input.value, [text]: text });
    try { await ctx.queue.push("sink", input.value); } catch (error) { seen.push((error as Error).name); }
    if (input.end === "throw") throw Object.assign(new Error(text), { name: text });
    if (input.end === "invalid") throw new ValidationError({ [text]: input.value }, text);
    if (input.end === "response") {
      const bytes = new TextEncoder().encode(text);
      return new Response(bytes, { status: 201, headers: { "x-a": "\\u00ff" + text.length } });
    }
    return { text, value: input.value, seen };
  },
});
"""

PYTHON = """
from flux_functions import Response, ValidationError

class Odd(Exception):
    pass

async def handler(input, ctx):
    text, seen = str(input["text"]), []
    def attempt(work):
        try:
            work()
        except Exception as error:
            seen.append(type(error).__name__)
    attempt(lambda: ctx.log.info(text, value=input["value"], text=text))
    attempt(lambda: ctx.log.error(text * 2, value=input["value"]))
    try:
        async with ctx.trace.span(text or "empty", text=text, value=input["value"]):
            for kind, value in (("text", text), ("jsonb", input["value"])):
                try:
                    seen.append(await ctx.db.fetchval(f"select $1::{kind} as back", value))
                except Exception as error:
                    seen.append(getattr(error, "type", type(error).__name__))
    except Exception as error:
        seen.append(type(error).__name__)
    try:
        await ctx.queue.push("sink", input["value"])
    except Exception as error:
        seen.append(type(error).__name__)
    if input["end"] == "throw":
        raise Odd(text)
    if input["end"] == "invalid":
        raise ValidationError({text: input["value"]}, text)
    if input["end"] == "response":
        return Response(text.encode("utf-8", "surrogatepass"), 201, {"x-a": str(len(text))})
    return {"text": text, "value": input["value"], "seen": seen}
"""


class Nasty:
    """Random JSON text that is right and yet hard to keep; the same for the same seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def string(self) -> str:
        draw = self.random
        parts = [draw.choice((*NASTY, "a", "\u00e9", " ")) for _ in range(draw.randrange(6))]
        if draw.random() < 0.03:
            parts.append("x" * (2**20 + draw.randrange(9)))
        return '"' + "".join(parts) + '"'

    def value(self, depth: int = 0) -> str:
        draw = self.random
        kind = draw.randrange(8 if depth < 4 else 5)
        space = draw.choice(("", "", " ", "\n\t"))
        if kind < 2:
            return self.string()
        if kind == 2:
            return draw.choice(NUMBERS)
        if kind == 3:
            return draw.choice(("true", "false", "null", "{}", "[]"))
        if kind == 4:
            levels = draw.choice((3, 150, 300, 301, 400, 700))
            return "[" * levels + draw.choice(("1", '"\\u0000"')) + "]" * levels
        members = [self.value(depth + 1) for _ in range(draw.randrange(4))]
        if kind == 5:
            return f"[{space}" + f"{space},".join(members) + "]"
        names = [draw.choice(('"a"', '"a"', '"__proto__"', '""', self.string())) for _ in members]
        return (
            "{" + ",".join(f"{name}{space}:{value}" for name, value in zip(names, members, strict=True)) + "}"
        )

    def body(self) -> bytes:
        end = self.random.choice(("return", "return", "throw", "invalid", "response"))
        return f'{{"text": {self.string()}, "end":"{end}","value": {self.value()} }}'.encode()


REFUSED = (
    (b'{"text": "\xff\xfe"}', "BadJSON"),
    (b'{"text": "\xed\xa0\x80"}', "BadJSON"),
    (b'{"value": NaN}', "BadJSON"),
    (b'{"value": -Infinity}', "BadJSON"),
    (b"[" * 5000 + b"]" * 5000, "BadJSON"),
    (b'{"a":' * 5000 + b"0" + b"}" * 5000, "BadJSON"),
    (b"\0", "BadJSON"),
    (b"\xef\xbb\xbf{}", "BadJSON"),
)
"""Bodies that are no JSON, and what the answer says of them."""


@pytest.fixture
def poisoned(project: Project) -> Iterator[tuple[Project, httpx.Client]]:
    project.write("functions/ts/index.ts", TYPESCRIPT)
    project.write("functions/py/main.py", PYTHON)
    project.typescript("sink", "    return input;")
    with project.serving() as client:
        yield project, client


def test_what_was_sent_answered_and_pushed_is_recorded_byte_for_byte(
    poisoned: tuple[Project, httpx.Client],
) -> None:
    project, client = poisoned
    sent: list[tuple[str, bytes, httpx.Response]] = []
    json_type = {"content-type": "application/json"}
    for number, language in enumerate(("ts", "py")):
        nasty = Nasty(SEED + number)
        for body in [nasty.body() for _ in range(ROUNDS)]:
            sent.append((language, body, client.post(f"/{language}", content=body, headers=json_type)))
        for body, kind in REFUSED:
            answer = client.post(f"/{language}", content=body, headers=json_type)
            assert (answer.status_code, answer.json()["error"]["type"]) == (400, kind), body[:40]
            sent.append((language, body, answer))
        raw = nasty.random.randbytes(3000)
        answer = client.post(f"/{language}", content=raw, headers={"content-type": "application/x-raw"})
        sent.append((language, raw, answer))
    odd = client.request(
        "POST", "/ts?a=%00&a=%ff&%ed%a0%80=1", content=b"{}", headers=[("x-odd", b"\xff\xfe\x80")]
    )
    after = client.post("/sink", json={"fine": True})
    assert after.json() == {"fine": True}
    executions, calls = asyncio.run(
        _recorded(
            project.environment["DATABASE_URL"],
            [answer.headers["x-request-id"] for _, _, answer in sent] + [after.headers["x-request-id"]],
        )
    )
    assert odd.headers["x-request-id"] in executions
    for language, body, answer in sent:
        record = executions[answer.headers["x-request-id"]]
        assert (record["body"], record["body_size"]) == (body, len(body)), body[:200]
        assert record["status"] == answer.status_code
        assert answer.status_code in (200, 201, 400, 422, 500), (answer.text, body[:300])
        if answer.status_code in (200, 201):
            assert record["outcome"] == "ok"
            _same_output(record, answer)
        else:
            assert record["error"] is not None, body[:200]
            assert record["outcome"] == ("rejected" if answer.status_code == 400 else "error")
        if record["outcome"] == "ok" and answer.status_code == 200:
            _check_calls(language, json.loads(body), answer, calls[record["request_id"]])
    _check_jobs(executions, calls)
    _check_commands(project, sent)


def _same_output(record: asyncpg.Record, answer: httpx.Response) -> None:
    if record["output_size"] <= 2**20:
        assert record["output"] == answer.content
    else:
        assert (len(answer.content), record["output"]) == (record["output_size"], answer.content[: 2**20])


def _check_calls(language: str, given: Any, answer: httpx.Response, calls: Sequence[asyncpg.Record]) -> None:
    """What a function asked of the host is kept as it said it: it reads as what the function was given."""
    said = {call["op"]: call for call in calls}
    text, value = given["text"], given["value"]
    if "db.sql" not in said:
        assert language == "py"  # Python refuses to write half a surrogate pair, and says so to the function
        assert "NotJSON" in answer.json()["seen"]
        return
    first = next(call for call in calls if call["op"] == "db.sql")
    if first["arguments_size"] is None:
        assert json.loads(first["arguments"])["params"] in ([text], [value])
    for call in calls:
        assert (call["status"], call["arguments_size"] is None) in {("done", True), ("done", False)}
        assert (call["result"] is None) != (call["error"] is None)


def _check_jobs(executions: dict[str, Any], calls: dict[str, list[Any]]) -> None:
    """A job's input is, byte for byte, the payload that was pushed."""
    pushed = {}
    for made in calls.values():
        for call in made:
            if call["op"] == "queue.push" and call["error"] is None and call["arguments_size"] is None:
                pushed[json.loads(call["result"])["id"]] = call["arguments"]
    ran = [record for record in executions.values() if record["trigger"] == "job"]
    assert ran
    for record in ran:
        if record["job_id"] in pushed:
            assert b'"payload":' + record["body"] in pushed[record["job_id"]]
            assert record["outcome"] == "ok"


def _check_commands(project: Project, sent: list[tuple[str, bytes, httpx.Response]]) -> None:
    """The commands show such records, as pages and as JSON."""
    wanted: dict[int, str] = {}
    for _, body, answer in sorted(sent, key=lambda entry: -len(entry[1])):
        if len(body) < 5000 and (b"\\ud8" in body or answer.status_code == 400):
            wanted[answer.status_code] = answer.headers["x-request-id"]
    for request_id in dict.fromkeys(wanted.values()):
        for command in ("trace", "why"):
            shown = project.flux(command, request_id, code=None)
            assert "Traceback" not in shown.stderr, shown.stderr
            assert shown.returncode in (0, 1)
            assert request_id[:8] in shown.stdout
            assert "\0" not in shown.stdout
        document = project.json("trace", request_id)
        assert document["request_id"] == request_id
        document["request"]["body"], document["input"]
    ids = {answer.headers["x-request-id"] for _, _, answer in sent}
    log = project.servers[-1].text()
    assert "Traceback" not in log, log
    for command in (("tail", "--no-follow", "-n", "1000"), ("logs", "-n", "1000")):
        page = project.flux(*command)
        assert "Traceback" not in page.stderr
        assert "\x1b" not in page.stdout.replace("\x1b[0m", "")
        lines = [json.loads(line) for line in project.flux(*command, "--json").stdout.splitlines()]
        assert ids & {line["request_id"] for line in lines}
    checks = {
        check["name"]: check
        for check in json.loads(project.flux("doctor", "--json", code=None).stdout)["checks"]
    }
    for name in ("drain", "spool", "quarantine", "drops", "capture"):
        assert checks[name]["ok"], checks[name]


async def _recorded(
    url: str, ids: list[str]
) -> tuple[dict[str, asyncpg.Record], dict[str, list[asyncpg.Record]]]:
    """All executions and calls, once those of `ids` are there and no job waits."""
    connection = await asyncpg.connect(url)
    try:
        deadline = time.monotonic() + 60
        while True:
            count = await connection.fetchval(
                "SELECT count(*) FROM flux.executions WHERE request_id = ANY ($1::text[])", ids
            )
            waiting = await connection.fetchval("SELECT count(*) FROM flux.jobs WHERE status <> 'done'")
            if count == len(ids) and not waiting:
                break
            assert time.monotonic() < deadline, (count, len(ids), waiting)
            await asyncio.sleep(0.05)
        executions = {
            row["request_id"]: row for row in await connection.fetch("SELECT * FROM flux.executions")
        }
        calls: dict[str, list[asyncpg.Record]] = {}
        for row in await connection.fetch("SELECT * FROM flux.host_calls ORDER BY request_id, seq"):
            calls.setdefault(row["request_id"], []).append(row)
        assert await connection.fetchval("SELECT count(*) FROM flux.quarantine") == 0
        return executions, calls
    finally:
        await connection.close()


DEEP_TYPESCRIPT = """
import { defineFunction, ValidationError } from "@flux/functions";

export default defineFunction({
  name: "deep",
  handler: async ({ input, ctx }) => {
    let deep: unknown = "\\0";
    for (let level = 0; level < input.levels; level++) deep = level % 2 ? [deep] : { "": deep };
    const seen: unknown[] = [];
    const attempt = async (work: () => unknown) => {
      try { await work(); seen.push("ok"); }
      catch (error) { seen.push((error as { type?: string }).type ?? (error as Error).name); }
    };
    ctx.log.info("deep", { deep });
    await attempt(() => ctx.trace.span("deep", () => 1, { deep } as never));
    await attempt(() => ctx.db.sql("select $1::jsonb", [deep as never]));
    await attempt(() => ctx.queue.push("sink", deep));
    await attempt(() => ctx.invoke("sink", deep));
    if (input.fail) throw new ValidationError({ deep });
    return input.whole ? deep : seen;
  },
});
"""
DEEP_PYTHON = """
from flux_functions import ValidationError

async def handler(input, ctx):
    deep, seen = "\\0", []
    for level in range(input["levels"]):
        deep = [deep] if level % 2 else {"": deep}
    async def attempt(work):
        try:
            await work()
            seen.append("ok")
        except Exception as error:
            seen.append(getattr(error, "type", type(error).__name__))
    async def log():
        ctx.log.info("deep", deep=deep)
    async def span():
        async with ctx.trace.span("deep", deep=deep):
            pass
    sql = "select $1::jsonb"
    for work in (log, span, lambda: ctx.db.fetch(sql, deep), lambda: ctx.queue.push("sink", deep)):
        await attempt(work)
    await attempt(lambda: ctx.invoke("sink", deep))
    if input.get("fail"):
        raise ValidationError({"deep": deep})
    return deep if input.get("whole") else seen
"""


@pytest.mark.parametrize("language", ["ts", "py"])
def test_values_nested_thousands_deep_are_recorded_or_refused_and_cost_nobody_else(
    project: Project, language: str
) -> None:
    path, text = ("index.ts", DEEP_TYPESCRIPT) if language == "ts" else ("main.py", DEEP_PYTHON)
    project.write(f"functions/deep/{path}", text)
    project.typescript("sink", "    return input;")
    answers: list[tuple[int, bool, httpx.Response]] = []
    with project.serving() as client:
        for levels in (200, 260, 700, 990, 1010, 5000):
            for more in ({}, {"fail": True}, {"whole": True}):
                answer = client.post("/deep", json={"levels": levels, **more})
                answers.append((levels, "whole" in more, answer))
                refused = language == "py" and levels > 2000 and "whole" in more
                wanted = 500 if refused else 422 if "fail" in more else 200
                assert answer.status_code == wanted, answer.text
        ids = [answer.headers["x-request-id"] for _, _, answer in answers]
        executions, calls = asyncio.run(_recorded(project.environment["DATABASE_URL"], ids))
        for levels, whole, answer in answers:
            record = executions[answer.headers["x-request-id"]]
            assert record["status"] == answer.status_code
            if answer.status_code == 200:
                assert record["output"] == answer.content
                assert not whole or answer.content.count(b"[") == levels // 2
            for call in calls.get(record["request_id"], []):
                assert call["status"] == "done"
                assert call["error"] is None or any(word in call["error"] for word in ("too deeply", "22P05"))
        for request_id in ids[-3:]:
            assert project.json("trace", request_id)["request_id"] == request_id
            assert request_id[:8] in project.flux("why", request_id).stdout
        assert project.flux("logs", "-n", "1000", "--json").stdout.count('"message"') >= len(ids)
    assert "Traceback" not in project.servers[-1].text()


def test_what_was_quarantined_is_counted_by_doctor_and_can_be_read(project: Project) -> None:
    left = recorder(project.root / ".flux" / "spool")
    left.journal.spool.append(b"\xc1 is no record")
    fine = complete(left)
    left.close()
    assert project.json("trace", fine.request_id)["outcome"] == "ok"
    told = json.loads(project.flux("doctor", "--json", code=1).stdout)
    [check] = [check for check in told["checks"] if check["name"] == "quarantine"]
    assert (check["ok"], "1 record refused" in check["detail"]) == (False, True)
    [row] = json.loads(project.flux("query", "select reason, record from flux.quarantine", "--json").stdout)
    assert base64.b64decode(row["record"]["$bytea"]) == b"\xc1 is no record"
    assert row["reason"].startswith("Not an event")
