"""The built wheel, installed outside the checkout, is a whole Flux: command, migrations, guests, SQL."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, REPOSITORY)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`bin/` of a new environment that holds the wheel; its dependencies are those of this one."""
    folder = tmp_path_factory.mktemp("installed")
    run(sys.executable, "-m", "venv", "--without-pip", folder)
    python = folder / "bin" / "python"
    (site,) = folder.glob("lib/python*/site-packages")
    # A folder named in a .pth file has its own .pth files ignored, so this checkout stays out of it.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    run(
        sys.executable,
        "-m",
        "pip",
        "--python",
        python,
        "install",
        "--no-deps",
        "--no-index",
        "--quiet",
        wheel,
    )
    return folder / "bin"


def run(*command: object, cwd: Path | None = None) -> str:
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "FLUX_"))
    }
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd or "/",
        env={**environment, "PYTHONNOUSERSITE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def tracked(*patterns: str) -> set[str]:
    listed = run("git", "-C", REPOSITORY, "-c", f"safe.directory={REPOSITORY}", "ls-files", *patterns)
    return set(listed.splitlines())


def test_every_file_of_the_packages_is_in_the_wheel(wheel: Path) -> None:
    inside = set(zipfile.ZipFile(wheel).namelist())
    wanted = tracked("flux", "exporters/flux_postgres_exporter", "migrations")
    assert "migrations/0001_record.sql" in wanted
    moved = {
        name.removeprefix("exporters/").replace("migrations/", "flux/store/migrations/", 1) for name in wanted
    }
    assert moved - inside == set()
    suffixes = {Path(name).suffix for name in inside}
    assert {".py", ".sql", ".ts", ".typed"} <= suffixes
    assert not any(name.startswith(("tests/", "exporters/")) for name in inside)


def test_it_runs_outside_the_checkout(installed: Path, tmp_path: Path) -> None:
    where = run(installed / "python", "-c", "import flux; print(flux.__file__)", cwd=tmp_path).strip()
    assert Path(where).is_relative_to(installed.parent)
    assert "Usage: flux" in run(installed / "flux", "--help", cwd=tmp_path)


def test_its_migrations_are_those_of_the_checkout(installed: Path, tmp_path: Path) -> None:
    code = "from flux.store import migrate; print(migrate.folder()); print(*(m.name for m in migrate.read()))"
    folder, names = run(installed / "python", "-c", code, cwd=tmp_path).splitlines()
    assert Path(folder).is_relative_to(installed.parent)
    assert names.split() == sorted(path.stem for path in (REPOSITORY / "migrations").glob("*.sql"))


_OPEN = """
import asyncio, pathlib, sys
from flux.config import Config
from flux.store.database import Store
async def main():
    async with await Store.open(Config(root=pathlib.Path(sys.argv[1])), application_name="wheel") as store:
        async with store.internal() as connection:
            print(await connection.fetchval("SELECT count(*) > 0 FROM flux.migrations"))
asyncio.run(main())
"""


def test_its_embedded_postgres_starts(installed: Path, tmp_path: Path) -> None:
    assert run(installed / "python", "-c", _OPEN, tmp_path, cwd=tmp_path).strip() == "True"


def test_the_exporter_is_found_by_its_entry_point(installed: Path, tmp_path: Path) -> None:
    code = (
        "from importlib.metadata import entry_points\n"
        "(entry,) = entry_points(group='opentelemetry_traces_exporter', name='flux_postgres')\n"
        "print(entry.load().__name__)"
    )
    assert run(installed / "python", "-c", code, cwd=tmp_path).strip() == "PostgresSpanExporter"
