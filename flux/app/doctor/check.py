"""One thing that doctor looked at."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

Level = Literal["ok", "warning", "error"]


class Check(NamedTuple):
    """What was found.

    Attributes:
        name: of the check. detail: what was found, whole.
        level: a warning is worth a look, but the record is whole; an error means that it is not, or that
            something does not work.
        hint: what to do, where it is not ok.
        brief: the detail in a few words, for one line about many checks; "" where it goes without saying.
    """

    name: str
    level: Level
    detail: str
    hint: str | None = None
    brief: str = ""

    def document(self, part: str) -> dict[str, Any]:
        """As `--json` shows it."""
        return {
            "name": self.name,
            "part": part,
            "ok": self.level != "error",
            "level": self.level,
            "detail": self.detail,
            "hint": self.hint,
            "brief": self.brief,
        }


def fine(name: str, detail: str, brief: str = "") -> Check:
    """All is well."""
    return Check(name, "ok", detail, None, brief)


def warning(name: str, detail: str, hint: str | None = None) -> Check:
    """Worth a look."""
    return Check(name, "warning", detail, hint)


def wrong(name: str, detail: str, hint: str | None = None) -> Check:
    """Not as it must be."""
    return Check(name, "error", detail, hint)
