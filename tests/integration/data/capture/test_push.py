"""Schema files: applied once, in order, wholly or not at all; edits are reported."""

from __future__ import annotations

from pathlib import Path

import asyncpg
import pytest

from flux.data.schema_files import SchemaError, apply, plan
from tests.integration.data.capture.owner import Owner


async def test_files_are_applied_once_in_order_and_their_tables_captured(
    owner: Owner, tmp_path: Path
) -> None:
    (tmp_path / "002_b.sql").write_text("ALTER TABLE t ADD v text DEFAULT 'a;b'; INSERT INTO t VALUES (1);")
    (tmp_path / "001_a.sql").write_text("CREATE TABLE t (id int PRIMARY KEY)")
    assert [file.name for file in (await plan(owner.connection, tmp_path)).pending] == [
        "001_a.sql",
        "002_b.sql",
    ]
    assert await apply(owner.connection, tmp_path) == ["001_a.sql", "002_b.sql"]
    assert await apply(owner.connection, tmp_path) == []
    assert await owner.brief() == [("t", "INSERT", None, {"id": 1, "v": "a;b"})]


async def test_an_edited_or_missing_file_is_drift(owner: Owner, tmp_path: Path) -> None:
    (tmp_path / "1.sql").write_text("CREATE TABLE a (id int)")
    (tmp_path / "2.sql").write_text("CREATE TABLE b (id int)")
    await apply(owner.connection, tmp_path)
    (tmp_path / "1.sql").write_text("CREATE TABLE a (id bigint)")
    (tmp_path / "2.sql").unlink()
    found = await plan(owner.connection, tmp_path)
    assert found.pending == []
    assert [(drift.name, drift.missing) for drift in found.drifted] == [("1.sql", False), ("2.sql", True)]
    assert "new file" in found.drifted[0].message


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("CREATE TABLE t (id int);\n\nSELECT *\nFROM nowhere;\n", 4, 'relation "nowhere" does not exist'),
        (
            "CREATE TABLE t (id int UNIQUE);\n-- one; two\nINSERT INTO t\nVALUES (1), (1);",
            3,
            "already exists",
        ),
        ("/* a; */ CREATE TABLE t (id int);\nCREAT TABLE x;", 2, "syntax error"),
        ("CREATE TABLE t (id int);\nCOMMIT;\nCREATE TABLE u (id int);", 2, "ends the transaction"),
    ],
)
async def test_a_failure_names_file_and_line_and_leaves_nothing(
    owner: Owner, tmp_path: Path, text: str, line: int, words: str
) -> None:
    (tmp_path / "1.sql").write_text(text)
    with pytest.raises(SchemaError) as caught:
        await apply(owner.connection, tmp_path)
    assert caught.value.message.startswith(f"schema/1.sql:{line}: ")
    assert words in caught.value.message
    assert await owner.connection.fetchval("SELECT to_regclass('public.t')") is None
    assert [file.name for file in (await plan(owner.connection, tmp_path)).pending] == ["1.sql"]


async def test_a_missing_folder_holds_no_files(owner: Owner, tmp_path: Path) -> None:
    assert await apply(owner.connection, tmp_path / "schema") == []


async def test_rows_of_the_first_push_on_a_new_database_are_captured(
    database_url: str, tmp_path: Path
) -> None:
    (tmp_path / "1.sql").write_text("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1);")
    connection = await asyncpg.connect(database_url)
    try:
        await apply(connection, tmp_path)
        assert await Owner(connection).brief() == [("t", "INSERT", None, {"id": 1})]
    finally:
        await connection.close()
