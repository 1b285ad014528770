"""Requests a second, latency and CPU of a fully recorded function beside others that do the same work, in
one run.

    benchmarks/run --only throughput            # or, where its environments are there already:
    python benchmarks/throughput.py [--seconds 4] [--rounds 3] [--sustained 60] [--what hello] [--with NAME]

Contestants take turns (contestants.py), so that drift of the machine meets all alike; `ratio` is of the
runs of one round, its median and range over the rounds. Hello's baseline is a raw ASGI application on the
same server, an INSERT's is bare Quart with asyncpg's pool. Then Flux is loaded for `--sustained` seconds
between two runs of the baseline: that throughput counts only where the spool stays flat. Last, two server
processes each.
"""

from __future__ import annotations

import shutil
import statistics
import tempfile
import time
from pathlib import Path

from contestants import ALL, BARE, FLUX, RAW, UNRECORDED, Contestant, NotRun
from project import WORKLOADS
from runs import Run, run
from spool import SpoolUnderLoad
from standing import Findings, Standing, Table, arguments, spread, verdict

ROLES = ("server", "sidecar", "guests", "Postgres", "collector")
BASELINE = {"hello": RAW, "insert": BARE}
WANTED = {"hello": 1.0, "insert": 0.9}
"""Of the baseline's requests a second."""
WANTED_OF_UNRECORDED = 0.75
HEAD = ["", "req/s", "ratio", "p50 ms", "p99 ms", *ROLES, "all", "client", "failed", "kept"]
FLAT = {
    True: ("yes", "reached"),
    False: ("**no**", "**not reached**"),
    None: ("too short", "too short to say"),
}
Runs = dict[Contestant, list[Run]]


class Bench:
    """The runs, one after the other; who can't run is left out from then on, and named."""

    def __init__(self, folder: Path, connections: int, findings: Findings) -> None:
        self._folder = folder
        self._connections = connections
        self._findings = findings
        self._out: set[Contestant] = set()
        self._began = time.monotonic()

    def run(self, contestant: Contestant, what: str, seconds: float, workers: int = 1) -> Run | None:
        """One run, or None; one that fails is tried once more."""
        if contestant in self._out:
            return None
        found, reason = self._try(contestant, what, seconds, workers)
        if found is None:
            print(f"tried again: {contestant.name}, {what}: {reason}", flush=True)
            found, reason = self._try(contestant, what, seconds, workers)
        if found is None:
            self._out.add(contestant)
            self._findings.problems.append(f"{contestant.name}, {what}: {reason}")
            print(f"NOT RUN: {contestant.name}, {what}: {reason}", flush=True)
            return None
        print(
            f"{time.monotonic() - self._began:5.0f} s  {what:6} {contestant.name:30} {workers} x"
            f" {found.load['rps']:7.0f}/s  p50 {found.load['p50_ms']:6.2f} ms",
            flush=True,
        )
        return found

    def _try(
        self, contestant: Contestant, what: str, seconds: float, workers: int
    ) -> tuple[Run | None, str | None]:
        try:
            return run(contestant, self._folder, what, seconds, self._connections, workers), None
        except NotRun as error:
            return None, str(error)
        except Exception as error:
            return None, f"{type(error).__name__}: {error}"

    def rounds(
        self, contestants: list[Contestant], what: str, seconds: float, rounds: int, workers: int = 1
    ) -> Runs:
        """All contestants by turns. Those that took part in every round."""
        found: Runs = {contestant: [] for contestant in contestants}
        for _ in range(rounds):
            for contestant in contestants:
                one = self.run(contestant, what, seconds, workers)
                if one is not None:
                    found[contestant].append(one)
        return {contestant: runs for contestant, runs in found.items() if len(runs) == rounds}


def ratios(runs: Runs, one: Contestant, base: Contestant) -> list[float]:
    """Requests a second of one to those of another, round by round."""
    pairs = zip(runs.get(one, []), runs.get(base, []), strict=False)
    return [mine.load["rps"] / theirs.load["rps"] for mine, theirs in pairs]


def table(title: str, runs: Runs, baseline: Contestant) -> Table:
    """One line a contestant; `ratio` is to the baseline."""
    rows = []
    for contestant, found in runs.items():
        middle = {key: statistics.median(one.load[key] for one in found) for key in found[0].load}
        cpu = {role: statistics.median(one.cpu.get(role, 0) for one in found) for role in ROLES}
        ratio = ratios(runs, contestant, baseline)
        kept = [one.kept for one in found if one.kept is not None]
        rows.append(
            [
                contestant.name,
                f"{middle['rps']:,.0f}",
                spread(ratio, unit="") if ratio and contestant is not baseline else "",
                f"{middle['p50_ms']:.2f}",
                f"{middle['p99_ms']:.1f}",
                *(f"{seconds:.2f}" if seconds else "" for seconds in cpu.values()),
                f"{sum(cpu.values()):.2f}",
                f"{middle['cpu']:.0%}",
                f"{sum(one.load['failed'] for one in found):.0f}",
                f"{min(kept):.1%}" if kept else "",
            ]
        )
    return Table(title, HEAD, rows)


