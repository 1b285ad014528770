"""Every standing number in one run; the results go between the marks of docs/performance.md. Run by
benchmarks/run, which makes the environments.

    benchmarks/run [--quick] [--only NAME]... [--dry]

Each benchmark is a process with a time limit; one that fails or is late is named in the results, and the rest
goes on. With `--quick`, `--only` or `--dry` docs/performance.md stays as it is and the section is printed.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from document import replace, section
from machine import described
from standing import Findings

HERE = Path(__file__).parent
DOCUMENT = HERE.parent / "docs/performance.md"
BENCHMARKS = {
    "throughput": 800,
    "latency": 120,
    "jobs": 120,
    "otlp": 120,
    "drain": 120,
    "capture": 180,
    "trace_lookup": 300,
    "reload": 90,
    "commands": 60,
    "kill": 120,
    "rejections": 120,
    "layers": 150,
    "crash": 240,
}
"""The benchmarks in order, and the seconds each may take."""
HOW = (
    "Load generator: `benchmarks/load.py`, keep-alive connections on uvloop, one request in flight each,"
    " one write a request; it runs on the same cores, and `client` is the part of one core that it took."
    " Contestants take turns, each in processes and on a Postgres of its own (embedded, fsync on), started"
    " for the run. Bare Quart and the traced one use asyncpg's pool of 16, whose reset of a connection at"
    " each release is a round trip (`pool without reset` leaves it out); Flux's pool of 16 resets a"
    " connection only where a statement left something on it. `ratio` is to the baseline in the same round"
    " (hello: raw ASGI on Hypercorn; an INSERT: bare Quart):"
    " median (range). `server` to `all`: CPU seconds per 1,000 requests, by process, Postgres with all its"
    " backends. `kept`: answered requests of which there is a record once the server has ended (Flux:"
    " executions; OpenTelemetry: SERVER spans that reached the collector; DBOS: finished workflows)."
)


def measure(name: str, quick: bool, folder: Path) -> Findings:
    """Run one benchmark."""
    path = folder / f"{name}.json"
    command = [sys.executable, str(HERE / f"{name}.py"), "--json", str(path)]
    command += ["--quick"] if quick else []
    process = subprocess.Popen(command, start_new_session=True)
    reason = None
    try:
        if process.wait(BENCHMARKS[name]) != 0:
            reason = f"it ended with {process.returncode}"
    except subprocess.TimeoutExpired:
        reason = f"it took more than {BENCHMARKS[name]} s"
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    if reason is None and path.exists():
        return Findings.read(path)
    print(f"NOT RUN: {name}: {reason or 'it wrote nothing'}", flush=True)
    return Findings(problems=[f"{name}: {reason or 'it wrote nothing'}"])


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="benchmarks/run", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="short runs, to see that all of them work")
    parser.add_argument(
        "--only", choices=tuple(BENCHMARKS), action="append", metavar="NAME", help="one of them"
    )
    parser.add_argument("--dry", action="store_true", help="leave docs/performance.md as it is")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    names = [name for name in BENCHMARKS if not given.only or name in given.only]
    machine = described()
    began = time.monotonic()
    findings = []
    with tempfile.TemporaryDirectory(prefix="flux-bench-") as folder:
        for number, name in enumerate(names, 1):
            print(
                f"\n== {name} ({number} of {len(names)}, {time.monotonic() - began:.0f} s so far)", flush=True
            )
            findings.append(measure(name, given.quick, Path(folder)))
    took = time.monotonic() - began
    text = section(machine, f"{HOW} The whole of it took {took / 60:.0f} minutes.", findings)
    if given.quick or given.only or given.dry:
        print(f"\n{text}")
    else:
        replace(DOCUMENT, text)
        print(f"\nWritten to {DOCUMENT.relative_to(HERE.parent)} after {took:.0f} s.")
    if any(found.problems for found in findings):
        sys.exit(1)


if __name__ == "__main__":
    main()
