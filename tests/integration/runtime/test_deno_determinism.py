# ruff: noqa: E501 - TypeScript inside
"""The same seed, clock and replies give the same output and the same calls, whatever else the process is doing."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from flux.record.call import HostCall, Outcome
from flux.runtime.pool import SubprocessEngine
from tests.integration.runtime.local_guest import (
    NOW,
    SECOND,
    ScriptedHost,
    answer,
    deployment,
    engine,
    invocation,
    run,
)


@pytest.fixture(name="deno")
async def _deno(tmp_path: Path) -> AsyncIterator[SubprocessEngine]:
    async with engine(tmp_path) as made:
        yield made


EVERY_SOURCE = """
export default async ({ ctx }: any) => {
  const first = new Date();
  const all = () => [
    Date.now(), new Date().toISOString(), Date(), performance.now(), performance.timeOrigin, Math.random(), crypto.randomUUID(),
    [...crypto.getRandomValues(new Uint16Array(3))], Temporal.Now.instant().toString(), Temporal.Now.plainDateTimeISO().toString(),
    new Intl.DateTimeFormat("en", { timeStyle: "long", timeZone: "UTC" }).format(), new Event("x").timeStamp,
    new File([], "x").lastModified, new (class extends Date {})().getTime(), Reflect.construct(Date, []).getTime(),
    new Intl.DateTimeFormat("en", { dateStyle: "full" }).formatToParts().length, new Date(5).getTime(), first instanceof Date,
    new Date().getTimezoneOffset(), Intl.DateTimeFormat().resolvedOptions().timeZone, new Date().toLocaleString(),
  ];
  const before = all();
  await ctx.sleep(1);
  const key = await crypto.subtle.generateKey({ name: "AES-GCM", length: 128 }, true, ["encrypt"]);
  const pair = await crypto.subtle.generateKey("Ed25519", true, ["sign", "verify"]) as CryptoKeyPair;
  const signed = await crypto.subtle.sign("Ed25519", pair.privateKey, new Uint8Array(3));
  return [before, all(), [...new Uint8Array(await crypto.subtle.exportKey("raw", key))], [...new Uint8Array(signed)],
    await crypto.subtle.verify("Ed25519", pair.publicKey, signed, new Uint8Array(3))];
};
"""


async def test_every_clock_and_every_random_comes_from_the_invocation(deno: SubprocessEngine) -> None:
    guest = await deno.load(deployment(EVERY_SOURCE))
    one = await run(guest)
    two = await run(guest)
    other = await run(guest, seed=bytes(32))
    assert one == two
    before, after = one[0], one[1]
    assert before[0] == NOW // 1_000_000
    assert before[1] == "2023-11-14T22:13:20.000Z"
    assert before[3] == 0
    assert after[0] == (NOW + SECOND) // 1_000_000
    assert after[3] == 1000
    assert before[18:20] == [0, "UTC"]
    assert one[4] is True
    assert [other[0][i] == before[i] for i in (5, 6, 7)] == [False, False, False]
    assert other[2:4] != one[2:4]


async def test_module_code_sees_the_start_frames_seed_and_clock(tmp_path: Path) -> None:
    source = "const top = [Math.random(), Date.now(), crypto.randomUUID()];\nexport default () => top;"
    seen = []
    for turn in range(2):
        async with engine(
            tmp_path / str(turn), boot_seed=lambda name: bytes(32), clock_ns=lambda: NOW
        ) as deno:
            seen.append(await run(await deno.load(deployment(source))))
    assert seen[0] == seen[1]
    assert seen[0][1] == NOW // 1_000_000


async def test_the_random_stream_is_chacha20(deno: SubprocessEngine) -> None:
    source = "export default () => [...crypto.getRandomValues(new Uint8Array(16))];"
    guest = await deno.load(deployment(source))
    key_of_zeros = "76b8e0ada0f13d90405d6ae55386bd28"
    assert bytes(await run(guest, seed=bytes(32))).hex() == key_of_zeros


TANGLED = """
let calls = 0;
export default async ({ ctx, input }: any) => {
  const seen: string[] = [];
  const leaf = async (name: string) => {
    for (let i = 0; i < 3; i++) {
      const rows = await ctx.db.sql("select $1", [name, Math.random(), Date.now()]);
      seen.push(`${name}${i}:${rows[0].v}`);
      await null;
      if (i === 1) {
        const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(seen.join())));
        seen.push(`${name}#${digest[0]}`);
      }
      for (let k = 0; k < name.charCodeAt(0) % 4; k++) await null;
      await ctx.queue.push("next", { seen: seen.length, r: crypto.randomUUID() });
    }
    return name;
  };
  const winner = await Promise.race(["a", "b", "c", "d"].map(leaf));
  const all = await Promise.all([leaf("e"), leaf("f"), new Promise((done) => setTimeout(() => done(seen.push("timer")), 5))]);
  await new Blob([seen.join()]).text();
  return { seen, winner, all, at: Date.now(), r: Math.random(), id: crypto.randomUUID(), input };
};
"""


class Scheduled:
    """A host that answers in an order drawn from a seed: it holds each call and releases one at a time."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._waiting: list[tuple[HostCall, asyncio.Future[None]]] = []
        self._now = NOW
        self._delivered = 0
        self.log: list[tuple[int, str, bytes]] = []
        self._task: asyncio.Task[None] | None = None

    async def perform(self, call: HostCall) -> Outcome:
        self.log.append((call.n, call.op, call.arguments))
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((call, turn))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._release())
        await turn
        self._now += SECOND // 1000
        self._delivered += 1
        body = orjson.dumps({"rows": [{"v": self._delivered}], "count": 1, "types": {}})
        return Outcome(result=body, now_ns=self._now)

    async def _release(self) -> None:
        while self._waiting:
            self._waiting.sort(key=lambda entry: entry[0].n)
            burst = self._random.randint(1, len(self._waiting))
            for _ in range(burst):
                at = self._random.randrange(len(self._waiting))
                self._waiting.pop(at)[1].set_result(None)

    def sent(self, guest: str, invocation: int) -> None:
        pass

    def begin(self, call: HostCall) -> None:
        pass

    def give_up(self, n: int) -> None:
        pass

    def notify(self, call: HostCall) -> None:
        self.log.append((call.n, call.op, call.arguments))

    async def close(self) -> None:
        return None


