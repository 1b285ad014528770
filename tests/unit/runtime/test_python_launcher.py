"""How the Python guest is started: its command line, environment, versions and packages."""

from __future__ import annotations

import sys
from pathlib import Path

from flux.runtime.python import GUEST, PythonLauncher, package_folders


def test_the_guest_is_isolated_but_for_its_fixed_hash_seed() -> None:
    launcher = PythonLauncher(packages=[Path("/packages")])
    assert launcher.command(Path("/slot")) == [
        sys.executable,
        "-s",
        "-S",
        "-P",
        "-B",
        "-X",
        "utf8",
        str(GUEST / "boot.py"),
        "/packages",
    ]
    assert launcher.environment(Path("/slot")) == {"PYTHONHASHSEED": "0", "LANG": "C.UTF-8", "TZ": "UTC"}


def test_versions_follow_the_packages_that_are_installed(tmp_path: Path) -> None:
    before = PythonLauncher(packages=[tmp_path]).versions()
    assert before == PythonLauncher(packages=[tmp_path]).versions()
    assert before["python"] == ".".join(map(str, sys.version_info[:3]))
    info = tmp_path / "thing-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: thing\nVersion: 1.0\n")
    after = PythonLauncher(packages=[tmp_path]).versions()
    assert {name for name in before if before[name] != after[name]} == {"packages"}


def test_the_packages_are_those_of_this_environment() -> None:
    assert any((folder / "httpx").is_dir() for folder in package_folders())
