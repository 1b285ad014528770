"""Runs functions of the corpus several at once, writes down in what order what was told to their process, and
runs them again in a fresh one with the same told in the same order.
"""

from __future__ import annotations

import asyncio
import json
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flux.errors import FluxError
from flux.record.call import CallError, HostCall, Outcome
from flux.runtime.deployment import Deployment
from flux.runtime.engine import Invocation
from flux.runtime.pool import SubprocessEngine

CORPUS = Path(__file__).parents[2] / "corpus" / "replay" / "functions"
NOW = 1_700_000_000_000_000_000

Event = tuple[int, int]
"""An invocation and the `n` of a call of it that was answered; 0: it was begun."""


@dataclass
class Story:
    """What was told to a process, in order, and what each of its invocations made of it."""

    events: list[Event] = field(default_factory=list)
    outcomes: dict[Event, Outcome] = field(default_factory=dict)
    told: dict[int, Any] = field(default_factory=dict)


class Live:
    """A host that makes answers up, each after a while of chance."""

    def __init__(self, story: Story, index: int, chance: random.Random) -> None:
        self._story, self._index, self._chance = story, index, chance
        self.seen: list[tuple[int, str, bytes]] = []
        self._now = NOW

    def sent(self, guest: str, invocation: int) -> None:
        self._story.events.append((self._index, 0))

    def begin(self, call: HostCall) -> None:
        self.seen.append((call.n, call.op, call.arguments))

    def give_up(self, n: int) -> None:
        pass

    async def perform(self, call: HostCall) -> Outcome:
        outcome = made_up(call, self._chance)
        await asyncio.sleep(self._chance.random() * 0.004)
        self._now += self._chance.randrange(1, 5_000_000)
        outcome.now_ns = self._now
        event = (self._index, call.n)
        self._story.events.append(event)
        self._story.outcomes[event] = outcome
        return outcome

    def notify(self, call: HostCall) -> None:
        self.seen.append((call.n, call.op, call.arguments))

    async def close(self) -> None:
        return None


class Told:
    """Hands out a story's events one at a time."""

    def __init__(self, story: Story) -> None:
        self._events = list(story.events)
        self._gone: set[Event] = set()
        self._at = 0
        self._waiting: dict[Event, asyncio.Event] = {}

    async def turn(self, event: Event) -> None:
        """Wait until it is the event's turn; the caller tells of it in this very step."""
        while self._next() != event:
            woken = self._waiting.setdefault(event, asyncio.Event())
            await woken.wait()
            woken.clear()
        self._at += 1
        self._wake()

    def skip(self, event: Event) -> None:
        """It won't come: the guest gave the call up."""
        self._gone.add(event)
        self._wake()

    def _next(self) -> Event | None:
        while self._at < len(self._events) and self._events[self._at] in self._gone:
            self._at += 1
        return self._events[self._at] if self._at < len(self._events) else None

    def _wake(self) -> None:
        event = self._next()
        if event in self._waiting:
            self._waiting[event].set()


class Again:
    """A host that answers from a story. A call that is not in it is never answered."""

    def __init__(self, story: Story, index: int, told: Told) -> None:
        self._story, self._index, self._told = story, index, told
        self.seen: list[tuple[int, str, bytes]] = []

    def sent(self, guest: str, invocation: int) -> None:
        pass

    def begin(self, call: HostCall) -> None:
        self.seen.append((call.n, call.op, call.arguments))

    def give_up(self, n: int) -> None:
        self._told.skip((self._index, n))

    async def perform(self, call: HostCall) -> Outcome:
        event = (self._index, call.n)
        if event not in self._story.outcomes:
            await asyncio.get_running_loop().create_future()
        await self._told.turn(event)
        return self._story.outcomes[event]

    def notify(self, call: HostCall) -> None:
        self.seen.append((call.n, call.op, call.arguments))

    async def close(self) -> None:
        return None


def deployment(name: str) -> Deployment:
    """A function of the corpus."""
    files = {
        str(path.relative_to(CORPUS)): path.read_bytes()
        for path in sorted((CORPUS / name).rglob("*"))
        if path.is_file()
    }
    python = f"{name}/main.py" in files
    entry = f"{name}/{'main.py' if python else 'index.ts'}"
    runtime = "python" if python else "typescript"
    return Deployment("0" * 64, name, runtime, entry, files, {}, {"timeout_ms": 10_000}, {})


