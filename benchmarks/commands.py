"""What the command line takes as a process, milliseconds: `flux --help`, and `flux trace last` beside a
server that runs.

    python benchmarks/commands.py [--runs 15]
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from contestants import FLUX, Running
from runs import load
from standing import Findings, Standing, arguments, verdict

COMMANDS = (("flux --help", ["--help"], 150.0), ("flux trace last", ["trace", "last"], 400.0))
"""What is run, and the milliseconds it may take."""
PROGRAM = Path(sys.executable).with_name("flux")


def timed(command: list[str], running: Running, root: Path) -> float:
    """Milliseconds of one process."""
    env = {**os.environ, "DATABASE_URL": running.cluster.url("bench"), "FLUX_MASTER_KEY": "5a" * 32}
    began = time.perf_counter()
    subprocess.run([PROGRAM, *command], cwd=root, env=env, check=True, stdout=subprocess.DEVNULL)
    return (time.perf_counter() - began) * 1000


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--runs", type=int, default=15)
    given = parser.parse_args()
    if given.quick:
        given.runs = 5
    findings = Findings()
    folder = Path(tempfile.mkdtemp(prefix="flux-bench-"))
    try:
        with FLUX.running(folder) as running:
            assert running.spool is not None
            root = running.spool.parents[1]
            load(running.ports, "insert", 0.5, 4)
            for name, command, most in COMMANDS:
                timed(command, running, root)
                times = sorted(timed(command, running, root) for _ in range(given.runs))
                middle = times[len(times) // 2]
                findings.standing.append(
                    Standing(
                        f"`{name}` as a process, server running",
                        "–",
                        f"< {most:.0f} ms",
                        f"p50 {middle:.0f}, max {times[-1]:.0f} ms",
                        verdict([middle], most=most),
                    )
                )
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    findings.hand_over(given.json)


if __name__ == "__main__":
    main()
