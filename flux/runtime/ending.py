"""How a guest process can have ended, as metrics count it. Said by GuestProcess, counted by the pool."""

from __future__ import annotations

from typing import Final, Literal, get_args

Ending = Literal["stopped", "retired", "blocked", "load", "protocol", "memory", "signal", "exit"]
"""stopped: it was not needed any more. retired: one of its invocations ran past its deadline. blocked: its
event loop was blocked past one. load: its code did not load. protocol: it broke the protocol. memory: it ran
out of it. signal: somebody else killed it. exit: it ended by itself.
"""

ENDINGS: Final[tuple[Ending, ...]] = get_args(Ending)
