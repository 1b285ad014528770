"""docs/operations.md lists every metric and every check, and nothing that there is not."""

from __future__ import annotations

import re
from pathlib import Path

from flux.app.doctor import database, machine
from flux.app.instruments import INSTRUMENTS

TEXT = (Path(__file__).parents[3] / "docs/operations.md").read_text(encoding="utf-8")
RECORD = {"server", "drain", "spool", "orphans", "quarantine", "drops", "nodes", "otlp"}


def rows(title: str) -> list[list[str]]:
    """The cells of the table under a heading."""
    section = TEXT.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_every_metric_stands_in_the_document_with_its_kind_and_labels() -> None:
    found = {}
    for name, labels, meaning in rows("/_flux/metrics"):
        match = re.fullmatch(r"`(\w+)`(?: \(([^)]*)\))?", name)
        assert match is not None, name
        notes = (match[2] or "").split(", ")
        kind = next((note for note in notes if note in ("counter", "histogram")), "gauge")
        assert meaning
        found[match[1]] = (kind, tuple(re.findall(r"`(\w+)`", labels)))
    assert found == {name: (kind, labels) for name, (kind, labels, _) in INSTRUMENTS.items()}


def test_every_check_stands_in_the_document() -> None:
    found = {name for first, *_ in rows("flux doctor") for name in re.findall(r"`([^`]+)`", first)}
    looks = {name for part in database.LOOKS.values() for name in part}
    assert found == set(machine.LOOKS) | looks | RECORD | {"jobs"}


def test_alerts_name_metrics_that_there_are() -> None:
    alerts = TEXT.partition("## Alerts")[2]
    named = set(re.findall(r"\bflux_\w+", alerts))
    shown = {f"{name}_total" if kind == "counter" else name for name, (kind, _, _) in INSTRUMENTS.items()}
    assert named <= shown
    assert len(named) >= 12
