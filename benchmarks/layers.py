"""Where the server process's time goes: CPU of a request by layer, for hello and for hello with one INSERT,
of Flux and of its baseline.

    python benchmarks/layers.py [--seconds 4]

py-spy (of benchmarks/requirements.txt) looks at the loaded server's Python stacks 200 times a second. A
sample belongs to the layer of its innermost frame; what the standard library and C do belongs to who called
them, and a sample with nothing above the event loop is the loop's own: uvloop, sockets, the kernel. Shares
are multiplied with the CPU time that the process spent. py-spy has to be allowed to look (root, or
kernel.yama.ptrace_scope 0).
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections import Counter
from pathlib import Path

from contestants import BARE, COMPETITORS, FLUX, RAW, Contestant, NotRun
from processes import spent
from project import WORKLOADS
from runs import WARM_UP, load
from standing import Findings, Table, arguments

RATE = 200
CONNECTIONS = 16
LOOP = "event loop, sockets, kernel"
ROOTS = r".*(?:/site-packages/|/python3\.\d+/|/(?=flux/\w+/)|/(?=(?:bare|raw)\.py))(.*)"
"""What stands before a package in a file's path; greedy, so that the last of them is taken."""
LAYERS = (
    ("flux/runtime/(executor|request|inflight|ending)", "flux.runtime: executor"),
    ("flux/runtime/", "flux.runtime: guests, frames"),
    ("flux/record/|cryptography/", "flux.recorder"),
    ("flux/(gateway|recorder|host|data)/", r"flux.\1"),
    ("flux/", "flux: the rest"),
    ("(hypercorn|h11)/", "Hypercorn, h11"),
    ("(quart|werkzeug|flask)/", "Quart, Werkzeug"),
    ("asyncpg/", "asyncpg"),
    ("opentelemetry/instrumentation/", "OpenTelemetry: instrumentor"),
    ("opentelemetry/", "OpenTelemetry: API, SDK"),
    ("asyncio/runners.py|uvloop/", LOOP),
    ("(bare|raw).py", "the function itself"),
)
"""How a file's path, from its package on, begins; the layer it is of. The first that matches."""


def layer(stack: list[str]) -> str:
    """Whose a stack is: `name (file:line)`, outermost first."""
    for frame in reversed(stack):
        path = re.search(r"\(([^()]*?)(?::\d+)?\)$", frame)
        inside = re.search(ROOTS, path[1]) if path else None
        for begins, name in LAYERS:
            if inside and (found := re.match(begins, inside[1])):
                return found.expand(name)
    return LOOP


def shares(folder: Path, contestant: Contestant, what: str, seconds: float) -> tuple[dict[str, float], float]:
    """Part of the server process's samples by layer, and its CPU microseconds a request.

    Raises:
        NotRun: py-spy can't look.
    """
    stacks = folder / "stacks"
    with contestant.running(folder) as running:
        pid = running.roots["server"][0]
        load(running.ports, what, WARM_UP, CONNECTIONS)
        command = [str(COMPETITORS.with_name("py-spy")), "record", "--pid", str(pid), "--format", "raw"]
        command += [
            "--full-filenames",
            "--rate",
            str(RATE),
            "--duration",
            str(int(seconds)),
            "--output",
            stacks,
        ]
        # The CPU is of a run without py-spy: it stops the process to look.
        before = spent(running.roots)["server"]
        found = load(running.ports, what, seconds / 2, CONNECTIONS)
        each = (spent(running.roots)["server"] - before) / found["requests"] * 1e6
        try:
            spy = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        except OSError as error:
            raise NotRun(f"py-spy can't be run: {error.strerror} (benchmarks/requirements.txt)") from error
        load(running.ports, what, seconds + 1, CONNECTIONS)
        said, _ = spy.communicate(timeout=60)
        if spy.returncode != 0 or not stacks.exists():
            raise NotRun(f"py-spy: {said.strip().splitlines()[-1:]}")
    counts: Counter[str] = Counter()
    for line in stacks.read_text().splitlines():
        stack, _, count = line.rpartition(" ")
        counts[layer(stack.split(";"))] += int(count)
    stacks.unlink()
    return {name: count / counts.total() for name, count in counts.items()}, each


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--seconds", type=float, default=4, help="that are looked at")
    given = parser.parse_args()
    if given.quick:
        given.seconds = 2
    findings = Findings()
    columns: dict[str, tuple[dict[str, float], float]] = {}
    folder = Path(tempfile.mkdtemp(prefix="flux-bench-"))
    try:
        for what in WORKLOADS:
            for contestant in (FLUX, RAW if what == "hello" else BARE):
                try:
                    columns[f"{what}: {contestant.name}"] = shares(folder, contestant, what, given.seconds)
                except NotRun as error:
                    findings.problems.append(f"profile of {contestant.name}, {what}: {error}")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if columns:
        total: Counter[str] = Counter()
        for found, each in columns.values():
            total.update({name: share * each for name, share in found.items()})
        rows = [
            [name, *(_cell(found.get(name, 0), each) for found, each in columns.values())]
            for name, _ in total.most_common()
        ]
        rows.append(["all", *(f"{each:.0f}" for _, each in columns.values())])
        title = "Where the server process's time goes: CPU microseconds a request, and its part"
        findings.tables.append(Table(title, ["", *columns], rows))
    findings.hand_over(given.json)


def _cell(share: float, each: float) -> str:
    return f"{share * each:.0f} ({share:.0%})" if share else ""


if __name__ == "__main__":
    main()
