"""The writer's side: whole records or none, limits, locks, forks."""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from flux.errors import SpoolError, SpoolFull, SpoolGone
from flux.record.identity import new_id
from flux.spool import folder as folders
from flux.spool.frames import HEAD, segment_path, segments
from flux.spool.reader import Record, SpoolReader
from flux.spool.writer import Spool


def make(folder: Path, *, limit: int = 2**20, **more: Any) -> Spool:
    return Spool.create(folder, new_id(), limit=limit, **more)


def records(spool: Spool, *, final: bool = False) -> list[bytes]:
    reader, found = SpoolReader(spool.folder, final=final), []
    while batch := reader.read():
        found += [item.data for item in batch if isinstance(item, Record)]
    reader.close()
    return found


def test_what_is_appended_is_read_back_in_order_over_several_segments(tmp_path: Path) -> None:
    spool = make(tmp_path, segment_bytes=300)
    sent = [bytes([n]) * (n + 1) for n in range(50)]
    for data in sent:
        spool.append(data)
    assert records(spool) == sent
    assert len(segments(spool.folder)) > 3


def test_at_the_limit_new_executions_are_refused_and_those_under_way_are_not(tmp_path: Path) -> None:
    spool = make(tmp_path, limit=8000)
    for _ in range(8):
        spool.append(b"x" * 988, begins=True)
    with pytest.raises(SpoolFull):
        spool.append(b"x", begins=True)
    spool.append(b"the end of an execution")
    with pytest.raises(SpoolFull, match="Postgres does not have yet"):
        spool.append(b"x" * 2000)


def test_room_that_the_drain_makes_is_seen(tmp_path: Path) -> None:
    spool = make(tmp_path, limit=4000, segment_bytes=1000)
    for _ in range(4):
        spool.append(b"x" * 988, begins=True)
    with pytest.raises(SpoolFull):
        spool.append(b"x" * 988, begins=True)
    for number in segments(spool.folder)[:-1]:
        segment_path(spool.folder, number).unlink()
    spool.append(b"x" * 988, begins=True)


