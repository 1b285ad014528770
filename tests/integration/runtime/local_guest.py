"""What the tests of guests share: a scripted Host, deployments from source text, invocations."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import orjson

from flux.record.call import CallError, HostCall, Outcome
from flux.runtime.deno import DenoLauncher
from flux.runtime.deployment import Deployment
from flux.runtime.deployment_guest import DeploymentGuest
from flux.runtime.engine import Invocation, Reply
from flux.runtime.pool import Launcher, SubprocessEngine

NOW = 1_700_000_000_000_000_000
"""Nanoseconds: 2023-11-14T22:13:20Z."""
SECOND = 1_000_000_000

Answer = Callable[[HostCall, dict[str, Any]], Awaitable[Outcome] | Outcome | None]


class ScriptedHost:
    """Answers calls by a function, by default with an empty result; each moves the clock one second."""

    def __init__(self, answer: Answer | None = None) -> None:
        self.calls: list[HostCall] = []
        self.notes: list[HostCall] = []
        self.cancelled: list[HostCall] = []
        self._answer = answer
        self._now = NOW

    async def perform(self, call: HostCall) -> Outcome:
        self.calls.append(call)
        outcome: Any = self._answer(call, orjson.loads(call.arguments)) if self._answer else None
        try:
            if isinstance(outcome, Awaitable):
                outcome = await outcome
        except asyncio.CancelledError:
            self.cancelled.append(call)
            raise
        if outcome is None:
            outcome = Outcome(result=_EMPTY.get(call.op, b"{}"))
        self._now += SECOND
        outcome.now_ns = outcome.now_ns or self._now
        return outcome

    def sent(self, guest: str, invocation: int) -> None:
        pass

    def begin(self, call: HostCall) -> None:
        pass

    def give_up(self, n: int) -> None:
        pass

    def notify(self, call: HostCall) -> None:
        self.notes.append(call)

    async def close(self) -> None:
        return None

    @property
    def asked(self) -> list[tuple[str, Any]]:
        """The calls as (op, arguments)."""
        return [(call.op, orjson.loads(call.arguments)) for call in self.calls]

    @property
    def logged(self) -> list[tuple[str, str]]:
        """The log lines as (level, message)."""
        lines = [orjson.loads(note.arguments) for note in self.notes if note.op == "log"]
        return [(line["level"], line["message"]) for line in lines]


_EMPTY = {
    "db.query": b'{"rows":[],"count":0,"types":{}}',
    "db.sql": b'{"rows":[],"count":0,"tag":"SELECT 0","types":{}}',
    "secrets.get": b'{"value":null}',
}


def result(value: Any) -> Outcome:
    """An outcome with `value` as its result."""
    return Outcome(result=orjson.dumps(value))


def failure(kind: str, message: str, **detail: str) -> Outcome:
    """An outcome with an error."""
    return Outcome(error=CallError(kind, message, detail))


def rows(*found: dict[str, Any], **types: str) -> Outcome:
    """An outcome of a query."""
    return result({"rows": list(found), "count": len(found), "types": types})


def deployment(
    source: str, files: Mapping[str, str] | None = None, *, name: str = "f", entry: str = "index.ts"
) -> Deployment:
    """A deployment of one function: its entry's text, and other files by path in the bundle."""
    path = f"{name}/{entry}"
    texts = {path: source, **(files or {})}
    encoded = {file: text.encode() for file, text in texts.items()}
    return Deployment("0" * 64, name, "typescript", path, encoded, {}, {"timeout_ms": 5000}, {})


def invocation(
    given: Any = None,
    *,
    timeout: float = 10.0,
    seed: bytes = bytes(range(32)),
    body: bytes | None = None,
    **request: Any,
) -> Invocation:
    """An invocation whose body is `given` as JSON."""
    shape = {
        "method": "POST",
        "url": "http://localhost/f",
        "path": "/f",
        "params": {},
        "query": {},
        "headers": [],
    }
    content = orjson.dumps(given) if body is None else body
    return Invocation("a" * 32, "b" * 32, "c" * 16, seed, NOW, timeout, shape | request, content)


@contextlib.asynccontextmanager
async def engine(
    folder: Path, launcher: Launcher | None = None, **options: Any
) -> AsyncIterator[SubprocessEngine]:
    """A running engine, Deno's by default."""
    given: dict[str, Any] = {"concurrency": 64, "env": {}, "dev": True} | options
    made = SubprocessEngine(launcher or DenoLauncher(), slots_dir=folder / "slots", **given)
    try:
        yield made
    finally:
        await made.close(grace=0.1)


async def run(
    guest: DeploymentGuest, given: Any = None, host: ScriptedHost | None = None, **options: Any
) -> Any:
    """Invoke and return the JSON of a plain value."""
    reply = await guest.invoke(invocation(given, **options), host or ScriptedHost())
    assert reply.status is None
    return orjson.loads(reply.body)


async def answer(guest: DeploymentGuest, given: Any = None, host: ScriptedHost | None = None) -> Reply:
    """Invoke and return the whole reply."""
    return await guest.invoke(invocation(given), host or ScriptedHost())
