"""The rounds of kill -9 under load of tests/acceptance/test_crash.py, as a standing number: answers whose
record is not whole.

    python benchmarks/crash.py [--rounds 3]
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from standing import Findings, Standing, arguments

ROOT = Path(__file__).parents[1]


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    rounds = 2 if given.quick else given.rounds
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "tests/acceptance/test_crash.py"],
        cwd=ROOT,
        env={**os.environ, "FLUX_CRASH_ROUNDS": str(rounds)},
        check=False,
    )
    what = f"{rounds} rounds of kill -9 under load: answers whose record is not whole"
    good = done.returncode == 0
    one = Standing(
        what, "–", "0", "0" if good else "the test fails", "reached" if good else "**not reached**"
    )
    Findings([one]).hand_over(given.json)


if __name__ == "__main__":
    main()
