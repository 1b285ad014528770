"""What a benchmark hands back: standing numbers with what was wanted of them, and tables. benchmarks/run
collects them with `--json`.
"""

from __future__ import annotations

import argparse
import json
import signal
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Standing:
    """One standing number.

    Attributes:
        what: is measured. baseline: beside what. wanted: in words. measured: in words.
        verdict: `reached`, `not reached` or whatever lies between; empty where nothing was wanted.
    """

    what: str
    baseline: str
    wanted: str
    measured: str
    verdict: str = ""


@dataclass(frozen=True)
class Table:
    """Rows under a heading, all text. `notes` stand below it."""

    title: str
    head: list[str]
    rows: list[list[str]]
    notes: list[str] = field(default_factory=list)

    def plain(self) -> str:
        """For a terminal."""
        lines = [self.head, *self.rows]
        widths = [max(len(row[n]) for row in lines) for n in range(len(self.head))]
        shown = [
            "  ".join(
                cell.ljust(width) if n == 0 else cell.rjust(width)
                for n, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in lines
        ]
        return "\n".join([f"\n{self.title}", *shown, *self.notes])


@dataclass
class Findings:
    """All of one benchmark."""

    standing: list[Standing] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def hand_over(self, path: Path | None) -> None:
        """Print them; write them to `path` as well."""
        for table in self.tables:
            print(table.plain(), flush=True)
        for one in self.standing:
            line = (one.what, one.measured, f"wanted {one.wanted}", f"beside {one.baseline}", one.verdict)
            print(" | ".join(part for part in line if part), flush=True)
        for problem in self.problems:
            print(f"NOT RUN: {problem}", flush=True)
        if path is not None:
            path.write_text(json.dumps(asdict(self)))

    @classmethod
    def read(cls, path: Path) -> Findings:
        """What `hand_over` wrote."""
        found = json.loads(path.read_text())
        return cls(
            [Standing(**one) for one in found["standing"]],
            [Table(**one) for one in found["tables"]],
            found["problems"],
        )


def arguments(description: str | None) -> argparse.ArgumentParser:
    """A parser with what every benchmark takes. From here on SIGTERM is an exit: all is cleaned up."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the findings there as well")
    parser.add_argument("--quick", action="store_true", help="a short run, to see that it works")
    return parser


def verdict(values: Sequence[float], *, least: float | None = None, most: float | None = None) -> str:
    """What to call values of repeated runs, of which each should be at least, or at most, so much."""
    good = [value >= least if least is not None else most is not None and value <= most for value in values]
    if all(good):
        return "reached"
    middle = statistics.median(values)
    half = middle >= least if least is not None else most is not None and middle <= most
    return "**not reached in every run**" if half else "**not reached**"


def spread(values: Sequence[float], digits: int = 2, unit: str = "x") -> str:
    """The median, and the range where there are several."""
    middle = f"{statistics.median(values):.{digits}f}{unit}"
    if len(values) == 1:
        return middle
    return f"{middle} ({min(values):.{digits}f}–{max(values):.{digits}f})"