async def record(engine: SubprocessEngine, name: str, times: int, chance: random.Random) -> Story:
    """Run `times` invocations of a function at once in a fresh process."""
    story = Story()
    guest = await engine.load(deployment(name))

    async def one(index: int) -> None:
        await asyncio.sleep(chance.random() * 0.004)
        host = Live(story, index, chance)
        story.told[index] = await outcome(guest, index, host)

    await asyncio.gather(*(one(index) for index in range(times)))
    await guest.close(0)
    return story


async def replay(engine: SubprocessEngine, name: str, story: Story) -> dict[int, Any]:
    """The same in another fresh process; what its invocations make of it."""
    guest = await engine.load(deployment(name))
    told = Told(story)

    async def one(index: int) -> Any:
        await told.turn((index, 0))
        return await outcome(guest, index, Again(story, index, told))

    found = await asyncio.gather(*(one(index) for index in sorted(story.told)))
    await guest.close(0)
    return dict(zip(sorted(story.told), found, strict=True))


async def outcome(guest: Any, index: int, host: Live | Again) -> Any:
    """Run one invocation: what it answered, or failed with, and all that it asked for and noted."""
    given = json.dumps({"n": index, "password": "hunter2", "z": 1, "a": [1, {"b": 2.5}]}).encode()
    request = {"method": "POST", "url": "http://x/f", "path": "/f", "params": {}, "query": {}, "headers": []}
    seed = bytes([index + 1]) * 32
    asked = Invocation("a" * 32, "b" * 32, "c" * 16, seed, NOW, 10.0, request, given)
    try:
        reply = await guest.invoke(asked, host)
        rest = await reply.rest if reply.rest is not None else []
        end: Any = (reply.status, reply.headers, reply.body, reply.warnings, rest)
    except FluxError as error:
        end = (type(error).__name__, error.message, getattr(error, "stack", None))
    return end, {n: (op, arguments) for n, op, arguments in host.seen}


def difference(one: Any, two: Any) -> Any:
    """What differs between two outcomes; None where nothing does."""
    if one[0] != two[0]:
        return one[0], two[0]
    for n in sorted(one[1].keys() | two[1].keys()):
        asked, again = one[1].get(n), two[1].get(n)
        if asked != again:
            return n, asked, again
    return None


def made_up(call: HostCall, chance: random.Random) -> Outcome:
    """An answer to a call, of its shape."""
    asked = json.loads(call.arguments)
    text = call.arguments.decode()
    if call.op in ("db.query", "db.sql"):
        if any(part in text for part in ("nonexistent", "1/0", "bogus", "dup@x")):
            return Outcome(
                error=CallError("division_by_zero", "it fails", {"sqlstate": "22012", "detail": "d"})
            )
        row = {name: chance.randrange(1_000) for name in ("id", "v", "n", "x", "a")}
        row |= {"u": "u", "email": "e@x", "at": "2023-11-14T22:13:20Z", "name": "n"}  # type: ignore[dict-item]
        return _result({"rows": [row], "count": 1, "tag": "SELECT 1", "types": {}})
    if call.op == "fetch":
        return _fetched(asked, chance)
    if call.op == "secrets.get":
        if asked["key"] == "MISSING_ONE":
            return Outcome(error=CallError("SecretNotFound", "there is no secret MISSING_ONE"))
        return _result({"value": "super-secret-key-123456"})
    if call.op == "queue.push":
        return _result({"id": f"{chance.randrange(10**9)}"})
    if call.op == "invoke":
        return _result({"x": chance.random()})
    return Outcome(result=b"{}")


def _fetched(asked: dict[str, Any], chance: random.Random) -> Outcome:
    url = asked["url"]
    if ":4391" in url or "/break" in url:
        return Outcome(error=CallError("ConnectError", f"{url} can't be reached", {"url": url}))
    value = {"v": chance.randrange(10**6), "pad": "x" * chance.randrange(50), "body": asked.get("body")}
    headers = [["content-type", "application/json"], ["x-r", str(chance.random())], ["set-cookie", "t=1"]]
    body: Any = {"$bytea": "AAEC/w=="} if "/bin" in url else json.dumps(value)
    return _result(
        {
            "status": 200,
            "status_text": "OK",
            "url": url,
            "headers": headers,
            "body": body,
            "redirected": False,
        }
    )


def _result(value: Any) -> Outcome:
    return Outcome(result=json.dumps(value).encode())