class Recorded:
    """Delivers recorded outcomes in the recorded order, as exact replay will; anything else is a divergence."""

    def __init__(self, order: list[tuple[HostCall, Outcome]]) -> None:
        self._expected = {call.n: (place, call) for place, (call, _) in enumerate(order)}
        self._order = order
        self._turns: list[asyncio.Event] = [asyncio.Event() for _ in range(len(order) + 1)]
        self._turns[0].set()
        self.log: list[tuple[int, str, bytes]] = []
        self.divergence: Any = None

    async def perform(self, call: HostCall) -> Outcome:
        self.log.append((call.n, call.op, call.arguments))
        place, expected = self._expected.get(call.n, (None, None))
        if (
            place is None
            or expected is None
            or (call.op, call.arguments) != (expected.op, expected.arguments)
        ):
            self.divergence = self.divergence or (call, expected)
            return Outcome(result=b"{}", now_ns=NOW)
        await self._turns[place].wait()
        self._turns[place + 1].set()
        return self._order[place][1]

    def sent(self, guest: str, invocation: int) -> None:
        pass

    def begin(self, call: HostCall) -> None:
        pass

    def give_up(self, n: int) -> None:
        pass

    def notify(self, call: HostCall) -> None:
        self.log.append((call.n, call.op, call.arguments))

    async def close(self) -> None:
        return None


