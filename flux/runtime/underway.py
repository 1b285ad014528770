"""An execution between its arrival and its end: what was asked, and what is held for it.

Used by the executor.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import Protocol

import msgspec
from opentelemetry.context import Context
from opentelemetry.trace import Span

from flux.host.protocol import Host
from flux.recorder.execution import Execution
from flux.runtime.registry import Served
from flux.runtime.request import Request


class HostFactory(Protocol):
    """Makes the recorded host of one execution."""

    def __call__(self, execution: Execution, context: Context, request: Request, deadline: float) -> Host:
        """`context` holds the function span: the parent of what the host's calls trace.

        `deadline` is on the event loop's clock.
        """
        ...


class Known(msgspec.Struct, frozen=True, eq=False):
    """What a function is told of its own identity, where that is not the execution's."""

    request_id: str
    trace_id: str
    span_id: str


class Start(msgspec.Struct, frozen=True, eq=False):
    """What is to run, with which clock and randomness, and what answers it; however it was asked.

    Attributes:
        request: what was asked. served: its function, or None where there is none.
        seed: 32 bytes from which the guest's random numbers come. guest_ns: its clock at its start.
        host: makes what answers it.
        known: what the function is told of its identity; None: its own.
        replay_of: the execution that it repeats.
        surroundings: what its guest was started in, where this process starts its own in others.
    """

    request: Request
    served: Served | None
    seed: bytes
    guest_ns: int
    host: HostFactory
    known: Known | None = None
    replay_of: str | None = None
    surroundings: str | None = None


class Underway(msgspec.Struct, eq=False):
    """What an execution holds until it has ended.

    Attributes:
        start: what was asked. began: the monotonic clock at its arrival, ns.
        execution: its open record; root: its root span; span: its function's, once that runs.
        host: does what the function asks; closed by `leave`.
        rest: what goes on after the answer, where something does (see `flux.runtime.engine.Reply`).
        warnings: what the function left behind.
    """

    start: Start
    began: int
    execution: Execution
    root: Span
    span: Span | None = None
    host: Host | None = None
    rest: Awaitable[list[str]] | None = None
    warnings: list[str] = []

    def warn(self, warnings: Sequence[str]) -> None:
        """Keep warnings, in the record too."""
        for text in warnings:
            self.execution.warn(text)
            self.warnings.append(text)

    async def leave(self) -> None:
        """The function does nothing any more: close its host and end its span."""
        if self.host is not None:
            await self.host.close()
        if self.span is not None:
            self.span.end()
