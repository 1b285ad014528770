"""What a guest process writes to stderr, and what that tells of its end. Used by GuestProcess.

Lines have a bounded length and come at a bounded rate. A function that floods stderr costs the
server a bounded share of its time and no memory: lines beyond the rate are left out and counted,
and beyond `MOST_READ` nothing is read until the second is over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

LONGEST_LINE = 16 * 1024
MOST_LINES = 1_000
"""Lines handed on in a second."""
MOST_SHOWN = 1 * 2**20
"""Bytes handed on in a second."""
MOST_READ = 64 * 2**20
"""Bytes read in a second."""

_STARVED = (b"out of memory", b"Array buffer allocation failed", b"memory allocation of ")
"""What V8, Deno and the Python guest say last when they get no more memory."""


class Stderr(asyncio.Protocol):
    """Our end of a guest's stderr. Belongs to one event loop.

    Args:
        on_line: takes each line.

    Attributes:
        last: the last line, or "".
        starved: whether the guest has said that it got no more memory.
    """

    def __init__(self, on_line: Callable[[str], None]) -> None:
        self.last = ""
        self.starved = False
        self._on_line = on_line
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.ReadTransport | None = None
        self._rest = b""
        self._window: asyncio.TimerHandle | None = None
        self._lines = self._shown = self._read = self._left_out = 0

    def close(self) -> None:
        """Read no more. Idempotent."""
        if self._window is not None:
            self._window.cancel()
            self._next_second()
        if self._transport is not None:
            self._transport.close()

    # What the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The pipe is ours."""
        self._transport = cast(asyncio.ReadTransport, transport)

    def data_received(self, data: bytes) -> None:
        """Hand on the lines that `data` completes."""
        if self._window is None:
            self._window = self._loop.call_later(1.0, self._next_second)
        self._read += len(data)
        if self._read > MOST_READ and self._transport is not None:
            self._transport.pause_reading()
        whole = self._rest + data
        if not self.starved:
            self.starved = any(sign in whole for sign in _STARVED)
        if self._lines >= MOST_LINES or self._shown >= MOST_SHOWN:
            self._left_out += len(whole)
            self._rest = b""
            return
        *lines, rest = whole.split(b"\n")
        if len(rest) > LONGEST_LINE:
            lines.append(rest)
            rest = b""
        self._rest = rest
        for line in lines:
            if self._lines >= MOST_LINES or self._shown >= MOST_SHOWN:
                self._left_out += len(line) + 1
            else:
                self._take(line)

    def connection_lost(self, exc: Exception | None) -> None:
        """Hand on an unfinished last line."""
        if self._rest:
            self._take(self._rest)
            self._rest = b""

    def _take(self, line: bytes) -> None:
        line = line[:LONGEST_LINE]
        self._lines += 1
        self._shown += len(line)
        text = line.decode(errors="replace")
        if text.strip():
            self.last = text
        self._on_line(text)

    def _next_second(self) -> None:
        self._window = None
        left_out, self._left_out = self._left_out, 0
        self._lines = self._shown = self._read = 0
        if left_out:
            self._on_line(f"({left_out} bytes more were written to stderr in this second and left out)")
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()
