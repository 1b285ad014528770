"""A real Python guest behind a scripted host, for the tests of this folder."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import dedent
from typing import Any

from flux.errors import FunctionError
from flux.record.call import CallError, HostCall, Outcome
from flux.runtime.deployment import Deployment
from flux.runtime.deployment_guest import DeploymentGuest
from flux.runtime.engine import Invocation, Reply
from flux.runtime.pool import SubprocessEngine
from flux.runtime.python import PythonLauncher

NOW = 1_700_000_000_000_000_000
Answer = Callable[[HostCall], Awaitable[Any]]


@dataclass
class ScriptedHost:
    """Answers calls with what `answers` says for their op, else `{}`; the clock moves 1 ms per answer.

    A value is the result; a CallError the error; a callable is awaited with the call.
    """

    answers: dict[str, Any] = field(default_factory=dict)
    calls: list[HostCall] = field(default_factory=list)
    cancelled: list[int] = field(default_factory=list)
    now: int = NOW

    async def perform(self, call: HostCall) -> Outcome:
        self.calls.append(call)
        answer = self.answers.get(call.op, {})
        try:
            if callable(answer):
                answer = await answer(call)
        except asyncio.CancelledError:
            self.cancelled.append(call.n)
            raise
        self.now += 1_000_000
        if isinstance(answer, CallError):
            return Outcome(error=answer, now_ns=self.now)
        return Outcome(result=json.dumps(answer).encode(), now_ns=self.now)

    def sent(self, guest: str, invocation: int) -> None:
        pass

    def begin(self, call: HostCall) -> None:
        pass

    def give_up(self, n: int) -> None:
        pass

    def notify(self, call: HostCall) -> None:
        self.calls.append(call)

    async def close(self) -> None:
        """Nothing is held."""

    def seen(self, *ops: str) -> list[Any]:
        """Arguments of the calls so far, of those ops."""
        return [json.loads(call.arguments) for call in self.calls if not ops or call.op in ops]

    def logs(self) -> list[tuple[str, str]]:
        return [(line["level"], line["message"]) for line in self.seen("log")]


def deployment(files: dict[str, str], entry: str = "hello/main.py") -> Deployment:
    return Deployment(
        id="0" * 64,
        function=entry.partition("/")[0],
        runtime="python",
        entry=entry,
        files={name: dedent(text).encode() for name, text in files.items()},
        manifest={},
        config={"timeout_ms": 5000},
        engine={},
    )


def invocation(
    given: Any = None, *, seed: bytes = b"\1" * 32, timeout: float = 5.0, **request: Any
) -> Invocation:
    return Invocation(
        request_id="a" * 32,
        trace_id="b" * 32,
        span_id="c" * 16,
        seed=seed,
        now_ns=NOW,
        timeout=timeout,
        request={"method": "POST", "url": "http://h/hello", "path": "/hello", **request},
        body=b"" if given is None else json.dumps(given).encode(),
    )


class Python:
    """The engine under test. `lines` is what guests wrote outside invocations."""

    def __init__(self, folder: Path) -> None:
        self.lines: list[str] = []
        self.said = asyncio.Event()
        self.engine = SubprocessEngine(
            PythonLauncher(),
            slots_dir=folder,
            concurrency=64,
            env={"GREETING": "hi"},
            dev=True,
            on_line=self._line,
            boot_seed=lambda name: b"\7" * 32,
            clock_ns=lambda: NOW,
        )

    def _line(self, guest: str, function: str | None, line: str) -> None:
        self.lines.append(line)
        self.said.set()

    async def load(self, code: str, **files: str) -> DeploymentGuest:
        return await self.engine.load(deployment({"hello/main.py": code, **files}))

    async def run(self, code: str, given: Any = None, host: ScriptedHost | None = None, **more: Any) -> Any:
        """The value that the handler in `code` returns."""
        guest = await self.load(code)
        return json.loads((await guest.invoke(invocation(given, **more), host or ScriptedHost())).body)

    async def respond(self, code: str, given: Any = None) -> Reply:
        guest = await self.load(code)
        return await guest.invoke(invocation(given), ScriptedHost())

    async def fail(
        self, code: str, given: Any = None, host: ScriptedHost | None = None, **more: Any
    ) -> FunctionError:
        """The error that the handler in `code`, or loading it, ends in."""
        try:
            value = await self.run(code, given, host, **more)
        except FunctionError as error:
            return error
        raise AssertionError(f"it returned {value!r}")


@asynccontextmanager
async def python_engine(folder: Path) -> AsyncIterator[Python]:
    python = Python(folder)
    try:
        yield python
    finally:
        await python.engine.close(0.2)
