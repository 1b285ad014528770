"""Of what a guest process died, as people are told. Used by GuestProcess."""

from __future__ import annotations

import contextlib
import signal

from flux.errors import GuestDied


def died(
    what: str, *, reason: str | None, starved: bool, memory_mb: int, code: int | None, said: str
) -> GuestDied:
    """The error of what was in flight.

    Args:
        what: begins the message: which process.
        reason: why Flux killed it, or None where it didn't.
        starved: whether it said that it got no more memory; memory_mb: the limit, MiB, or 0.
        code: what it ended with (negative: the signal), if that is known.
        said: its last line on stderr, or "".
    """
    if reason is not None:
        return GuestDied(f"{what} was killed: {reason}.")
    if starved:
        limit = f": it may allocate {memory_mb} MiB (memory_mb in flux.toml)" if memory_mb else ""
        return GuestDied(f"{what} ran out of memory{limit}.")
    shown = f": {said[:200]}" if said else "."
    if code is not None and code < 0:
        with contextlib.suppress(ValueError):
            return GuestDied(f"{what} was ended by {signal.Signals(-code).name}{shown}")
    return GuestDied(f"{what} ended by itself{'' if code is None else f' (exit code {code})'}{shown}")
