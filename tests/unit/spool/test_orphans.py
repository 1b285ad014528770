"""Whether a spool has lost its writer."""

from __future__ import annotations

from pathlib import Path

from flux.spool import folder
from flux.spool.orphans import any_orphan


def test_a_spool_whose_writer_lives_is_no_orphan(tmp_path: Path) -> None:
    claim = folder.create(tmp_path, "n1", now_ns=1, durability="spool")
    assert not any_orphan(tmp_path)
    claim.release()
    assert any_orphan(tmp_path)


def test_looking_leaves_the_lock_free(tmp_path: Path) -> None:
    folder.create(tmp_path, "n1", now_ns=1, durability="spool").release()
    assert any_orphan(tmp_path)
    claim = folder.claim(tmp_path / "n1")
    assert claim is not None
    claim.delete()
    assert not any_orphan(tmp_path)


def test_one_orphan_among_living_spools_is_found(tmp_path: Path) -> None:
    alive = folder.create(tmp_path, "n1", now_ns=1, durability="spool")
    folder.create(tmp_path, "n2", now_ns=2, durability="spool").release()
    assert any_orphan(tmp_path)
    alive.release()


def test_what_is_no_spool_does_not_count(tmp_path: Path) -> None:
    (tmp_path / ".gone-n1").mkdir()
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "empty").mkdir()
    assert not any_orphan(tmp_path)
    assert not any_orphan(tmp_path / "nowhere")
