"""Starting the Python guest: its spawner, environment and versions. Given to SubprocessEngine by the app.

The guest is flux/runtime/guest/python, run by this very interpreter without site and with the packages of the
environment that Flux is installed in, so that functions import what stands in requirements.txt.
"""

from __future__ import annotations

import compileall
import contextlib
import hashlib
import importlib.metadata
import os
import platform
import site
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

from flux.runtime.spawner import Order, Spawner

GUEST = Path(__file__).parent / "guest" / "python"


class PythonLauncher:
    """The Python guest's `Launcher`. One per engine.

    Args:
        python: the interpreter; this one by default.
        packages: folders that functions may import from besides their own; those of this environment by
            default.
    """

    name = "python"
    dials = False

    def __init__(self, *, python: str = sys.executable, packages: Sequence[Path] | None = None) -> None:
        self._python = python
        self._packages = tuple(package_folders() if packages is None else packages)
        self._read, self._listed = _readable(self._packages)
        self._versions: dict[str, str] = {}
        # Where that can't be written (Flux may lie in a folder that isn't ours) guests start a little slower.
        compileall.compile_dir(GUEST, quiet=2)

    def versions(self) -> dict[str, str]:
        """Of the interpreter, the guest's code and the installed packages; read once."""
        if not self._versions:
            self._versions = {
                "python": platform.python_version(),
                "implementation": platform.python_implementation().lower(),
                "platform": f"{sys.platform}-{platform.machine()}",
                "guest": _hash_of_guest(),
                "packages": _hash_of_packages(self._packages),
            }
        return dict(self._versions)

    def spawner(self, project: Path | None) -> Spawner:
        """One that has the guest's modules loaded: a guest is a fork of it.

        Its environment is the guests': a fixed hash seed, locale and time zone, and nothing of the server's.
        """
        return Spawner(
            python=self._python,
            loaded=[str(GUEST), *map(str, self._packages)],
            environment={"PYTHONHASHSEED": "0", "LANG": "C.UTF-8", "TZ": "UTC"},
            project=project,
        )

    def order(self, slot: Path, door: str = "") -> Order:
        """A guest that reads its bundle, Python and the packages, and writes nothing."""
        return Order(cwd=str(slot), read=[str(slot / "bundle"), *self._read], list=self._listed)

    def booted(self, slot: Path) -> None:
        """Nothing is to be done."""


def _readable(packages: Sequence[Path]) -> tuple[list[str], list[str]]:
    """What a guest may read, and what it may list.

    A folder that a .pth file names may be anything, a project with its secrets too: of that only what can be
    imported is read.
    """
    standard = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib")}
    libraries = {os.path.join(prefix, "lib") for prefix in (sys.base_prefix, sys.base_exec_prefix)}
    read, listed = [*sorted(standard | libraries), str(GUEST)], []
    for folder in packages:
        if folder.name in ("site-packages", "dist-packages"):
            read.append(str(folder))
            continue
        listed.append(str(folder))
        with contextlib.suppress(OSError):
            read += [
                str(path)
                for path in sorted(folder.iterdir())
                if not path.name.startswith(".") and (path.is_dir() or path.suffix in (".py", ".so"))
            ]
    return read, listed


def package_folders() -> list[Path]:
    """Where this environment's packages lie: its site-packages and what .pth files in them add."""
    found: dict[Path, None] = {}
    names = [sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    if site.ENABLE_USER_SITE:
        names.append(site.getusersitepackages())
    for name in names:
        folder = Path(name)
        if folder.is_dir():
            found[folder] = None
            for pth in sorted(folder.glob("*.pth")):
                found.update(dict.fromkeys(_added_by(pth)))
    return list(found)


def _added_by(pth: Path) -> list[Path]:
    """The folders that a .pth file names; lines that are code are left alone."""
    try:
        lines = pth.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return []
    named = [
        line.strip() for line in lines if line.strip() and not line.startswith(("#", "import ", "import\t"))
    ]
    return [folder for line in named if (folder := pth.parent / line).is_dir()]


def _hash_of_guest() -> str:
    digest = hashlib.sha256()
    for path in sorted(GUEST.rglob("*.py")):
        digest.update(f"{path.relative_to(GUEST).as_posix()}\0".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


def _hash_of_packages(folders: Sequence[Path]) -> str:
    """Names and versions of what is installed."""
    paths = [str(folder) for folder in folders]
    lines = {f"{found.name}=={found.version}" for found in importlib.metadata.distributions(path=paths)}
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()[:16]
