"""The measured section of docs/performance.md: between two marks, replaced as a whole. What stands around
it is written by hand.
"""

from __future__ import annotations

from pathlib import Path

from standing import Findings, Table

BEGIN = "<!-- benchmarks/run writes from here -->"
END = "<!-- to here -->"
STANDING = ["what", "baseline", "wanted", "measured", ""]


def section(machine: str, how: str, findings: list[Findings]) -> str:
    """The section's Markdown.

    Args:
        machine: what it was measured on. how: how it was measured.
        findings: of every benchmark, in order.
    """
    rows = [
        [one.what, one.baseline, one.wanted, one.measured, one.verdict]
        for found in findings
        for one in found.standing
    ]
    parts = [machine, how]
    if rows:
        parts.append(markdown(Table("The standing numbers", STANDING, rows)))
    parts += [markdown(table) for found in findings for table in found.tables]
    problems = [f"- {problem}" for found in findings for problem in found.problems]
    if problems:
        parts.append("\n".join(["Not run:", "", *problems]))
    return "\n\n".join(parts)


def markdown(table: Table) -> str:
    """A table under its heading."""
    lines = [table.head, ["---"] + ["---:"] * (len(table.head) - 1), *table.rows]
    if table.head == STANDING:
        lines[1] = ["---"] * len(table.head)
    shown = ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]
    return "\n".join([f"### {table.title}", "", *shown, *(f"\n{note}" for note in table.notes)])


def replace(path: Path, text: str) -> None:
    """Put the section between the marks.

    Raises:
        ValueError: the marks aren't there.
    """
    before, begin, rest = path.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{path} has no marks `{BEGIN}` and `{END}`")
    path.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}", encoding="utf-8")