class Delivering(Scheduled):
    """A Scheduled host that writes down the order of its deliveries."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.order: list[tuple[HostCall, Outcome]] = []

    async def perform(self, call: HostCall) -> Outcome:
        outcome = await super().perform(call)
        self.order.append((call, outcome))
        return outcome


async def test_a_recorded_invocation_replays_identically_twenty_times(deno: SubprocessEngine) -> None:
    guest = await deno.load(deployment(TANGLED))
    hosts = [Delivering(seed) for seed in range(10)]
    replies = await asyncio.gather(*(guest.invoke(invocation(seed), host) for seed, host in enumerate(hosts)))
    assert len({orjson.dumps(orjson.loads(reply.body)["seen"]) for reply in replies}) > 1

    async def replay(seed: int) -> None:
        host = Recorded(hosts[seed].order)
        again = await guest.invoke(invocation(seed), host)
        assert host.divergence is None
        assert again.body == replies[seed].body
        assert sorted(host.log) == sorted(hosts[seed].log)

    for _ in range(2):
        await asyncio.gather(*(replay(seed) for seed in range(10)))


async def test_replies_that_arrive_together_do_not_interleave(deno: SubprocessEngine) -> None:
    source = """export default async ({ ctx }: any) => {
      let trail = "";
      const leaf = async (name: string) => { await ctx.db.sql(name); trail += name; await null; trail += name; await null; await null; trail += name; };
      await Promise.all([leaf("a"), leaf("b"), leaf("c")]);
      return trail;
    };"""
    guest = await deno.load(deployment(source))
    for _ in range(20):
        assert await run(guest, host=ScriptedHost()) == "aaabbbccc"


async def test_replies_to_different_invocations_that_arrive_together_do_not_interleave(
    deno: SubprocessEngine,
) -> None:
    source = """let trail: string[] = [];
    export default async ({ input, ctx }: any) => {
      if (input === "read") { const all = trail; trail = []; return all; }
      for (let round = 0; round < 3; round++) {
        await ctx.db.sql("select 1");
        for (let step = 0; step < 5; step++) { trail.push(input + round); await null; }
      }
    };"""
    guest = await deno.load(deployment(source))
    names = "abcdefgh"
    waiting: list[asyncio.Future[None]] = []

    async def together(call: HostCall, arguments: dict[str, Any]) -> None:
        gate: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting.append(gate)
        if len(waiting) == len(names):
            released, waiting[:] = list(waiting), []
            for each in released:
                each.set_result(None)
        await gate

    for _ in range(5):
        await asyncio.gather(*(run(guest, name, host=ScriptedHost(together)) for name in names))
        trail = await run(guest, "read")
        blocks = [trail[at : at + 5] for at in range(0, len(trail), 5)]
        assert sorted(blocks) == sorted([f"{name}{turn}"] * 5 for name in names for turn in range(3))


async def test_a_native_operation_is_over_before_the_next_reply(deno: SubprocessEngine) -> None:
    source = """export default async ({ ctx }: any) => {
      const trail: string[] = [];
      const one = async () => {
        await ctx.db.sql("one");
        await crypto.subtle.digest("SHA-256", new Uint8Array(1 << 20));
        trail.push("one");
      };
      const two = async () => { await ctx.db.sql("two"); trail.push("two"); };
      await Promise.all([one(), two()]);
      return trail;
    };"""
    guest = await deno.load(deployment(source))
    for _ in range(5):
        assert await run(guest, host=ScriptedHost()) == ["one", "two"]


async def test_native_work_of_one_invocation_ends_before_a_reply_to_another(deno: SubprocessEngine) -> None:
    source = """let trail: string[] = [];
    export default async ({ input, ctx }: any) => {
      if (input === "read") return trail;
      await ctx.db.sql(input);
      if (input === "native") await crypto.subtle.digest("SHA-256", new Uint8Array(1 << 22));
      trail.push(input);
    };"""
    guest = await deno.load(deployment(source))
    first = asyncio.Event()

    async def gated(call: HostCall, arguments: dict[str, Any]) -> None:
        if arguments["text"] == "native":
            first.set()
        else:
            await first.wait()

    for _ in range(5):
        first.clear()
        await asyncio.gather(*(run(guest, name, host=ScriptedHost(gated)) for name in ("native", "reply")))
    assert await run(guest, "read") == ["native", "reply"] * 5


async def test_a_stream_that_waits_for_replies_can_be_answered_and_sent(deno: SubprocessEngine) -> None:
    source = """
    const slow = (ctx: any) => new ReadableStream({ async pull(c) { await ctx.sleep(1); c.enqueue(new Uint8Array([104, 105])); c.close(); } });
    export default async ({ ctx }: any) => {
      const text = await new Response(slow(ctx)).text();
      await fetch("http://x.test/", { method: "POST", body: slow(ctx) }).catch(() => {});
      return new Response(slow(ctx), { headers: { "x-text": text } });
    };"""
    reply = await answer(await deno.load(deployment(source)), host=ScriptedHost())
    assert (reply.body, [value for name, value in reply.headers if name == "x-text"]) == (b"hi", ["hi"])


async def test_responses_and_requests_are_still_theirs(deno: SubprocessEngine) -> None:
    source = """
    class Mine extends Response {}
    export default async () => {
      const form = new FormData(); form.set("a", "1");
      const blob = new Blob(["x"], { type: "text/plain" });
      const request = new Request("http://x.test/", { method: "POST", body: blob, headers: { "x-a": "1" } });
      const own = new Response(form, { headers: { "content-type": "text/x" }, status: 201 });
      return [new Mine("x") instanceof Response, new Mine("x").constructor === Mine, new Response().constructor === Response,
        Response.json(1) instanceof Response, new Response(blob).headers.get("content-type"), request.headers.get("content-type"),
        request.headers.get("x-a"), await request.text(), own.headers.get("content-type"), own.status,
        (await new Response(form).formData()).get("a"), (await new Response(blob).blob()).type, new Request(request.url).method,
        await new Request("http://x.test/", { method: "POST", body: form }).clone().formData().then((f) => [...f])];
    };"""
    assert await run(await deno.load(deployment(source))) == [
        True, True, True, True, "text/plain", "text/plain", "1", "x", "text/x", 201, "1", "text/plain", "GET", [["a", "1"]],
    ]  # fmt: skip
