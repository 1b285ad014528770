"""First words of SQL: which statements need another way."""

from __future__ import annotations

import pytest

from flux.data.statements import Kind, classify


@pytest.mark.parametrize(
    ("text", "keyword", "kind"),
    [
        ("select 1", "SELECT", Kind.PLAIN),
        ("  -- note\n /* a /* nested */ b */ (select 1)", "SELECT", Kind.PLAIN),
        ("with x as (select 1) insert into t select * from x", "WITH", Kind.PLAIN),
        ("begin", "BEGIN", Kind.CONTROL),
        ("START TRANSACTION", "START", Kind.CONTROL),
        ("end", "END", Kind.CONTROL),
        ("rollback", "ROLLBACK", Kind.CONTROL),
        ("rollback work", "ROLLBACK", Kind.CONTROL),
        ("rollback to savepoint a", "ROLLBACK", Kind.SAVEPOINT),
        ("rollback work to a", "ROLLBACK", Kind.SAVEPOINT),
        ("savepoint a", "SAVEPOINT", Kind.SAVEPOINT),
        ("release a", "RELEASE", Kind.SAVEPOINT),
        ("prepare transaction 'x'", "PREPARE", Kind.CONTROL),
        ("copy t from stdin", "COPY", Kind.COPY),
        ("call p()", "CALL", Kind.ALONE),
        ("do $$ begin end $$", "DO", Kind.ALONE),
        ("create index concurrently i on t (a)", "CREATE", Kind.ALONE),
        ("create table t ()", "CREATE", Kind.PLAIN),
        ("", "", Kind.PLAIN),
        ("/* never ends", "", Kind.PLAIN),
        ("--x\rCOMMIT", "COMMIT", Kind.CONTROL),
        ("--x\nCOMMIT", "COMMIT", Kind.CONTROL),
        ("/* a */ -- b\r\n ; BEGIN", "BEGIN", Kind.CONTROL),
        ("\x1ccommit", "", Kind.PLAIN),
        ("beginner", "BEGINNER", Kind.PLAIN),
    ],
)
def test_a_statement_is_told_by_its_first_words(text: str, keyword: str, kind: Kind) -> None:
    assert classify(text) == (keyword, kind)