def sustained(bench: Bench, what: str, seconds: float, findings: Findings) -> list[str] | None:
    """Flux for that long between two runs of the baseline; a line of the table."""
    before = bench.run(BASELINE[what], what, seconds / 6)
    flux = bench.run(FLUX, what, seconds)
    after = bench.run(BASELINE[what], what, seconds / 6)
    if flux is None or flux.spool is None:
        return None
    spool = flux.spool
    beside = [one.load["rps"] for one in (before, after) if one is not None]
    ratio = flux.load["rps"] / statistics.mean(beside) if beside else None
    findings.standing.append(
        Standing(
            f"{WORKLOADS[what]}: spool under {seconds:.0f} s of it",
            f"what is written, {spool.written / 1e6:.1f} MB/s",
            "flat",
            f"slope {spool.slope / 1e6:+.3f} MB/s, at most {spool.behind / 1e6:.1f} MB behind",
            FLAT[spool.flat][1],
        )
    )
    return [
        WORKLOADS[what],
        f"not counted ({flux.load['rps']:,.0f})" if spool.flat is False else f"{flux.load['rps']:,.0f}",
        f"{ratio:.2f}" if ratio is not None else "",
        f"{flux.load['p50_ms']:.2f}",
        f"{flux.load['p99_ms']:.1f}",
        *_spool(spool),
        f"{flux.load['failed']:.0f}",
        f"{flux.kept:.1%}",
    ]


def _spool(spool: SpoolUnderLoad) -> list[str]:
    return [
        f"{spool.disk / 1e6:.1f}",
        f"{spool.behind / 1e6:.2f}",
        f"{spool.written / 1e6:.2f}",
        f"{spool.slope / 1e6:+.3f}",
        FLAT[spool.flat][0],
    ]


def standing(what: str, runs: Runs, findings: Findings) -> None:
    """The standing numbers of one workload."""
    beside = "bare Quart on Hypercorn, asyncpg's pool" if what == "insert" else RAW.name
    if found := ratios(runs, FLUX, BASELINE[what]):
        wanted = WANTED[what]
        findings.standing.append(
            Standing(
                f"{WORKLOADS[what]} through TypeScript, fully recorded, 16 connections",
                beside,
                f"≥ {wanted}x",
                spread(found),
                verdict(found, least=wanted),
            )
        )
    if what == "hello" and (found := ratios(runs, FLUX, UNRECORDED)):
        findings.standing.append(
            Standing(
                "hello, recording on",
                'the same server, `record: "none"`',
                f"≥ {WANTED_OF_UNRECORDED}x",
                spread(found),
                verdict(found, least=WANTED_OF_UNRECORDED),
            )
        )


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--seconds", type=float, default=4, help="of a run")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sustained", type=float, default=60, help="seconds of the long run; 0: none")
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--what", choices=tuple(WORKLOADS), action="append")
    parser.add_argument("--with", dest="names", action="append", help="part of a contestant's name")
    parser.add_argument("--workers", type=int, choices=(1, 2), action="append", help="server processes")
    given = parser.parse_args()
    if given.quick:
        given.seconds, given.rounds, given.sustained = 2, 1, 5
    chosen = [one for one in ALL if not given.names or any(name in one.name for name in given.names)]
    what_all = given.what or list(WORKLOADS)
    processes = given.workers or (1, 2)
    findings = Findings()
    folder = Path(tempfile.mkdtemp(prefix="flux-bench-"))
    bench = Bench(folder, given.connections, findings)
    try:
        for workers in processes:
            rounds = given.rounds if workers == 1 else max(1, given.rounds - 1)
            for what in what_all:
                some = [one for one in chosen if what in one.workloads and workers <= one.workers]
                runs = bench.rounds(some, what, given.seconds, rounds, workers)
                servers = "one server process" if workers == 1 else f"{workers} server processes"
                title = f"{WORKLOADS[what]}, {given.connections} connections, {servers}"
                title += f", {rounds} runs of {given.seconds:.0f} s"
                findings.tables.append(table(title, runs, BASELINE[what]))
                if workers == 1:
                    standing(what, runs, findings)
        if given.sustained and FLUX in chosen:
            lines = [sustained(bench, what, given.sustained, findings) for what in what_all]
            head = ["", "req/s", "ratio", "p50 ms", "p99 ms", "spool MB", "behind MB", "written MB/s"]
            findings.tables.append(
                Table(
                    f"{given.sustained:.0f} s without a break, recorded",
                    [*head, "slope MB/s", "flat", "failed", "kept"],
                    [line for line in lines if line is not None],
                )
            )
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    findings.hand_over(given.json)


if __name__ == "__main__":
    main()
