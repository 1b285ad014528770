"""The loader of .sql files and the quoting of identifiers."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from flux.store.identifiers import quote
from flux.store.sql import Queries


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "st_package"
    (folder / "sql").mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "st_package", raising=False)
    return folder


def test_queries_are_found_by_name_in_every_file(package: Path) -> None:
    (package / "sql" / "a.sql").write_text(
        "-- What this file is for.\n\n-- name: one\n-- Why.\nSELECT 1\n\n-- name: two\nSELECT 2;\n"
    )
    (package / "sql" / "b.sql").write_text("-- name: three\nSELECT 3")
    queries = Queries("st_package")
    assert queries.one == "-- Why.\nSELECT 1"
    assert queries["two"] == "SELECT 2;"
    assert sorted(queries) == ["one", "three", "two"]


def test_a_missing_name_is_named_with_the_nearest_one(package: Path) -> None:
    (package / "sql" / "a.sql").write_text("-- name: latest\nSELECT 1")
    queries = Queries("st_package")
    with pytest.raises(AttributeError, match="no query named `latst`; did you mean `latest`"):
        _ = queries.latst
    with pytest.raises(KeyError, match="it has: latest"):
        _ = queries["zzz"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("SELECT 1", "before the first"),
        ("-- name: one\n\n-- name: two\nSELECT 2", "`one` is empty"),
        ("-- name: one\nSELECT 1\n-- name: one\nSELECT 2", "second query is named `one`"),
    ],
)
def test_a_malformed_file_is_refused(package: Path, text: str, message: str) -> None:
    (package / "sql" / "a.sql").write_text(text)
    with pytest.raises(ValueError, match=message):
        Queries("st_package")


def test_quoting_keeps_a_name_exactly() -> None:
    assert quote('we"ird Name') == '"we""ird Name"'
    for bad in ("", "a\0b"):
        with pytest.raises(ValueError, match="not an SQL identifier"):
            quote(bad)
