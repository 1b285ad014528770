"""The one table of operations, and whoever stands on it."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from flux.cli.render import calls
from flux.record import ops

ARCHITECTURE = Path(__file__).parents[3] / "docs" / "architecture.md"


def test_each_call_has_words_of_its_own_in_the_command_line() -> None:
    assert set(calls.ASKED) == ops.CALLS
    assert {ops.OPS[name].family for name in ops.CALLS} == set(calls.STYLES)


def test_the_architecture_documents_each_operation_with_the_members_that_it_takes() -> None:
    said = ARCHITECTURE.read_text(encoding="utf-8").split("## Host calls")[1].split("\n## ")[0]
    rows = dict(re.findall(r"^\| `([a-z.]+)`(?: \(note\))? \| (.*?) \|", said, re.MULTILINE))
    assert set(rows) == set(ops.OPS)
    for name, op in ops.OPS.items():
        members = {member.encode_name for member in msgspec.structs.fields(op.arguments)}
        missing = {member for member in members if not re.search(rf"\b{member}\b", rows[name])}
        assert not missing, f"{name}: {missing}"
        assert ("(note)" in re.search(rf"^\| `{re.escape(name)}`.*$", said, re.MULTILINE)[0]) is op.note


@pytest.mark.parametrize("name", sorted(ops.CALLS))
def test_what_changes_the_world_by_itself_is_an_intent_first(name: str) -> None:
    outside = ops.leaves(ops.HostCall(name, b'{"operation":"insert"}', 2))
    inside = ops.leaves(ops.HostCall(name, b'{"operation":"insert"}', 2, tx=1))
    always = {"db.commit", "fetch", "invoke"}
    assert outside is (name in always | {"db.query", "db.sql", "queue.push"})
    assert inside is (name in always)


def test_a_query_leaves_unless_it_is_known_to_read() -> None:
    assert not ops.leaves(ops.HostCall("db.query", b'{"operation":"select"}', 1))
    assert not ops.leaves(ops.HostCall("db.query", b"{}", 1))
    assert ops.leaves(ops.HostCall("db.query", b'{"operation":7}', 1))
    assert ops.leaves(ops.HostCall("db.query", b"{", 1))
