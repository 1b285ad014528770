"""The watch of `flux dev`: nothing that happens once it has begun is missed."""

from __future__ import annotations

import asyncio
from pathlib import Path

from flux.app.changes import Changes, written

PATIENCE = 20.0


async def test_what_was_written_right_after_it_began_comes_first(tmp_path: Path) -> None:
    stop = asyncio.Event()
    changes = Changes(tmp_path, stop)
    await changes.begin()
    (tmp_path / "flux.toml").write_text("")
    (tmp_path / "functions" / "hello").mkdir(parents=True)
    (tmp_path / "functions" / "hello" / "index.ts").write_text("")
    found: set[Path] = set()
    async with asyncio.timeout(PATIENCE):
        async for paths in changes:
            found |= paths
            if {tmp_path / "flux.toml", tmp_path / "functions"} <= found:
                break
    stop.set()


async def test_what_is_written_while_a_change_is_dealt_with_comes_next(tmp_path: Path) -> None:
    stop = asyncio.Event()
    changes = Changes(tmp_path, stop)
    await changes.begin()
    names = ["first", "second", "third"]
    (tmp_path / names[0]).write_text("")
    found: set[Path] = set()
    async with asyncio.timeout(PATIENCE):
        async for paths in changes:
            found |= paths
            at = len(found)
            if at == len(names):
                stop.set()
            else:
                (tmp_path / names[at]).write_text("")
    assert {path.name for path in found} == set(names)


async def test_what_is_flux_own_or_others_is_left_out(tmp_path: Path) -> None:
    stop = asyncio.Event()
    for folder in (".flux", ".git", "node_modules"):
        (tmp_path / folder).mkdir()
    changes = Changes(tmp_path, stop)
    await changes.begin()
    for folder in (".flux", ".git", "node_modules"):
        (tmp_path / folder / "file").write_text("")
    (tmp_path / "mine").write_text("")
    async with asyncio.timeout(PATIENCE):
        async for paths in changes:
            assert paths == {tmp_path / "mine"}
            stop.set()


async def test_a_file_that_is_written_in_steps_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "1.sql"
    path.write_text("")
    steps = 4

    async def write() -> None:
        for step in range(steps):
            await asyncio.sleep(0.05)
            path.write_text("x" * (step + 1))

    writing = asyncio.create_task(write())
    await written(tmp_path, quiet=0.4, patience=PATIENCE)
    assert path.read_text() == "x" * steps
    await writing


async def test_writing_without_an_end_is_not_waited_for(tmp_path: Path) -> None:
    async def write() -> None:
        for step in range(1_000_000):
            (tmp_path / "1.sql").write_text("x" * (step % 97))
            await asyncio.sleep(0)

    writing = asyncio.create_task(write())
    async with asyncio.timeout(PATIENCE):
        await written(tmp_path, quiet=5, patience=0.2)
    writing.cancel()
