"""print, sys.stderr and `logging` as log lines of the invocation that they happen in; outside one, lines on
the process's stderr.
"""

import io
import logging
import os
import sys
from typing import Any

from flux_guest.invocation import Invocation, log
from flux_guest.sources import current

_LONGEST_LINE = 64 * 1024


class _Lines(io.TextIOBase):
    """A text stream whose lines become log lines of `level`."""

    encoding = "utf-8"
    errors = "replace"

    def __init__(self, level: str) -> None:
        super().__init__()
        self._level = level

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        invocation = current.get()
        if invocation is None or invocation.over:
            _outside(text)
            return len(text)
        *lines, rest = (invocation.lines.get(self._level, "") + text).split("\n")
        for line in lines:
            log(invocation, self._level, line)
        while len(rest) > _LONGEST_LINE:
            log(invocation, self._level, rest[:_LONGEST_LINE])
            rest = rest[_LONGEST_LINE:]
        invocation.lines[self._level] = rest
        return len(text)


def _outside(text: str) -> None:
    os.write(2, text.encode("utf-8", "replace"))


def finish(invocation: Invocation) -> None:
    """Log the lines that were not finished."""
    lines, invocation.lines = invocation.lines, {}
    for level, text in lines.items():
        if text:
            log(invocation, level, text)


class _Handler(logging.Handler):
    """Records of `logging` that no handler of the user's takes."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            message = self.format(record)
        except Exception:
            self.handleError(record)
            return
        invocation = current.get()
        if invocation is None or invocation.over:
            _outside(message + "\n")
            return
        log(invocation, _level(record.levelno), message, {"logger": record.name})


def _level(number: int) -> str:
    if number >= logging.ERROR:
        return "error"
    if number >= logging.WARNING:
        return "warn"
    return "info" if number >= logging.INFO else "debug"


def install() -> None:
    """Take over sys.stdout, sys.stderr and logging's last resort."""
    streams: Any = (_Lines("info"), _Lines("error"))
    sys.stdout, sys.stderr = streams
    sys.__stdout__ = sys.__stderr__ = None  # type: ignore[misc]
    logging.lastResort = _Handler()
    logging.getLogger().setLevel(logging.INFO)
    logging.getLogger("httpx").setLevel(logging.WARNING)