def test_a_write_cut_short_by_a_full_disk_is_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = make(tmp_path)
    spool.append(b"first")
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:7]))
    with pytest.raises(SpoolFull, match="no room"):
        spool.append(b"second")
    monkeypatch.undo()
    spool.append(b"third")
    assert records(spool, final=True) == [b"first", b"third"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_a_full_spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    spool = make(tmp_path)

    def refuse(fd: int, data: bytes) -> int:
        raise OSError(code, "no")

    monkeypatch.setattr(os, "write", refuse)
    with pytest.raises(SpoolFull):
        spool.append(b"x")
    monkeypatch.setattr(os, "write", lambda fd, data: (_ for _ in ()).throw(OSError(errno.EIO, "broken")))
    with pytest.raises(SpoolError, match="broken"):
        spool.append(b"x")


def test_the_kernels_own_limit_leaves_whole_records_only(tmp_path: Path) -> None:
    """A real partial write: RLIMIT_FSIZE in a child of its own."""
    child = os.fork()
    if child == 0:
        try:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            spool = make(tmp_path)
            resource.setrlimit(resource.RLIMIT_FSIZE, (1500, 1500))
            try:
                while True:
                    spool.append(b"y" * 400)
            except SpoolFull:
                os._exit(7)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    (folder,) = folders.spools(tmp_path)
    assert segment_path(folder, 1).stat().st_size == 3 * (HEAD.size + 400)


def test_a_forked_child_can_neither_write_the_spool_nor_free_its_lock(tmp_path: Path) -> None:
    spool = make(tmp_path)
    child = os.fork()
    if child == 0:
        try:
            spool.append(b"from the child")
        except SpoolError:
            os._exit(7)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert folders.claim(spool.folder) is None
    spool.append(b"from the parent")
    assert records(spool) == [b"from the parent"]


def test_a_spool_is_claimed_once_its_owner_let_go(tmp_path: Path) -> None:
    spool = make(tmp_path)
    assert folders.claim(spool.folder) is None
    spool.close()
    spool.close()
    claim = folders.claim(spool.folder)
    assert claim is not None
    assert folders.claim(spool.folder) is None
    claim.delete()
    assert folders.claim(spool.folder) is None
    with pytest.raises(SpoolError, match="closed"):
        spool.append(b"late")


def test_a_copy_of_a_spool_is_not_to_be_claimed(tmp_path: Path) -> None:
    spool = make(tmp_path)
    spool.close()
    spool.folder.rename(tmp_path / "moved")
    with pytest.raises(SpoolError, match="is a copy of spool"):
        folders.claim(tmp_path / "moved")


def test_a_spool_of_a_later_format_is_left_alone(tmp_path: Path) -> None:
    spool = make(tmp_path)
    spool.close()
    meta = spool.folder / "meta.json"
    meta.write_text(meta.read_text().replace('"version": 1', '"version": 2'))
    with pytest.raises(SpoolError, match="format 2"):
        folders.claim(spool.folder)


async def test_many_who_wait_for_fsync_share_a_few(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = make(tmp_path, durability="fsync")
    count, fsync = 0, os.fsync

    def counted(fd: int) -> None:
        nonlocal count
        count += 1
        fsync(fd)

    monkeypatch.setattr(os, "fsync", counted)

    async def one() -> None:
        spool.append(b"x")
        await spool.settle()

    await asyncio.gather(*(one() for _ in range(50)))
    assert 1 <= count <= 3
    await spool.settle()
    assert spool._synced == spool.place


async def test_who_asks_just_as_a_sync_ends_does_not_spin_on_it(tmp_path: Path) -> None:
    spool = make(tmp_path, durability="fsync")

    async def client(pauses: int) -> None:
        for _ in range(200):
            spool.append(b"record")
            await spool.settle()
            for _ in range(pauses):
                await asyncio.sleep(0)

    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        for number in range(16):
            group.create_task(client(number))
    assert spool._synced == spool.place
    spool.close()


@pytest.mark.parametrize("gone", [".", "..", "*.seg", "lock", "*"])
def test_files_deleted_under_the_writer_are_made_anew_and_nothing_is_lost(tmp_path: Path, gone: str) -> None:
    spool = make(tmp_path / "spool", otlp_limit=2**20)
    reader = SpoolReader(spool.folder)
    spool.append(b"one")
    assert [record.data for record in reader.read() if isinstance(record, Record)] == [b"one"]
    place = reader.place
    if gone in (".", ".."):
        shutil.rmtree(spool.folder if gone == "." else spool.folder.parent)
    for path in spool.folder.glob(gone) if gone not in (".", "..") else ():
        path.unlink()
    spool.append(b"begun", begins=True)
    spool.append(b"ended")
    if gone == "lock":
        assert spool.whole()
    assert records(spool) == [b"one", b"begun", b"ended"]
    # Who reads on from where it was finds what follows, in the file that it has open or in the new one.
    assert [record.data for record in reader.read() if isinstance(record, Record)] == [b"begun", b"ended"]
    assert reader.place[0] == place[0]
    assert spool.restored == (gone != "lock")
    assert spool.missing == 0
    spool.append(b"more")
    assert spool.restored == (gone != "lock")
    if gone != "lock":
        assert folders.claim(spool.folder) is None
        assert folders.verify(spool.folder).node == spool.node
        assert (spool.folder / "position").stat().st_size == 16
        assert (spool.folder / "otlp").exists()
        spool.close()
        assert folders.claim(spool.folder) is not None


def test_a_folder_moved_away_is_noticed_within_a_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = make(tmp_path / "spool")
    spool.append(b"one")
    (tmp_path / "spool").rename(tmp_path / "elsewhere")
    now = time.monotonic() + 2
    monkeypatch.setattr(time, "monotonic", lambda: now)
    spool.append(b"two")
    assert records(spool) == [b"one", b"two"]


def test_where_nothing_can_be_made_anew_it_is_refused_until_it_can(tmp_path: Path) -> None:
    spool = make(tmp_path / "spool")
    spool.append(b"one")
    shutil.rmtree(tmp_path / "spool")
    (tmp_path / "spool").write_text("in the way")
    with pytest.raises(SpoolGone, match="deleted and can't be made anew"):
        spool.append(b"lost")
    with pytest.raises(SpoolGone):
        spool.append(b"not even begun", begins=True)
    assert not spool.whole()
    (tmp_path / "spool").unlink()
    spool.append(b"two", begins=True)
    assert records(spool) == [b"one", b"two"]
    assert spool.whole()


def test_earlier_files_that_postgres_lacked_are_counted_as_missing(tmp_path: Path) -> None:
    spool = make(tmp_path / "spool", segment_bytes=300)
    for n in range(12):
        spool.append(b"%c" % n * 90)
    last = segments(spool.folder)[-1]
    shutil.rmtree(spool.folder)
    assert spool.whole()
    assert segments(spool.folder) == [last]
    assert spool.missing == last - 1
    shutil.rmtree(spool.folder)
    for n in range(12):
        spool.append(b"%c" % n * 90)  # also where the file just then was full
    assert segments(spool.folder)[0] == last
