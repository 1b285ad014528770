"""One contestant's run: started, loaded, ended, and what was seen of it. Called by throughput.py and its
like.
"""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from contestants import HERE, Contestant, NotRun
from processes import spent
from project import REQUESTS
from spool import SpoolUnderLoad, SpoolWatch

WARM_UP = 1.5
"""Seconds of load before what counts."""
MARGIN = 60.0
"""Seconds beyond its time after which a load is given up."""


@dataclass(frozen=True)
class Run:
    """One contestant's run.

    Attributes:
        load: what load.py reported. cpu: seconds by role per 1,000 requests.
        spool: of a Flux contestant. kept: part of the answered requests that it has a record of afterwards;
            None where it keeps none.
    """

    load: dict[str, float]
    cpu: dict[str, float]
    spool: SpoolUnderLoad | None
    kept: float | None


def load(ports: list[int], what: str, seconds: float, connections: int) -> dict[str, float]:
    """Load servers in a process of its own.

    Raises:
        NotRun: the load could not be brought to its end.
    """
    command = [sys.executable, str(HERE / "load.py"), "127.0.0.1", *map(str, ports)]
    command += ["--seconds", str(seconds), "--connections", str(connections), *REQUESTS[what]]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + MARGIN, check=True)
    except subprocess.TimeoutExpired as error:
        raise NotRun("it stopped answering") from error
    except subprocess.CalledProcessError as error:
        raise NotRun(f"it could not be loaded: {error.stderr.strip().splitlines()[-1:]}") from error
    found: dict[str, float] = json.loads(done.stdout)
    return found


def run(
    contestant: Contestant, folder: Path, what: str, seconds: float, connections: int, workers: int = 1
) -> Run:
    """Start a contestant, load it, end it.

    Raises:
        NotRun: it can't be started or loaded.
    """
    with contestant.running(folder, workers) as running:
        earlier = contestant.counted(running)
        warm = load(running.ports, what, WARM_UP, connections)
        before = spent(running.roots)
        with SpoolWatch(running.spool) if running.spool else nullcontext() as watch:
            found = load(running.ports, what, seconds, connections)
        after = spent(running.roots)
        cpu = {role: (after[role] - before.get(role, 0)) / found["requests"] * 1000 for role in after}
        running.end()
        kept = contestant.counted(running)
    if kept is not None and earlier is not None:
        kept = (kept - earlier) / (warm["requests"] + found["requests"])
    return Run(found, cpu, watch.result if watch else None, kept)
