"""The clock and the randomness that user code sees, and to which invocation running code belongs.

Both are functions of what the host sent: the clock stands still but for replies, each of which carries the
time; random bytes are a keyed BLAKE2b in counter mode over the seed. Code outside any invocation has those of
the `start` frame.
"""

from _blake2 import blake2b
from contextvars import ContextVar
from typing import Any

_BLOCK = 64


class Sources:
    """A clock and random bytes.

    Attributes:
        now: microseconds since the epoch; began: its first value.
        state: what the shims keep per invocation (generators, counters), by name.
    """

    def __init__(self, seed: str, now: int) -> None:
        self.now = now
        self.began = now
        self.state: dict[str, Any] = {}
        self._key = bytes.fromhex(seed)
        self._counter = 0
        self._rest = b""

    def advance(self, now: int) -> None:
        """Move the clock to `now`; it never goes back."""
        self.now = max(self.now, now)

    def random_bytes(self, size: int) -> bytes:
        """The next `size` bytes."""
        if size < 0:
            raise ValueError("negative argument not allowed")
        found = self._rest
        if len(found) < size:
            blocks = [found]
            missing = size - len(found)
            while missing > 0:
                blocks.append(
                    blake2b(self._counter.to_bytes(16, "big"), key=self._key, digest_size=_BLOCK).digest()
                )
                self._counter += 1
                missing -= _BLOCK
            found = b"".join(blocks)
        self._rest = found[size:]
        return found[:size]


current: ContextVar[Any] = ContextVar("flux_invocation", default=None)
"""The Invocation that running code belongs to, or None."""

_outside = Sources("00" * 32, 0)


def begin(seed: str, now: int) -> None:
    """Set what code outside any invocation sees."""
    global _outside
    _outside = Sources(seed, now)


def outside() -> Sources:
    """What code outside any invocation sees."""
    return _outside


def sources() -> Sources:
    """Those of the running code."""
    found = current.get()
    return _outside if found is None else found.sources
