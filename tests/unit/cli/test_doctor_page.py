"""What `flux doctor` prints."""

from __future__ import annotations

from typing import Any

from flux.cli.render.doctor import doctor_page


def check(name: str, ok: bool, detail: str, hint: str | None = None) -> dict[str, Any]:
    return {"name": name, "ok": ok, "detail": detail, "hint": hint}


def text(*checks: dict[str, Any], cells: int = 60) -> str:
    report = {"ok": all(each["ok"] for each in checks), "checks": list(checks)}
    return "\n".join(line.plain.rstrip() for line in doctor_page(report, cells))


def test_details_stand_below_each_other() -> None:
    assert text(check("flux", True, "0.1.0"), check("master key", True, "from FLUX_MASTER_KEY")) == (
        "✓ flux        0.1.0\n✓ master key  from FLUX_MASTER_KEY"
    )


def test_only_what_is_wrong_shows_its_hint() -> None:
    shown = text(check("a", True, "fine", "never"), check("b", False, "broken", "mend it"))
    assert shown == "✓ a  fine\n✗ b  broken\n     mend it"


def test_long_details_go_on_below_their_beginning() -> None:
    shown = text(check("deno", True, "word " * 20), cells=60)
    assert all(len(line) <= 60 for line in shown.splitlines())
    assert shown.splitlines()[1].startswith(" " * 8 + "word")


def test_what_a_file_is_called_cannot_reach_the_terminal() -> None:
    assert "\x1b" not in text(check("functions", False, "functions/\x1b[31mx", "see \x1b]0;t"))
