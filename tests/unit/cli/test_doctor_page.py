"""What `flux doctor` prints."""

from __future__ import annotations

from typing import Any

from flux.cli.render.doctor import doctor_page


def check(name: str, level: str, detail: str, hint: str | None = None, **more: str) -> dict[str, Any]:
    given = {"name": name, "ok": level != "error", "level": level, "detail": detail, "hint": hint}
    return {**given, "part": "machine", "brief": "", **more}


def text(*checks: dict[str, Any], cells: int = 60, every: bool = False) -> str:
    report = {"ok": all(each["ok"] for each in checks), "checks": list(checks)}
    return "\n".join(line.plain.rstrip() for line in doctor_page(report, cells, every=every))


FLUX = check("flux", "ok", "flux 0.1.0, Python 3.11", brief="flux 0.1.0")
KEY = check("master key", "ok", "from FLUX_MASTER_KEY")
CLOCK = check("clock", "ok", "within 1 ms", brief="clocks agree", part="postgres")


def test_where_all_is_well_each_part_is_a_line() -> None:
    assert text(FLUX, KEY, CLOCK) == (
        "  ✓ machine   flux 0.1.0\n  ✓ postgres  clocks agree\n\n  The record is whole."
    )


def test_every_check_is_shown_when_asked_for() -> None:
    assert text(FLUX, KEY, every=True) == (
        "  ✓ machine\n    ✓ flux        flux 0.1.0, Python 3.11\n    ✓ master key  from FLUX_MASTER_KEY\n\n"
        "  The record is whole."
    )


def test_what_is_wrong_stands_below_its_part_with_what_to_do() -> None:
    bad = check("disk", "error", "0.1 GiB free", "Make room.")
    odd = check("schema", "warning", "hm", "look", part="tables")
    assert text(FLUX, bad, CLOCK, odd) == (
        "  ✗ machine   flux 0.1.0\n    ✗ disk    0.1 GiB free\n              Make room.\n"
        "  ✓ postgres  clocks agree\n"
        "  ! tables\n    ! schema  hm\n              look\n\n"
        "  1 thing is wrong, 1 to look at."
    )


def test_warnings_alone_leave_the_record_whole() -> None:
    assert text(check("disk", "warning", "1 GiB")).endswith("The record is whole, 1 to look at.")


def test_long_details_go_on_below_their_beginning() -> None:
    shown = text(check("deno", "error", "word " * 20, "mend " * 20), cells=60)
    assert all(len(line) <= 60 for line in shown.splitlines())
    assert shown.splitlines()[2].startswith(" " * 13 + "word")


def test_what_a_file_is_called_cannot_reach_the_terminal() -> None:
    assert "\x1b" not in text(check("functions", "error", "functions/\x1b[31mx", "see \x1b]0;t"))
