"""A real HTTP server that functions fetch from: it remembers who asked, and answers when it is told to."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Provider:
    """Answers `paid` to every GET.

    Args:
        holds: True keeps every answer back until `answer` is set.

    Attributes:
        url: where it is.
        asked: the paths that were asked for, without their slash, in order.
        arrived: released once for each request.
    """

    def __init__(self, *, holds: bool = False) -> None:
        self.asked: list[str] = []
        self.arrived = threading.Semaphore(0)
        self.answer = threading.Event()
        if not holds:
            self.answer.set()
        provider = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                provider.asked.append(self.path.removeprefix("/"))
                provider.arrived.release()
                provider.answer.wait(60)
                self.send_response(200)
                self.send_header("content-length", "4")
                self.end_headers()
                self.wfile.write(b"paid")

            def log_message(self, format: str, *arguments: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

            def handle_error(self, request: object, client_address: object) -> None:
                pass  # a client that was killed

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Let everybody go and stop."""
        self.answer.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
