"""Every function of the corpus, several invocations at once in one process, behaves the same in a fresh one
that is told the same in the same order.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from flux.runtime.deno import DenoLauncher
from flux.runtime.pool import SubprocessEngine
from flux.runtime.python import PythonLauncher
from tests.integration.runtime.replayed import CORPUS, NOW, difference, record, replay

AT_ONCE = 6
ENDED_BY_THE_HOST = {"p_deadline"}
"""What a deadline ends is the same up to it only."""
NAMED: set[str] = {"t_dynimport"}
"""What docs/determinism.md names."""


@pytest.fixture(params=[DenoLauncher, PythonLauncher], ids=["typescript", "python"])
async def engine(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[SubprocessEngine]:
    made = SubprocessEngine(
        request.param(),
        slots_dir=tmp_path / "guests",
        concurrency=64,
        env={"STAGE": "blue", "REGION": "eu"},
        dev=False,
        boot_seed=lambda name: b"\7" * 32,
        clock_ns=lambda: NOW,
    )
    yield made
    await made.close(0)


async def test_the_corpus_behaves_the_same_in_a_fresh_process(engine: SubprocessEngine) -> None:
    entry = "index.ts" if engine.name == "deno" else "main.py"
    names = sorted(path.parent.name for path in CORPUS.glob(f"*/{entry}"))
    assert len(names) > 25
    chance = random.Random(5)
    differing = {}
    todo = [name for name in names if name not in ENDED_BY_THE_HOST | NAMED]

    async def drive() -> None:
        while todo:
            name = todo.pop()
            story = await record(engine, name, AT_ONCE, chance)
            again = await replay(engine, name, story)
            for index, told in story.told.items():
                found = difference(told, again[index])
                if found is not None:
                    differing[name] = found

    await asyncio.gather(*(drive() for _ in range(3)))
    assert not differing
