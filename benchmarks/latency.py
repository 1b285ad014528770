"""What recording adds to a request at one connection: p50 of the recorded function beside the same with
`record: "none"` and beside bare Quart, by turns, all three servers up.

    python benchmarks/latency.py [--seconds 1] [--rounds 4]
"""

from __future__ import annotations

import shutil
import statistics
import tempfile
from contextlib import ExitStack
from pathlib import Path

from contestants import BARE, FLUX, UNRECORDED
from project import WORKLOADS
from runs import load
from standing import Findings, Standing, Table, arguments, spread, verdict

WANTED = 0.3
"""Milliseconds, of hello."""


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--seconds", type=float, default=1)
    parser.add_argument("--rounds", type=int, default=4)
    given = parser.parse_args()
    if given.quick:
        given.seconds, given.rounds = 0.5, 2
    findings = Findings()
    rows = []
    folder = Path(tempfile.mkdtemp(prefix="flux-bench-"))
    try:
        with ExitStack() as stack:
            ports = {one: stack.enter_context(one.running(folder)).ports for one in (BARE, UNRECORDED, FLUX)}
            for what, called in WORKLOADS.items():
                for there in ports.values():
                    load(there, what, 0.5, 1)
                p50: dict[object, list[float]] = {one: [] for one in ports}
                for _ in range(given.rounds):
                    for one, times in p50.items():
                        times.append(load(ports[one], what, given.seconds, 1)["p50_ms"])
                rows += [[f"{called}: {one.name}", spread(p50[one], unit="")] for one in ports]
                added = [on - off for on, off in zip(p50[FLUX], p50[UNRECORDED], strict=True)]
                above = statistics.median(p50[FLUX]) - statistics.median(p50[BARE])
                middle = statistics.median(added)
                findings.standing.append(
                    Standing(
                        f"p50 that recording adds at one connection, {called}",
                        'the same server, `record: "none"`',
                        f"< {WANTED} ms" if what == "hello" else "–",
                        f"{spread(added, unit=' ms')}; {above:+.2f} ms beside bare Quart",
                        verdict([middle], most=WANTED) if what == "hello" else "",
                    )
                )
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    title = f"One connection, {given.rounds} runs of {given.seconds:g} s by turns"
    findings.tables.append(Table(title, ["", "p50 ms"], rows))
    findings.hand_over(given.json)


if __name__ == "__main__":
    main()
