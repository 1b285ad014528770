"""First words of SQL: which statements need another way, and what they may leave behind."""

from __future__ import annotations

import pytest

from flux.data.statements import Kind, Residue, classify


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
        ("beginner", "BEGINNER", Kind.PLAIN),
    ],
)
def test_a_statement_is_told_by_its_first_words(text: str, keyword: str, kind: Kind) -> None:
    assert classify(text)[:2] == (keyword, kind)


@pytest.mark.parametrize(
    ("text", "residue"),
    [
        ("update t set a = 1", Residue.NONE),
        ("select * from t", Residue.NONE),
        ("set local timezone = 'UTC'", Residue.NONE),
        ("set transaction read only", Residue.NONE),
        ("select pg_advisory_xact_lock(1)", Residue.NONE),
        ("savepoint a", Residue.NONE),
        ("set timezone = 'UTC'", Residue.SETTINGS),
        ("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", Residue.SETTINGS),
        ("reset all", Residue.SETTINGS),
        ("listen a", Residue.SETTINGS),
        ("select pg_advisory_lock(1)", Residue.SETTINGS),
        ("select pg_try_advisory_lock_shared(1)", Residue.SETTINGS),
        ("select set_config('a.b', 'c', false)", Residue.SETTINGS),
        ("create temp table t ()", Residue.SETTINGS),
        ("select 1 as a into temporary b", Residue.SETTINGS),
        ("declare c cursor with hold for select 1", Residue.SETTINGS),
        ("do $$ begin end $$", Residue.SETTINGS),
        ("prepare a as select 1", Residue.STATEMENTS),
        ("deallocate all", Residue.STATEMENTS),
        ("discard all", Residue.STATEMENTS),
    ],
)
def test_what_may_stay_behind_on_the_connection(text: str, residue: Residue) -> None:
    assert classify(text)[2] is residue
