"""How the Python guest is started: its command line, environment, versions and packages."""

from __future__ import annotations

import sys
import sysconfig
from pathlib import Path

from flux.runtime.python import GUEST, PythonLauncher, package_folders


def test_a_guest_reads_its_bundle_python_and_the_packages(tmp_path: Path) -> None:
    packages = tmp_path / "site-packages"
    order = PythonLauncher(packages=[packages]).order(Path("/slot"))
    assert {"/slot/bundle", str(packages), str(GUEST), sysconfig.get_path("stdlib")} <= set(order.read)
    assert (order.argv, order.write, order.execute) == ((), (), ())
    assert "/slot" not in order.read


def test_of_a_folder_that_a_pth_file_names_only_what_can_be_imported_is_read(tmp_path: Path) -> None:
    (tmp_path / "package").mkdir()
    for name in ("module.py", ".env", "flux.toml"):
        (tmp_path / name).write_text("")
    (tmp_path / ".flux").mkdir()
    order = PythonLauncher(packages=[tmp_path]).order(Path("/slot"))
    assert [path for path in order.read if path.startswith(str(tmp_path))] == [
        str(tmp_path / "module.py"),
        str(tmp_path / "package"),
    ]
    assert order.list == [str(tmp_path)]


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
