"""A payment provider and a post office, as small as they can be: `python provider.py [PORT]`.

The card's token says what becomes of a charge, as with the test cards of real providers:

    card_ok        201, at once
    card_slow      201, after 0.3 s
    card_declined  402
    card_broken    500
    card_silent    no answer until the caller has given up

A message to an address that begins with `busy` is refused with a 503 the first time. Both keep what they took
by `Idempotency-Key`; GET / shows all of it.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import select
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

LONGEST_SILENCE = 60.0
KEY = "Bearer sk_test_orders_example"


class Ledger:
    """What was taken, by idempotency key."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.numbers = itertools.count(1)
        self.charges: dict[str, Any] = {}
        self.messages: dict[str, Any] = {}
        self.refused: set[str] = set()

    def keep(self, entries: dict[str, Any], key: str, entry: dict[str, Any]) -> dict[str, Any]:
        """The entry under `key`: the first that came."""
        with self.lock:
            if key not in entries:
                prefix = "ch" if entries is self.charges else "msg"
                entries[key] = {"id": f"{prefix}_{next(self.numbers)}", **entry}
            return entries[key]

    def first_time(self, key: str) -> bool:
        """Whether `key` was not refused before; now it is."""
        with self.lock:
            new = key not in self.refused
            self.refused.add(key)
            return new


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    ledger = Ledger()

    def do_GET(self) -> None:
        with self.ledger.lock:
            self.answer(200, {"charges": self.ledger.charges, "messages": self.ledger.messages})

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        key = self.headers["idempotency-key"]
        if self.path == "/charges":
            self.charge(key, asked)
        elif self.path == "/messages":
            self.message(key, asked)
        else:
            self.answer(404, {"message": f"nothing is at {self.path}"})

    def charge(self, key: str, asked: dict[str, Any]) -> None:
        card = asked["card"]["token"]
        if self.headers["authorization"] != KEY:
            self.answer(401, {"message": "unknown key"})
        elif card == "card_declined":
            self.answer(402, {"reason": "insufficient funds"})
        elif card == "card_broken":
            self.answer(500, {"message": "the ledger is being repaired"})
        elif card == "card_silent":
            select.select([self.connection], [], [], LONGEST_SILENCE)
            self.close_connection = True
        else:
            if card == "card_slow":
                time.sleep(0.3)
            self.answer(201, self.ledger.keep(self.ledger.charges, key, asked))

    def message(self, key: str, asked: dict[str, Any]) -> None:
        if asked["to"].startswith("busy") and self.ledger.first_time(key):
            self.answer(503, {"message": "too many letters"})
        else:
            self.answer(202, self.ledger.keep(self.ledger.messages, key, asked))

    def answer(self, status: int, document: Any) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


if __name__ == "__main__":
    server = Server(("127.0.0.1", int(sys.argv[1]) if len(sys.argv) > 1 else 4100), Handler)
    print(f"provider on http://127.0.0.1:{server.server_port}", flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        server.serve_forever()
