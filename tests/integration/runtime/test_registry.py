"""The registry over a real Deno: what a reload stores, when it serves it, and how the old one ends."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from flux.config import Config
from flux.errors import SpoolError
from flux.record.events import Deployed
from flux.runtime.engine import Guest
from flux.runtime.pool import SubprocessEngine
from flux.runtime.registry import Registry
from tests.integration.runtime.local_guest import ScriptedHost, engine, invocation


def project(root: Path, answer: str) -> Config:
    """A project whose one function is `f`, with that expression as its answer."""
    folder = root / "project" / "functions" / "f"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "index.ts").write_text(f"export default () => {answer};\n")
    return Config(root=folder.parent.parent)


def serving(config: Config, deno: SubprocessEngine, deployed: Callable[[Deployed], None]) -> Registry:
    return Registry(config, {"typescript": deno}, deployed)


def guest_of(registry: Registry) -> Guest:
    served = registry.get("f")
    assert served is not None
    assert served.guest is not None
    return served.guest


async def ask(registry: Registry) -> bytes:
    return (await guest_of(registry).invoke(invocation(), ScriptedHost())).body


async def test_a_changed_function_is_recorded_with_its_commit_before_it_serves(tmp_path: Path) -> None:
    config = project(tmp_path, "1")
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b.example", "-c", "commit.gpgsign=false"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "one"]):
        subprocess.run([*git, *command], cwd=config.root, check=True)
    commit = subprocess.run(
        [*git, "rev-parse", "HEAD"], cwd=config.root, check=True, capture_output=True, text=True
    ).stdout.strip()
    recorded: list[tuple[Deployed, str | None]] = []
    async with engine(tmp_path) as deno:
        registry = serving(config, deno, lambda event: recorded.append((event, _served_id(registry))))
        await registry.reload()
        first = _served_id(registry)
        assert await ask(registry) == b"1"
        project(tmp_path, "2")
        [change] = await registry.reload()
        assert change.kind == "changed"
        assert await ask(registry) == b"2"
        assert [(event.git_commit, event.git_dirty, served) for event, served in recorded] == [
            (commit, False, None),
            (commit, True, first),
        ]
        assert [event.deployment for event, _ in recorded] == [first, _served_id(registry)]
        [kept] = await registry.reload()
        assert (kept.kind, len(recorded)) == ("kept", 2)
        await registry.close(0.1)


async def test_code_that_does_not_load_is_recorded_too(tmp_path: Path) -> None:
    recorded: list[Deployed] = []
    async with engine(tmp_path) as deno:
        registry = serving(project(tmp_path, ";"), deno, recorded.append)
        [change] = await registry.reload()
        assert change.kind == "failed"
        assert [event.deployment for event in recorded] == [_served_id(registry)]


async def test_what_can_not_be_recorded_is_not_served_and_its_guest_ends(tmp_path: Path) -> None:
    full = False

    def deployed(event: Deployed) -> None:
        if full:
            raise SpoolError("The spool is full.")

    async with engine(tmp_path) as deno:
        registry = serving(project(tmp_path, "1"), deno, deployed)
        await registry.reload()
        project(tmp_path, "2")
        full = True
        with pytest.raises(SpoolError):
            await registry.reload()
        assert await ask(registry) == b"1"
        while deno.deaths["stopped"] < 1:
            await asyncio.sleep(0.01)
        assert await ask(registry) == b"1"
        full = False
        await registry.reload()
        assert await ask(registry) == b"2"
        await registry.close(0.1)


async def test_a_replaced_guest_ends_once_what_is_in_flight_has(tmp_path: Path) -> None:
    release = asyncio.Event()
    host = ScriptedHost(lambda call, args: _wait(release))
    config = project(tmp_path, "1")
    (config.functions_dir / "f" / "index.ts").write_text(
        'export default async ({ ctx }) => { await ctx.secrets.get("KEY"); return 1; };\n'
    )
    async with engine(tmp_path) as deno:
        registry = serving(config, deno, lambda event: None)
        await registry.reload()
        running = asyncio.create_task(guest_of(registry).invoke(invocation(), host))
        while not host.calls:
            await asyncio.sleep(0)
        project(tmp_path, "2")
        await registry.reload()
        assert await ask(registry) == b"2"
        assert deno.deaths["stopped"] == 0
        release.set()
        assert (await running).body == b"1"
        while deno.deaths["stopped"] < 1:
            await asyncio.sleep(0.01)
        await registry.close(0.1)


async def _wait(release: asyncio.Event) -> None:
    await release.wait()


def _served_id(registry: Registry) -> str | None:
    served = registry.get("f")
    return served.deployment.id if served is not None else None
