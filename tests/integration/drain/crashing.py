"""Two programs for the crash tests, to be killed at any moment.

`write SPOOLS`: records executions and prints the id of each once its end is in the spool (which is what an
answer would say). `drain DSN SPOOLS OWN`: drains.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from flux.drain.drain import Drain
from tests.integration.drain.recorded import called, opened, recorder


def write(folder: Path) -> None:
    """Three executions are in flight at any time; each has an effect and ends."""
    made = recorder(folder, segment_bytes=32 * 1024)
    os.write(1, f"{made.node}\n".encode())
    in_flight = [opened(made) for _ in range(3)]
    while True:
        execution = in_flight.pop(0)
        in_flight.append(opened(made))
        called(execution, "fetch", b'{"url":"http://a/"}', n=1, intend=True, result=b'{"status":200}')
        called(execution, "db.query", b'{"table":"users"}', n=2, result=b'{"rows":[]}')
        execution.end(status=200, outcome="ok", output=b'{"x":1}')
        os.write(1, f"{execution.request_id}\n".encode())


async def drain(dsn: str, folder: Path, own: str) -> None:
    """Until it is killed."""
    os.write(1, b"draining\n")
    await Drain({"dsn": dsn}, folder, own=own).run(asyncio.Event())


if __name__ == "__main__":
    if sys.argv[1] == "write":
        write(Path(sys.argv[2]))
    else:
        asyncio.run(drain(sys.argv[2], Path(sys.argv[3]), sys.argv[4]))
