"""The list that `flux doctor` prints: each check with what was found and, where it failed, what to do."""

from __future__ import annotations

from typing import Any

from flux.cli.render.ansi import Text
from flux.cli.render.safe import safe, wrap


def doctor_page(report: dict[str, Any], cells: int) -> list[Text]:
    """A doctor report as lines; what is longer than a line goes on below its own beginning.

    Args:
        report: `{ok, checks: [{name, ok, detail, hint}]}`.
        cells: width of a line.
    """
    wide = max((len(check["name"]) for check in report["checks"]), default=0)
    room = cells - wide - 4
    lines: list[Text] = []
    for check in report["checks"]:
        style = "green" if check["ok"] else "bold red"
        found = wrap(safe(check["detail"]), room)
        lines.append(
            Text.of(("✓" if check["ok"] else "✗", style), f" {check['name']:<{wide}}  ", (found[0], ""))
        )
        below = [(part, "") for part in found[1:]]
        if not check["ok"] and check["hint"]:
            below += [(part, "cyan") for part in wrap(safe(check["hint"]), room)]
        lines += [Text.of(" " * (wide + 4), part) for part in below]
    return lines
