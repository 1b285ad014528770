"""Connections to a Postgres elsewhere that notice when its host has vanished.

asyncpg leaves sockets as the system makes them: not watched over. What waits for an answer would
wait for ever.
"""

from __future__ import annotations

import os
import socket
from typing import Any

import asyncpg

IDLE, INTERVAL, PROBES = 30, 10, 3
"""Seconds of silence before the host is asked whether it is there, seconds between further questions, and how
many stay unanswered: a host that vanished is noticed within a minute.
"""
UNACKNOWLEDGED = (IDLE + INTERVAL * PROBES) * 1000
"""Milliseconds that what was sent may stay unacknowledged."""


class Watched(asyncpg.Connection):
    """A connection whose socket is kept alive; `connect_args` name it as `connection_class`."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        inside: Any = self
        keep_alive(inside._transport.get_extra_info("socket"))


def keep_alive(given: Any) -> None:
    """Have the kernel watch over a TCP socket; a unix one is left alone.

    Args:
        given: anything with a `fileno` and a `family`.
    """
    if given is None or given.family not in (socket.AF_INET, socket.AF_INET6):
        return
    with socket.socket(fileno=os.dup(given.fileno())) as own:
        own.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in (
            ("TCP_KEEPIDLE", IDLE),
            ("TCP_KEEPINTVL", INTERVAL),
            ("TCP_KEEPCNT", PROBES),
            ("TCP_USER_TIMEOUT", UNACKNOWLEDGED),
        ):
            if hasattr(socket, name):
                own.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
