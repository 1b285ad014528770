"""An execution between its arrival and its end: what was asked, and what is held for it.

Used by the executor.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence

import msgspec
from opentelemetry.trace import Span

from flux.host.protocol import Host
from flux.recorder.execution import Execution
from flux.runtime.registry import Served
from flux.runtime.request import Request


class Start(msgspec.Struct, frozen=True, eq=False):
    """What is to run, and with which clock and randomness.

    Attributes:
        request: what was asked. served: its function, or None where there is none.
        seed: 32 bytes from which the guest's random numbers come.
        started_ns: the wall clock at its arrival, ns. began: the monotonic clock then, ns.
    """

    request: Request
    served: Served | None
    seed: bytes
    started_ns: int
    began: int


class Underway(msgspec.Struct, eq=False):
    """What an execution holds until it has ended.

    Attributes:
        start: what was asked.
        execution: its open record; root: its root span; span: its function's, once that runs.
        host: does what the function asks; closed by `leave`.
        rest: what goes on after the answer, where something does (see `flux.runtime.engine.Reply`).
        warnings: what the function left behind.
    """

    start: Start
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
