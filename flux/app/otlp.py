"""The server's other child process: sends spans to an OpenTelemetry collector, if one is named.

It is a process of its own because the official exporters block and encoding takes time: neither the
server's interpreter nor the sidecar's may be kept from its work. It yields the processor to both. Its
stdin is a pipe from the server; when that closes, it sends what is left and ends. Run as
`python -m flux.app.otlp ROOT NODE`.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from pathlib import Path

from flux.config import load
from flux.errors import FluxError
from flux.otlp.exports import Exports
from flux.otlp.sender import sender
from flux.otlp.settings import OTLP, settings

log = logging.getLogger("flux.otlp")

LAST = 5.0
"""Most seconds spent on what is left once the server is gone."""
NICENESS = 5


def main() -> None:
    """Entry point: arguments are the project folder and the node's id."""
    logging.basicConfig(level=logging.WARNING, format="flux otlp: %(message)s", stream=sys.stderr)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    stop = threading.Event()
    threading.Thread(target=_watch, args=(stop,), daemon=True).start()
    os.nice(NICENESS)
    root, node = sys.argv[1:3]
    try:
        config = load(Path(root))
    except FluxError as error:
        log.error("%s", error.message)
        sys.exit(1)
    wanted, _ = settings(config.environment)
    if wanted is None:
        return
    for name in [name for name in os.environ if name.startswith(OTLP)]:
        del os.environ[name]  # the exporters would read them again, and otherwise
    exports = Exports(config.spool_dir, node, wanted, sender(wanted), limit=config.otlp_limit)
    exports.run(stop)
    exports.finish(LAST)
    exports.close()


def _watch(stop: threading.Event) -> None:
    """Wait for the server's end; and see that a collector that hangs keeps nobody waiting."""
    while os.read(sys.stdin.fileno(), 4096):
        continue
    stop.set()
    threading.Event().wait(LAST + 1)
    os._exit(0)


if __name__ == "__main__":
    main()
