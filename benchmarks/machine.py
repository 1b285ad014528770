"""What a run was measured on."""

from __future__ import annotations

import os
import platform
import re
import statistics
import tempfile
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from cluster import Cluster


def described() -> str:
    """A paragraph of Markdown."""
    cpu = Path("/proc/cpuinfo").read_text()
    model = re.search(r"^model name\s*: (.*)$", cpu, re.M)
    system = re.search(r'^PRETTY_NAME="(.*)"$', Path("/etc/os-release").read_text(), re.M)
    memory = re.search(r"^MemTotal:\s*(\d+)", Path("/proc/meminfo").read_text(), re.M)
    with tempfile.TemporaryDirectory(prefix="flux-bench-") as folder, Cluster(Path(folder)) as cluster:
        postgres = cluster.version
    parts = [
        f"{len(os.sched_getaffinity(0))} cores of {model[1] if model else platform.machine()}",
        f"{int(memory[1]) / 2**20:.0f} GiB" if memory else "",
        f"{system[1] if system else platform.system()}, Linux {platform.release()}",
        f"Python {platform.python_version()}",
        f"Postgres {postgres}",
        f"Deno {version('deno')}",
        f"Hypercorn {version('hypercorn')}",
        f"Quart {version('quart')}",
        f"asyncpg {version('asyncpg')}",
    ]
    with tempfile.TemporaryDirectory(prefix="flux-bench-") as folder:
        sync = _fsync_ms(Path(folder) / "block")
    parts.append(f"appending 8 KiB and fdatasync p50 {sync:.1f} ms")
    load = os.getloadavg()[0]
    when = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return f"{when}; {'; '.join(part for part in parts if part)}; load average before it {load:.1f}."


def _fsync_ms(path: Path) -> float:
    """Median milliseconds until a block is on the databases' disk: what each commit waits for."""
    times = []
    with path.open("wb", buffering=0) as file:
        for _ in range(200):
            began = time.perf_counter()
            file.write(bytes(8192))
            os.fdatasync(file.fileno())
            times.append(time.perf_counter() - began)
    return statistics.median(times) * 1000
