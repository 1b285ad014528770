"""An end for a process that was told to end and hasn't. Used by server and sidecar.

Something waits that nobody can end any more, such as on a Postgres that never answers. What was
acknowledged is in the spool.
"""

from __future__ import annotations

import logging
import os
import threading

log = logging.getLogger("flux.app")


class Limit:
    """Ends the process some time after `set`, unless `lift` comes before.

    Args:
        seconds: how long after.
        last_words: what is logged then.
    """

    def __init__(self, seconds: float, last_words: str) -> None:
        self._last_words = last_words
        self._timer = threading.Timer(seconds, self._end)
        self._timer.daemon = True

    def set(self) -> None:
        """The time begins."""
        self._timer.start()

    def lift(self) -> None:
        """All is done."""
        self._timer.cancel()

    def _end(self) -> None:
        log.error("%s", self._last_words)
        os._exit(1)
