"""Bundles: identity, packing, the cache, and the project's place in git."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import tarfile
import time
from pathlib import Path

import pytest

from flux.config import Config
from flux.errors import ConfigError
from flux.runtime import bundle
from flux.runtime.bundle import ContentCache, GitState
from flux.runtime.deployment import Deployment
from flux.runtime.functions import FunctionSource, discover

ENGINE = {"flux": "0.1.0", "python": "3.11.7"}


def source(root: Path, files: dict[str, str]) -> FunctionSource:
    for name, text in files.items():
        path = root / "functions" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    found = discover(root / "functions", Config(root=root))
    assert not found.problems
    return found.functions[0]


def deploy(root: Path, files: dict[str, str]) -> Deployment:
    return bundle.build(source(root, files), root / "functions", ENGINE)


def test_a_deployment_holds_the_function_and_the_shared_folders(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("httpx")
    (tmp_path / "deno.lock").write_text("{}")
    made = deploy(
        tmp_path, {"a/main.py": "one", "a/sub/x.json": "{}", "_lib/u.py": "two", "b/main.py": "three"}
    )
    assert dict(made.files) == {"_lib/u.py": b"two", "a/main.py": b"one", "a/sub/x.json": b"{}"}
    assert list(made.manifest) == ["_lib/u.py", "a/main.py", "a/sub/x.json", "lock:requirements.txt"]
    assert made.manifest["a/main.py"] == hashlib.sha256(b"one").hexdigest()
    assert (made.function, made.runtime, made.entry, made.timeout_ms) == ("a", "python", "a/main.py", 30_000)
    assert len(made.id) == 64


def test_identity_follows_files_settings_and_engine_and_nothing_else(tmp_path: Path) -> None:
    base = deploy(tmp_path, {"a/main.py": "one"})
    other = tmp_path / "moved"
    assert deploy(other, {"a/main.py": "one"}).id == base.id
    (tmp_path / "README.md").write_text("x")
    assert deploy(tmp_path, {}).id == base.id
    changed = [
        deploy(tmp_path / "1", {"a/main.py": "two"}).id,
        deploy(tmp_path / "2", {"a/main.py": "one", "a/x.py": ""}).id,
        deploy(tmp_path / "3", {"a/main.py": "one", "a/flux.json": '{"timeout_ms": 5}'}).id,
        bundle.build(source(tmp_path, {}), tmp_path / "functions", {**ENGINE, "python": "3.12"}).id,
    ]
    (tmp_path / "requirements.txt").write_text("httpx")
    changed.append(deploy(tmp_path, {}).id)
    assert len({base.id, *changed}) == 6


def test_packing_is_deterministic_and_unpacks_to_the_same(tmp_path: Path) -> None:
    files = {"a/main.py": "one", "a/" + "long/" * 40 + "é.txt": "deep", "_lib/empty.py": ""}
    first = deploy(tmp_path / "x", files)
    second = deploy(tmp_path / "y", dict(reversed(files.items())))
    archive = bundle.pack(first)
    assert archive == bundle.pack(second)
    assert bundle.unpack(archive) == dict(first.files)
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        assert {(m.mtime, m.uid, m.gid, m.mode, m.uname) for m in opened} == {(0, 0, 0, 0o644, "")}


@pytest.mark.parametrize("name", ["../up.py", "/abs.py", "a/../../up.py"])
def test_unpacking_refuses_a_member_that_leads_out(name: str) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo(name))
    with pytest.raises(ConfigError, match="no plain file"):
        bundle.unpack(buffer.getvalue())


def test_unpacking_refuses_what_is_no_archive() -> None:
    with pytest.raises(ConfigError, match="broken"):
        bundle.unpack(b"x" * 600)


def test_the_cache_reads_a_file_again_only_when_it_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"one")
    cache = ContentCache()
    reads: list[Path] = []
    real = Path.read_bytes

    def counting(self: Path) -> bytes:
        reads.append(self)
        return real(self)

    monkeypatch.setattr(Path, "read_bytes", counting)
    written = path.stat().st_ctime_ns
    monkeypatch.setattr(time, "time_ns", lambda: written + 1_000_000)
    assert cache.read(path)[0] == b"one"
    assert cache.read(path)[0] == b"one"
    assert len(reads) == 2, "a file that may yet change within its timestamp is not trusted"
    monkeypatch.setattr(time, "time_ns", lambda: written + 10_000_000_000)
    cache.read(path)
    cache.read(path)
    assert len(reads) == 3
    replacement = tmp_path / "g"
    replacement.write_bytes(b"two")
    os.utime(replacement, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
    replacement.replace(path)
    assert cache.read(path) == (b"two", hashlib.sha256(b"two").hexdigest())
    path.unlink()
    with pytest.raises(ConfigError, match="No such file"):
        cache.read(path)


def test_a_reload_of_one_file_among_two_hundred_reads_that_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source(tmp_path, {"a/main.py": "", **{f"a/m{n}.py": f"x = {n}\n" * 50 for n in range(199)}})
    functions = tmp_path / "functions"
    config = Config(root=tmp_path)
    cache = ContentCache()
    later = time.time_ns() + 10_000_000_000
    monkeypatch.setattr(time, "time_ns", lambda: later)
    before = bundle.build(discover(functions, config).functions[0], functions, ENGINE, cache)
    reads: list[str] = []
    real = Path.read_bytes

    def counting(self: Path) -> bytes:
        reads.append(self.name)
        return real(self)

    monkeypatch.setattr(Path, "read_bytes", counting)
    (functions / "a" / "m7.py").write_text("changed = 1")
    after = bundle.build(discover(functions, config).functions[0], functions, ENGINE, cache)
    assert after.id != before.id
    assert reads == ["m7.py"]


def git(root: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "init.defaultBranch=main"]
    subprocess.run(["git", *identity, *arguments], cwd=root, check=True, capture_output=True)


def test_git_state_counts_only_what_lies_under_the_project(tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    assert bundle.git_state(project) is None
    git(tmp_path, "init")
    assert bundle.git_state(project) == GitState(None, False)
    (project / "f").write_text("1")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "one")
    (tmp_path / "elsewhere").write_text("x")
    state = bundle.git_state(project)
    assert state is not None
    assert state.commit is not None
    assert len(state.commit) == 40
    assert not state.dirty
    (project / "new").write_text("x")
    assert bundle.git_state(project) == GitState(state.commit, True)


def test_git_state_is_none_where_there_is_no_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert bundle.git_state(tmp_path) is None
