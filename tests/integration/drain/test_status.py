"""What waits in the spools, for whom and since when; what is wrong with one."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import asyncpg
import pytest

from flux.drain import state as drain_state
from flux.drain.drain import Drain
from flux.drain.state import DrainState
from flux.drain.status import SpoolStatus, recorder_status
from flux.spool.frames import POSITION, POSITION_FORMAT
from flux.spool.waiting import waiting, word
from tests.integration.drain.recorded import complete, opened, recorder

SECOND = 10**9


async def only(spools: Path, connection: asyncpg.Connection | None) -> SpoolStatus:
    (spool,) = (await recorder_status(spools, connection)).spools
    return spool


async def test_the_oldest_that_waits_is_the_first_that_is_over(
    connection: asyncpg.Connection, spools: Path
) -> None:
    made = recorder(spools)
    ago = time.time_ns() - 60 * SECOND
    opened(made, started_ns=ago - 3600 * SECOND)
    assert waiting(made.journal.spool.folder, (0, 0)).oldest_ns is None, "one under way is not late"
    late = opened(made, started_ns=ago)
    late.end(status=200, outcome="ok", duration_ns=5 * SECOND)
    complete(made)
    spool = await only(spools, connection)
    assert spool.waiting.oldest_ns == ago + 5 * SECOND
    assert spool.waiting.undrained == spool.waiting.bytes == spool.bytes > 0
    assert (spool.waiting.files, spool.held, spool.problem) == (1, "writer", None)
    made.close()


async def test_an_end_whose_arrival_is_drained_is_as_old_as_what_follows_it_at_most(
    connection: asyncpg.Connection, database_url: str, spools: Path
) -> None:
    made = recorder(spools)
    folder = made.journal.spool.folder
    early = opened(made)
    complete(made)
    drain = Drain({"dsn": database_url}, spools, own=made.node)
    assert await drain.once() == 1
    place = word(folder)
    assert place == made.journal.spool.place
    assert waiting(folder, place).oldest_ns is None
    early.end(status=200, outcome="ok")
    left = (folder / "00000001.seg").stat().st_mtime_ns
    assert waiting(folder, place).oldest_ns == left
    opened(made, started_ns=left - SECOND)
    assert waiting(folder, place).oldest_ns == left - SECOND
    await drain.close()
    made.close()


async def test_a_spool_that_lost_its_writer_is_nobodys(connection: asyncpg.Connection, spools: Path) -> None:
    made = recorder(spools)
    complete(made)
    made.close()
    spool = await only(spools, connection)
    assert (spool.held, spool.problem, spool.lag) == ("nobody", None, 3)
    assert spool.pid == os.getpid()


async def test_a_spool_that_was_finished_from_a_copy_while_its_writer_lives_is_named(
    connection: asyncpg.Connection, database_url: str, spools: Path
) -> None:
    made = recorder(spools)
    complete(made)
    drain = Drain({"dsn": database_url}, spools, own=made.node)
    await drain.once()
    await drain.close()
    await connection.execute("UPDATE flux.spool_positions SET finished = true")
    assert "its writer lives" in str((await only(spools, connection)).problem)
    made.close()


async def test_a_database_that_was_put_back_is_noticed(
    connection: asyncpg.Connection, database_url: str, spools: Path
) -> None:
    made = recorder(spools)
    complete(made)
    drain = Drain({"dsn": database_url}, spools, own=made.node)
    await drain.once()
    await drain.close()
    assert (await only(spools, connection)).problem is None
    await connection.execute('UPDATE flux.spool_positions SET "offset" = "offset" - 1')
    assert "Postgres has less of it" in str((await only(spools, connection)).problem)
    made.close()


async def test_a_copy_and_a_folder_that_is_no_spool_are_named_with_what_to_do(spools: Path) -> None:
    made = recorder(spools)
    complete(made)
    elsewhere = spools.with_name("elsewhere")
    shutil.copytree(spools, elsewhere)
    copy = await only(elsewhere, None)
    assert "copy" in str(copy.problem)
    assert str(elsewhere / made.node) in str(copy.hint)
    (elsewhere / made.node / "meta.json").write_text("{")
    assert (await only(elsewhere, None)).problem is not None
    made.close()


async def test_without_postgres_the_drains_own_word_counts(database_url: str, spools: Path) -> None:
    made = recorder(spools)
    complete(made)
    drain = Drain({"dsn": database_url}, spools, own=made.node)
    await drain.once()
    await drain.close()
    complete(made)
    status = await recorder_status(spools, None)
    assert (status.lag, status.quarantine) == (3, None)
    made.close()


@pytest.mark.parametrize("data", [b"", b"half", POSITION_FORMAT.pack(1, 2) + b"more"])
def test_a_damaged_position_is_no_position(tmp_path: Path, data: bytes) -> None:
    assert word(tmp_path) == (0, 0)
    (tmp_path / POSITION).write_bytes(data)
    assert word(tmp_path) == (0, 0)


def test_a_drains_last_words_are_not_believed_for_ever(tmp_path: Path) -> None:
    assert drain_state.read(tmp_path) is None
    state = DrainState(pid=1, at=100.0, looked=99.0, stored=7)
    drain_state.write(tmp_path, state)
    assert drain_state.read(tmp_path) == state
    assert state.silent(100.5) is None
    assert state.silent(100.0 + drain_state.SILENT) == drain_state.SILENT
    assert state.silent(50.0) == 0.0, "from before the machine was started anew"
    (tmp_path / drain_state.FILE).write_text("{")
    assert drain_state.read(tmp_path) is None
    drain_state.write(tmp_path / "gone", state)
