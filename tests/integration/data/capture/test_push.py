"""Schema files: applied once, in order, wholly or not at all; edits are reported."""

from __future__ import annotations

import asyncio
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


@pytest.mark.parametrize("text", ["", " \n", "-- to be written\n", "/* ; */;"])
async def test_a_file_without_a_statement_waits_to_be_written(
    owner: Owner, tmp_path: Path, text: str
) -> None:
    (tmp_path / "1.sql").write_text(text)
    assert await apply(owner.connection, tmp_path) == []
    (tmp_path / "1.sql").write_text("CREATE TABLE a (id int)")
    assert await apply(owner.connection, tmp_path) == ["1.sql"]
    assert (await plan(owner.connection, tmp_path)).drifted == []


async def test_a_comment_ends_at_a_carriage_return_as_it_does_in_postgres(
    owner: Owner, tmp_path: Path
) -> None:
    (tmp_path / "1.sql").write_bytes(b"-- tables\rCREATE TABLE a (id int);\r")
    assert await apply(owner.connection, tmp_path) == ["1.sql"]
    assert await owner.connection.fetchval("SELECT to_regclass('a') IS NOT NULL")
    (tmp_path / "2.sql").write_bytes(b"-- x\rCOMMIT; CREATE TABLE b (id int);")
    with pytest.raises(SchemaError, match="ends the transaction"):
        await apply(owner.connection, tmp_path)


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


DUMP = r"""--
-- PostgreSQL database dump
--

\restrict Xy12AbCd

SET statement_timeout = 0;
SELECT pg_catalog.set_config('search_path', '', false);

CREATE TABLE public.lookup (
    id integer NOT NULL,
    name text
);

COPY public.lookup (id, name) FROM stdin;
1	one; two
2	it's "quoted" -- no comment
3	\N
\.


COPY public.lookup FROM stdin (FORMAT csv, HEADER);
id,name
4,"a;b"
\.
ALTER TABLE ONLY public.lookup ADD CONSTRAINT lookup_pkey PRIMARY KEY (id);

\unrestrict Xy12AbCd
"""


async def test_a_dump_with_its_data_is_applied_and_captured(owner: Owner, tmp_path: Path) -> None:
    (tmp_path / "1_dump.sql").write_text(DUMP)
    (tmp_path / "2.sql").write_text(
        "CREATE TABLE after (id int); INSERT INTO after SELECT count(*) FROM lookup"
    )
    assert await apply(owner.connection, tmp_path) == ["1_dump.sql", "2.sql"]
    rows = [after for table, _, _, after in await owner.brief() if table == "lookup"]
    assert rows == [
        {"id": 1, "name": "one; two"},
        {"id": 2, "name": 'it\'s "quoted" -- no comment'},
        {"id": 3, "name": None},
        {"id": 4, "name": "a;b"},
    ]
    assert await owner.connection.fetchval("SELECT id FROM after") == 4
    assert await owner.connection.fetchval("SHOW statement_timeout") == "0"


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("CREATE TABLE t (id int);\nCOPY t FROM stdin;\n1\nx\n\\.\n", 4, "invalid input syntax"),
        ("CREATE TABLE t (id int);\nCOPY t FROM stdin;\n1\t2\n\\.\n", 3, "extra data"),
        ("CREATE TABLE t (id int);\nCOPY t (id) TO STDOUT;\n", 2, "nobody to read it"),
        ("CREATE TABLE t (id int);\nCOPY (SELECT 1 AS stdin) TO stdout;\n", 2, "nobody to read it"),
        ("CREATE TABLE t (id int);\n\\connect other\n", 2, r"`\connect` is a command of psql's"),
        ("CREATE TABLE t (id int);\nCOPY nowhere FROM stdin;\n1\n\\.\n", 2, "does not exist"),
        ("CREATE TABLE t (id int);\nCREATE TABLE u (a int) \\g\n", 2, "syntax error"),
    ],
)
async def test_a_copy_or_a_command_that_fails_names_file_and_line_and_hangs_nothing(
    owner: Owner, tmp_path: Path, text: str, line: int, words: str
) -> None:
    (tmp_path / "1.sql").write_text(text)
    async with asyncio.timeout(20):
        with pytest.raises(SchemaError) as caught:
            await apply(owner.connection, tmp_path)
    assert caught.value.message.startswith(f"schema/1.sql:{line}: ")
    assert words in caught.value.message
    assert await owner.connection.fetchval("SELECT to_regclass('public.t')") is None


async def test_an_unended_copy_takes_the_rest_of_its_file(owner: Owner, tmp_path: Path) -> None:
    (tmp_path / "1.sql").write_text("CREATE TABLE t (id int); COPY t FROM stdin;\n1\n2")
    (tmp_path / "2.sql").write_text("COPY t FROM STDIN")
    assert await apply(owner.connection, tmp_path) == ["1.sql", "2.sql"]
    assert await owner.connection.fetchval("SELECT count(*) FROM t") == 2
