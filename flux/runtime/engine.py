"""What runs functions: the Engine protocol.

Deno and Python implement it with subprocesses. The executor asks an Engine for a Guest of a
deployment and gives it invocations; the engine owns processes, warm spares and killing. Nothing
here knows HTTP.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from flux.errors import Overloaded
from flux.host.protocol import Host
from flux.runtime.deployment import Deployment


class Invocation(msgspec.Struct, frozen=True):
    """One run of a function.

    Attributes:
        request_id: the execution's identity; trace_id and span_id: of its function span, for ctx and
            outgoing headers.
        seed: 32 bytes from the OS; all random in the guest expands from it.
        now_ns: the guest's clock at its start.
        timeout: seconds it may take, from the moment `invoke` is called.
        request: {"method", "url", "path", "params": {}, "query": {name: [values]}, "headers": [[name,
            value]]}, for ctx.request.
        body: the bytes that came; input: exact JSON bytes of the handler's input where that is not the
            body, else None.
    """

    request_id: str
    trace_id: str
    span_id: str
    seed: bytes
    now_ns: int
    timeout: float
    request: Mapping[str, Any]
    body: bytes
    input: bytes | None = None


class Reply(msgspec.Struct, frozen=True):
    """What the handler gave back.

    `status` None means a plain value: `body` is its exact JSON. Otherwise it returned a Response with that
    status, headers and body.
    `guest` names the process; `invocation` is this run's number in it, from 1. `warnings` are what the
    function left behind, each with its place. `rest` is what goes on after the answer, where the function
    handed work to ctx.waitUntil: it is over when that has settled, at the latest at the deadline, and gives
    further warnings. It never raises, and goes on whether anybody awaits it or not; until then the host
    takes calls.
    """

    status: int | None
    headers: list[tuple[str, str]]
    body: bytes
    guest: str
    invocation: int
    warnings: Sequence[str] = ()
    rest: Awaitable[list[str]] | None = None


class Guest(Protocol):
    """A deployment made ready to run."""

    deployment: Deployment

    async def invoke(self, invocation: Invocation, host: Host) -> Reply:
        """Run the function once, effects going to `host`.

        Returns when the handler has settled and its issued calls have (open ones are awaited until
        the deadline; `host` then holds them as abandoned), or at once where it handed work to
        ctx.waitUntil: then `rest` is set. Any number may be in flight.

        Raises:
            FunctionError: the handler threw; paths are relative to the project.
            DeadlineExceeded: it did not settle in time; a guest that no longer answers has been
                killed.
            GuestDied: the process ended under it.
            Overloaded: no room; nothing ran.
            Every error carries `guest` and `invocation` attributes where a process was reached.
        """
        ...

    def refusal(self) -> Overloaded | None:
        """Why an invocation would be refused now; None where it may well be taken. Asked before anything is
        recorded.
        """
        ...

    async def close(self, grace: float = 5.0) -> None:
        """Let what is in flight finish, at most `grace` seconds, then end. New invocations are refused at
        once.
        """
        ...


class Engine(Protocol):
    """One language's way to run functions."""

    name: str
    """`deno` or `python`: flux.json's "runtime" is `typescript`/`python`."""

    def versions(self) -> dict[str, str]:
        """Versions that a deployment's identity includes, without starting a guest."""
        ...

    async def load(self, deployment: Deployment) -> Guest:
        """Start (or claim a warm) guest for `deployment` and load its code.

        Raises:
            FunctionError: the code does not load (syntax error, missing module): file, line and column are
            set where known.
            RuntimeFault: the guest can't be started.
        """
        ...

    async def close(self) -> None:
        """End every guest and spare."""
        ...
