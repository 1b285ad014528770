"""Memory and descriptors stay flat: `benchmarks/soak.py`, with fewer requests than the 100,000 it is for."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.acceptance.conftest import environment

REQUESTS = int(os.environ.get("FLUX_SOAK_REQUESTS", "3000"))
SOAK = Path(__file__).parents[2] / "benchmarks" / "soak.py"


def test_memory_and_descriptors_stay_flat_under_a_mixed_load(empty_database_url: str) -> None:
    done = subprocess.run(
        [
            *(sys.executable, str(SOAK), "--requests", str(REQUESTS), "--every", str(REQUESTS // 3)),
            *("--database", empty_database_url),
        ],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120 + REQUESTS / 20,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("flat\n"), done.stdout
