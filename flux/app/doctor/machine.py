"""What doctor looks at on this machine: programs, functions, the key, the disks."""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from flux import __version__
from flux.app.doctor.check import Check, fine, warning, wrong
from flux.app.doctor.words import counted
from flux.app.keys import KEY_FILE, with_master_key
from flux.config import Config
from flux.runtime.confine import landlock
from flux.runtime.deno import DenoLauncher
from flux.runtime.functions import discover
from flux.runtime.pool import Launcher, SubprocessEngine
from flux.runtime.python import PythonLauncher
from flux.runtime.spawner import unconfined

GIB = 2**30
LOW_DISK, NO_DISK = 2 * GIB, GIB // 4
_VOLATILE = {"tmpfs", "ramfs"}
"""File systems that end with the machine's power."""


async def _flux(config: Config) -> Check:
    version = f"flux {__version__}, Python {platform.python_version()}"
    return fine("flux", version, f"flux {__version__}")


async def _deno(config: Config) -> Check:
    return await _starts(DenoLauncher(), "deno")


async def _python(config: Config) -> Check:
    return await _starts(PythonLauncher(), "python")


async def _starts(launcher: Launcher, name: str) -> Check:
    """Start a guest as the server would, and end it."""
    version = launcher.versions().get(name, "")
    with tempfile.TemporaryDirectory(prefix="flux-doctor-") as folder:
        Path(folder).chmod(0o755)
        engine = SubprocessEngine(launcher, slots_dir=Path(folder), concurrency=1, env={}, dev=False)
        began = time.perf_counter()
        try:
            await engine.warm()
        finally:
            await engine.close(0)
        elapsed = (time.perf_counter() - began) * 1000
    return fine(name, f"{version}, a guest starts in {elapsed:.0f} ms", f"{name} {version}")


async def _confinement(config: Config) -> Check:
    found = unconfined()
    if found is not None:
        return warning("confinement", *found)
    return fine("confinement", f"functions run under Landlock (version {landlock.version()}) and seccomp")


async def _functions(config: Config) -> Check:
    found = discover(config.functions_dir, config)
    if problems := found.problems:
        errors = [problem for problem in problems if problem.severity == "error"]
        first = (errors or problems)[0]
        place = ":".join(str(part) for part in (first.file, first.line, first.column) if part)
        return (wrong if errors else warning)("functions", f"{place}: {first.message}", first.hint)
    count = len(found.functions)
    return fine("functions", f"{count} in {config.functions_dir.name}/", counted(count, "function"))


async def _key(config: Config) -> Check:
    if config.master_key is not None:
        return fine("master key", "from FLUX_MASTER_KEY")
    path = config.flux_dir / KEY_FILE
    if not path.is_file():
        if config.database_url is not None and not config.dev:
            hint = "Make one with `openssl rand -hex 32` and set FLUX_MASTER_KEY to it on every node."
            return warning("master key", "not set: `flux serve` on an outside Postgres needs one", hint)
        return fine("master key", "made at the first start")
    with_master_key(config)
    if path.stat().st_mode & 0o077:
        return wrong(
            "master key", f"others may read {path.relative_to(config.root)}", f"Run: chmod 600 {path}"
        )
    return fine("master key", f"in {path.relative_to(config.root)}")


async def _disk(config: Config) -> Check:
    where = {"spool": _there(config.spool_dir)}
    if config.database_url is None:
        where["data"] = _data(config)
    free: dict[str, int] = {}
    if len({os.stat(folder).st_dev for folder in where.values()}) == 1:
        where = {" and ".join(where): next(iter(where.values()))}
    for what, folder in where.items():
        free[what] = shutil.disk_usage(folder).free
    least = min(free, key=lambda what: free[what])
    text = ", ".join(f"{amount / GIB:.1f} GiB free for the {what}" for what, amount in free.items())
    if free[least] < NO_DISK:
        return wrong("disk", text, "Make room: at the last byte requests are answered 503.")
    if free[least] < LOW_DISK:
        return warning("disk", text, "Make room: at the last byte requests are answered 503.")
    return fine("disk", text, f"{free[least] / GIB:.0f} GiB free")


async def _durability(config: Config) -> Check:
    kind = _file_system(_there(config.spool_dir))
    survives = {
        "spool": "kill -9",
        "fsync": "power loss",
        "postgres": "what Postgres survives",
    }[config.durability]
    detail = f'"{config.durability}": an answered request survives {survives}'
    if kind not in _VOLATILE or config.durability == "postgres":
        return fine("durability", detail)
    detail = f'"{config.durability}", but the spool is on {kind}, which is memory'
    hint = 'Put the project on a disk, or set durability = "postgres" in flux.toml.'
    return (wrong if config.durability == "fsync" else warning)("durability", detail, hint)


def _there(folder: Path) -> Path:
    """The folder, or the nearest above it that exists."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder


def _data(config: Config) -> Path:
    """Where the embedded Postgres keeps its data: a file says so where that is not below the project."""
    home = config.flux_dir / "postgres"
    try:
        return _there(Path((home / "location").read_text(encoding="utf-8").strip()))
    except OSError:
        return _there(home)


def _file_system(folder: Path) -> str | None:
    """The type of the file system that a folder is on, or None where this system does not say."""
    try:
        lines = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    path, best, kind = str(folder.resolve()), "", None
    for line in lines:
        _, mount, found, *_ = line.split()
        mount = mount.replace("\\040", " ")
        inside = path == mount or path.startswith(mount.rstrip("/") + "/")
        if inside and len(mount) >= len(best):
            best, kind = mount, found
    return kind


LOOKS: dict[str, Callable[[Config], Awaitable[Check]]] = {
    "flux": _flux,
    "deno": _deno,
    "python": _python,
    "confinement": _confinement,
    "functions": _functions,
    "master key": _key,
    "disk": _disk,
    "durability": _durability,
}
