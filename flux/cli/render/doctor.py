"""What `flux doctor` prints: a line for each part where all is well, more where it is not, and a verdict."""

from __future__ import annotations

from typing import Any

from flux.cli.render.ansi import Text
from flux.cli.render.safe import safe, wrap

_MARKS = {"ok": ("✓", "green"), "warning": ("!", "bold yellow"), "error": ("✗", "bold red")}
_WORST = ("ok", "warning", "error")


def doctor_page(report: dict[str, Any], cells: int, *, every: bool = False) -> list[Text]:
    """A doctor report as lines; what is longer than a line goes on below its own beginning.

    Args:
        report: `{ok, checks: [{name, part, ok, level, detail, hint, brief}]}`.
        cells: width of a line.
        every: a line for each check, whole.
    """
    checks = report["checks"]
    parts = list(dict.fromkeys(check["part"] for check in checks))
    shown = [check for check in checks if every or check["level"] != "ok"]
    wide = max((len(name) for name in (*parts, *(f"  {check['name']}" for check in shown))), default=0)
    lines: list[Text] = []
    for part in parts:
        own = [check for check in checks if check["part"] == part]
        worst = max((check["level"] for check in own), key=_WORST.index)
        briefs = [check["brief"] for check in own if check["level"] == "ok" and check["brief"]]
        summary = "" if every else " · ".join(briefs)
        lines += _entry(worst, part, summary, None, wide, cells, style="bold")
        for check in own:
            if check in shown:
                name = f"  {check['name']}"
                lines += _entry(check["level"], name, check["detail"], check["hint"], wide, cells)
    return [*lines, Text(), _verdict(checks)]


def _entry(
    level: str, name: str, detail: str, hint: str | None, wide: int, cells: int, *, style: str = ""
) -> list[Text]:
    mark, colour = _MARKS[level]
    room = cells - wide - 6
    plain = "grey" if level == "ok" else ""
    found = wrap(safe(detail), room)
    below = [(part, plain) for part in found[1:]]
    if level != "ok" and hint:
        below += [(part, "cyan") for part in wrap(safe(hint), room)]
    indent = len(name) - len(name.lstrip())
    title = name.strip().ljust(wide - indent)
    line = Text.of("  " + " " * indent, (mark, colour), " ", (title, style), "  ", (found[0], plain))
    return [line, *(Text.of(" " * (wide + 6), part) for part in below)]


def _verdict(checks: list[dict[str, Any]]) -> Text:
    errors = sum(check["level"] == "error" for check in checks)
    warnings = sum(check["level"] == "warning" for check in checks)
    if errors:
        found = f"{errors} thing{'' if errors == 1 else 's'} {'is' if errors == 1 else 'are'} wrong"
        line = Text.of("  ", (found, "bold red"))
    else:
        line = Text.of("  ", ("The record is whole", "bold green"))
    return line.add(f", {warnings} to look at." if warnings else ".")
