"""Rejected requests a second that one server process answers and counts, by what they are refused with,
beside a neighbour whose requests are served.

    python benchmarks/rejections.py [--seconds 4] [--rounds 2]

Starts a Flux server with its default settings on a Postgres of its own. `flood.py` sends the rejections over
16 connections, `load.py` one request to `hello` every 20 ms meanwhile. Afterwards the server ends, and its
record has to count exactly the requests that were answered.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from contestants import FLUX, HERE, NotRun, Running
from flood import CLOSING
from processes import spent
from project import REQUESTS
from runs import MARGIN, WARM_UP, load
from standing import Findings, Standing, Table, arguments, spread, verdict

WANTED = 10_000
CONNECTIONS = 16
DEPTH = 16
PAUSE = 0.02
"""Seconds between a neighbour's requests."""
KINDS = {
    "404": "no function has the path",
    "405": "another method",
    "400 JSON": "a body that is no JSON",
    "413": "a body over the limit, one connection each",
    "400 head": "a head that is no HTTP, one connection each",
}
RUNS = [
    ("404", DEPTH),
    ("404", 1),
    *((kind, 1 if kind in CLOSING else DEPTH) for kind in KINDS if kind != "404"),
]
HEAD = ["", "pipelined", "a second", "server µs", "sidecar µs", "Postgres µs", "client"]
HEAD += ["hello p50 ms", "hello p99 ms", "server MB"]
COUNTED = "SELECT coalesce(sum(count), 0) FROM flux.executions WHERE outcome = 'rejected'"


def flood(port: int, kind: str, depth: int, seconds: float) -> tuple[dict[str, float], dict[str, float]]:
    """Rejections of a kind, and the neighbour beside them: what the two generators saw.

    Raises:
        NotRun: the server stopped answering.
    """
    beside = [sys.executable, HERE / "load.py", "127.0.0.1", port, "--connections", 1, "--pause", PAUSE]
    beside += ["--seconds", seconds, *REQUESTS["hello"]]
    command = [sys.executable, HERE / "flood.py", port, kind, "--depth", depth, "--seconds", seconds]
    command += ["--connections", CONNECTIONS]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with (
        subprocess.Popen(list(map(str, beside)), **pipes) as neighbour,
        subprocess.Popen(list(map(str, command)), **pipes) as flooding,
    ):
        try:
            answered, wrong = flooding.communicate(timeout=seconds + MARGIN)
            served, trouble = neighbour.communicate(timeout=MARGIN)
        except subprocess.TimeoutExpired as error:
            flooding.kill()
            neighbour.kill()
            raise NotRun("it stopped answering") from error
    if flooding.returncode or neighbour.returncode:
        raise NotRun((wrong or trouble).strip().splitlines()[-1])
    return json.loads(answered), json.loads(served)


def resident(running: Running) -> float:
    """MB that the server process holds."""
    status = Path(f"/proc/{running.roots['server'][0]}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--rounds", type=int, default=2)
    given = parser.parse_args()
    if given.quick:
        given.seconds, given.rounds = 2, 1
    rates: dict[tuple[str, int], list[float]] = {run: [] for run in RUNS}
    rows: dict[tuple[str, int], list[str]] = {}
    neighbours = []
    answered = others = 0
    folder = Path(tempfile.mkdtemp(prefix="flux-bench-"))
    try:
        with FLUX.running(folder) as running:
            load(running.ports, "hello", WARM_UP, 1)
            for _ in range(given.rounds):
                for kind, depth in RUNS:
                    before = spent(running.roots)
                    found, beside = flood(running.ports[0], kind, depth, given.seconds)
                    after = spent(running.roots)
                    answered += int(found["answered"])
                    others += int(found["others"])
                    neighbours.append(beside)
                    rates[kind, depth].append(found["rate"])
                    each = {
                        role: (after[role] - before.get(role, 0)) / found["answered"] * 1e6 for role in after
                    }
                    rows[kind, depth] = [
                        *(f"{each[role]:.0f}" for role in ("server", "sidecar", "Postgres")),
                        f"{found['cpu']:.0%}",
                        f"{beside['p50_ms']:.1f}",
                        f"{beside['p99_ms']:.1f}",
                        f"{resident(running):.0f}",
                    ]
            running.end()
            counted = int(running.cluster.value("bench", COUNTED))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    whole = counted == answered and not others
    failed = int(sum(beside["failed"] for beside in neighbours))
    worst = max(beside["p99_ms"] for beside in neighbours)
    main_rates = rates["404", DEPTH]
    findings = Findings(
        [
            Standing(
                f"requests refused with 404 a second, one server process, pipelined by {DEPTH}",
                f"one by one: {spread(rates['404', 1], 0, '/s')}",
                f"≥ {WANTED:,}/s",
                spread(main_rates, 0, "/s"),
                verdict(main_rates, least=WANTED),
            ),
            Standing(
                "rejections that the record counts, of those answered",
                f"{answered:,} answered",
                "all",
                f"{counted:,}" + (f"; {others} answered otherwise" if others else ""),
                "reached" if whole else "**not reached**",
            ),
            Standing(
                "requests to a function beside them that failed",
                f"{sum(int(beside['requests']) for beside in neighbours):,} requests",
                "0",
                f"{failed}; p99 at most {worst:.0f} ms",
                "reached" if not failed else "**not reached**",
            ),
        ],
        [
            Table(
                f"Rejections, {CONNECTIONS} connections, {given.rounds} runs of {given.seconds:g} s by turns",
                HEAD,
                [
                    [f"{kind[:3]}: {KINDS[kind]}", str(depth), spread(rates[kind, depth], 0, ""), *row]
                    for (kind, depth), row in rows.items()
                ],
                [
                    "CPU microseconds of a rejection, the neighbour's requests in them, his latencies and the"
                    " server's memory: of the last run. The first 1,000 of a second are recorded one by one."
                ],
            )
        ],
    )
    findings.hand_over(given.json)


if __name__ == "__main__":
    main()
