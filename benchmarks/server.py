"""A `flux serve` on a project and a database, for benchmarks that want one server and nothing around it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path


def serve(
    root: Path, database: str, env: Mapping[str, str] | None = None, command: str = "serve"
) -> tuple[subprocess.Popen[str], int]:
    """Start it and wait until it serves.

    Args:
        root: the project. database: its URL. env: more of an environment. command: `serve` or `dev`.

    Returns:
        The process, its output a pipe that nobody reads further, and its port.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "flux", command, "--port", "0"],
        cwd=root,
        env={
            **os.environ,
            "DATABASE_URL": database,
            "FLUX_MASTER_KEY": "5a" * 32,
            "NO_COLOR": "1",
            "PYTHONUNBUFFERED": "1",
            **(env or {}),
        },
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if found := re.search(r"Serving on http://127\.0\.0\.1:(\d+)", line):
            return process, int(found[1])
    raise SystemExit(f"flux {command} did not start: it ended with {process.wait()}")
