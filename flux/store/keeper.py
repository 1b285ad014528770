"""The keeper: a small detached process that runs a project's Postgres for as long as somebody uses it.

`python -m flux.store.keeper FOLDER NAME BINARIES LISTENER LOCK`, started by embedded.acquire, which
hands it a listening unix socket and the held lock of the project. Whoever uses the server holds a
connection to that socket. The kernel closes it in whatever way its holder ends. Each is greeted
with one line of JSON: `{"ok": {...}}`, how to connect, or `{"error": {"type", "message", "hint"}}`.
A second after the last has left, the server is stopped.

When the keeper itself is killed, the kernel tells Postgres to shut down (a parent-death signal),
and the lock is free once it has. When Postgres dies under its clients, the keeper starts it again.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping

from flux.errors import StoreError
from flux.store.server import Server

LINGER = 1.0
"""Seconds that the server is kept after its last client."""
SOCKET = "keeper.sock"

_HOUSEKEEPING = 60.0
_RESTARTS = 3
_RESTART_WINDOW = 10.0


class Keeper:
    """Keeps one server for the clients of one socket.

    Args:
        server: what it keeps.
        listener: bound and listening.
        forget: removes the socket's name, once no one new is taken.
    """

    def __init__(self, server: Server, listener: socket.socket, forget: Callable[[], None]) -> None:
        self._server = server
        self._listener = listener
        self._forget = forget
        self._clients: dict[int, socket.socket] = {}
        self._poll = select.poll()
        self._starts: list[float] = []
        self._stopping = False

    def run(self) -> None:
        """Serve until the last client has gone, or the server can't be kept up."""
        wakeup, wake = os.pipe()
        for descriptor in (wakeup, wake, self._listener.fileno()):
            os.set_blocking(descriptor, False)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGHUP, lambda *_: None)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_stop)
        self._poll.register(wakeup, select.POLLIN)
        self._poll.register(self._listener, select.POLLIN)
        try:
            self._start()
            self._serve(wakeup)
        except StoreError as error:
            self._refuse(error)
        finally:
            self._forget()
            self._listener.close()
            self._server.stop()
            for client in self._clients.values():
                client.close()

    def _on_stop(self, *_: object) -> None:
        self._stopping = True

    def _start(self) -> None:
        now = time.monotonic()
        self._starts = [at for at in self._starts if now - at < _RESTART_WINDOW] + [now]
        if len(self._starts) > _RESTARTS:
            raise StoreError("Postgres keeps dying; it is not started again.", "See .flux/postgres/log.")
        self._server.start()

    def _serve(self, wakeup: int) -> None:
        leave_at = time.monotonic() + LINGER
        while not self._stopping:
            left = _HOUSEKEEPING if self._clients else leave_at - time.monotonic()
            events = self._poll.poll(max(0.0, left) * 1000)
            if not events and not self._clients and time.monotonic() >= leave_at:
                return
            if any(descriptor == wakeup for descriptor, _ in events):
                os.read(wakeup, 4096)
            if not self._server.alive() and not self._stopping:
                self._start()
            for descriptor, _ in events:
                if descriptor == self._listener.fileno():
                    self._greet({"ok": self._server.address})
                elif descriptor != wakeup and self._gone(descriptor):
                    leave_at = time.monotonic() + LINGER
            self._server.trim_log()

    def _greet(self, greeting: Mapping[str, object]) -> bool:
        try:
            client, _ = self._listener.accept()
        except OSError:
            return False
        client.setblocking(False)
        try:
            client.send(json.dumps(greeting).encode() + b"\n")
        except OSError:
            client.close()
            return True
        self._clients[client.fileno()] = client
        self._poll.register(client, select.POLLIN)
        return True

    def _gone(self, descriptor: int) -> bool:
        client = self._clients[descriptor]
        try:
            if client.recv(4096):
                return False
        except BlockingIOError:
            return False
        except OSError:
            pass
        self._poll.unregister(descriptor)
        del self._clients[descriptor]
        client.close()
        return True

    def _refuse(self, error: StoreError) -> None:
        greeting = {"error": {"type": error.type, "message": error.message, "hint": error.hint}}
        told = False
        end = time.monotonic() + LINGER
        while not (told and not select.select([self._listener], [], [], 0)[0]) and time.monotonic() < end:
            select.select([self._listener], [], [], 0.05)
            told = self._greet(greeting) or told


def main(arguments: list[str]) -> int:
    """Detach and keep."""
    folder, name, binaries, listening, locked = arguments
    if os.fork():
        os._exit(0)
    listener = socket.socket(fileno=int(listening))
    listener.set_inheritable(False)
    os.set_inheritable(int(locked), True)
    path = os.path.join(folder, SOCKET)

    def forget() -> None:
        if os.path.lexists(path):
            os.unlink(path)

    Keeper(Server(folder, name, binaries), listener, forget).run()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
