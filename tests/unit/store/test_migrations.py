"""Until the first release, migrations are one file a noun: each thing stands once, in its final form."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

FILES = sorted((Path(__file__).parents[3] / "migrations").glob("*.sql"))
TEXT = "\n".join(file.read_text(encoding="utf-8") for file in FILES)
STATEMENTS = re.sub(r"\$\$.*?\$\$", "", re.sub(r"--[^\n]*", "", TEXT), flags=re.S)


def test_their_numbers_have_no_gaps() -> None:
    assert [file.name[:5] for file in FILES] == [f"{n:04}_" for n in range(1, len(FILES) + 1)]


def test_each_object_is_made_once() -> None:
    made = re.findall(
        r"^CREATE (?:UNIQUE )?(?:TABLE|INDEX|VIEW|SEQUENCE|FUNCTION|TYPE|PROCEDURE) (?:flux\.)?(\w+)",
        STATEMENTS,
        flags=re.M,
    )
    assert len(made) > 60
    assert [name for name, times in Counter(made).items() if times > 1] == []


def test_nothing_is_made_and_then_changed() -> None:
    """`..._plain` alone is a copy of the function before it, with fewer settings."""
    changes = re.findall(r"^(?:ALTER|DROP|CREATE OR REPLACE)\b.*", STATEMENTS, flags=re.M)
    assert [line for line in changes if not line.startswith("ALTER FUNCTION flux.capture_")] == []
