"""The door of a guest that comes to fetch what it reads: a socket it connects to once, as its first act.

Deno reads its stdin through a pool of threads, which costs each frame two wake-ups and 40 µs of CPU; a socket
that it has connected itself it reads on its event loop. What it writes goes through its stdout as ever.
Made by the pool, used by GuestProcess.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import struct
import tempfile
from pathlib import Path

from flux.errors import RuntimeFault

_CREDENTIALS = struct.Struct("3i")


class Door:
    """A listening socket in a folder of its own, with a short path free of commas wherever the project lies.

    Args:
        account: the user and group that the guest runs as, where that is another.

    Attributes:
        path: what the guest connects to.
    """

    def __init__(self, account: tuple[int, int] | None = None) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="flux-", dir=_short_folder()))
        self.path = str(self._folder / "guest")
        self._listening = socket.socket(socket.AF_UNIX)
        try:
            self._listening.bind(self.path)
            self._listening.listen(1)
            self._listening.setblocking(False)
            if account is not None:
                for path in (self._folder, self.path):
                    os.chown(path, *account)
        except OSError as error:
            self.close()
            raise RuntimeFault(
                f"No socket for a guest can be made at {self.path}: {error.strerror}."
            ) from error

    def accept(self, pid: int) -> socket.socket:
        """The connection that the process `pid` has made; nobody else is let in.

        Raises:
            RuntimeFault: it has made none.
        """
        while True:
            try:
                made, _ = self._listening.accept()
            except OSError as error:
                raise RuntimeFault("The guest has not connected to the socket it reads from.") from error
            if _peer(made) in (pid, None):
                made.setblocking(False)
                return made
            made.close()

    def close(self) -> None:
        """Remove it; a connection that was accepted stays. Idempotent."""
        self._listening.close()
        with contextlib.suppress(OSError):
            shutil.rmtree(self._folder)


def _short_folder() -> str | None:
    found = tempfile.gettempdir()
    return found if len(found) < 60 and "," not in found else "/tmp"


def _peer(connection: socket.socket) -> int | None:
    """Who is at the other end; None where the kernel doesn't say."""
    option = getattr(socket, "SO_PEERCRED", None)
    if option is None:
        return None
    return int(_CREDENTIALS.unpack(connection.getsockopt(socket.SOL_SOCKET, option, _CREDENTIALS.size))[0])
