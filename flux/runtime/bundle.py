"""Bundles: a function's source turned into a Deployment, and a deployment's files into one archive and back.

The server builds one deployment per function and reload; replay unpacks a recorded one. A bundle holds the
function's folder and every shared folder, under their paths below functions/. Packages that it imports
(node_modules, site-packages) are not in it; the lock files of the project's root stand in the manifest by
hash, as `lock:<name>`.
"""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import tarfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import orjson

from flux.errors import ConfigError
from flux.runtime.deployment import Deployment
from flux.runtime.functions import FunctionSource
from flux.runtime.source_files import LARGEST_BUNDLE, LARGEST_FILE

LOCKS = {
    "typescript": ("deno.lock", "package-lock.json", "pnpm-lock.yaml", "yarn.lock"),
    "python": ("requirements.txt", "uv.lock", "poetry.lock"),
}
_SETTLED_NS = 100_000_000
_GIT_TIMEOUT = 3.0


@dataclass(frozen=True, slots=True)
class GitState:
    """Where the project stands in git. `commit` is None before the first one; `dirty` counts what lies under
    the project alone. Recorded with a deployment, no part of its identity: the same files are the same
    deployment whether committed or not.
    """

    commit: str | None
    dirty: bool


@dataclass(frozen=True, slots=True)
class _Content:
    stamp: tuple[int, int, int, int]
    data: bytes
    sha256: str


class ContentCache:
    """Contents and hashes of files, read again only when a file's times, size or inode differ. One per
    server.
    """

    def __init__(self) -> None:
        self._known: dict[str, _Content] = {}

    def read(self, path: Path) -> tuple[bytes, str]:
        """A file's bytes and their sha256 as hex.

        Raises:
            ConfigError: it can't be read, or grew too large.
        """
        name = str(path)
        try:
            status = os.stat(name)
            stamp = (status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino)
            known = self._known.get(name)
            if known is not None and known.stamp == stamp:
                return known.data, known.sha256
            if status.st_size > LARGEST_FILE:
                raise ConfigError(f"{path} is larger than {LARGEST_FILE // 2**20} MiB.")
            data = path.read_bytes()
        except OSError as error:
            raise ConfigError(f"{path} can't be read: {error.strerror}.") from error
        digest = hashlib.sha256(data).hexdigest()
        # A file written an instant ago may be written again within the clock's tick and keep its times.
        if time.time_ns() - max(status.st_mtime_ns, status.st_ctime_ns) > _SETTLED_NS:
            self._known[name] = _Content(stamp, data, digest)
        else:
            self._known.pop(name, None)
        return data, digest

    def forget_all_but(self, paths: set[Path]) -> None:
        """Drop what is not among `paths`: files that were deleted."""
        keep = {str(path) for path in paths}
        for name in [name for name in self._known if name not in keep]:
            del self._known[name]


def build(
    source: FunctionSource,
    functions_dir: Path,
    engine_versions: Mapping[str, str],
    cache: ContentCache | None = None,
) -> Deployment:
    """Read a function's files and make the deployment that they are.

    Args:
        source: from discovery.
        functions_dir: the folder that paths in the bundle are relative to; lock files lie in its parent.
        engine_versions: of flux, the guest and the engine: part of the deployment's identity.
        cache: given, files that did not change are not read again.

    Raises:
        ConfigError: a file vanished or can't be read, or the bundle is too large.
    """
    cache = cache or ContentCache()
    files: dict[str, bytes] = {}
    manifest: dict[str, str] = {}
    prefix = len(str(functions_dir)) + 1
    for path in source.files:
        name = str(path)[prefix:].replace(os.sep, "/")
        files[name], manifest[name] = cache.read(path)
    size = sum(map(len, files.values()))
    if size > LARGEST_BUNDLE:
        raise ConfigError(
            f"Function `{source.name}` and the shared folders have {size / 2**20:.1f} MiB; "
            f"a bundle may have {LARGEST_BUNDLE // 2**20}.",
            "Keep large data in the database, or fetch it.",
        )
    for name in LOCKS[source.runtime]:
        lock = functions_dir.parent / name
        if lock.is_file():
            _, manifest[f"lock:{name}"] = cache.read(lock)
    manifest = dict(sorted(manifest.items()))
    identity = {
        "manifest": manifest,
        "config": source.config,
        "entry": source.entry,
        "runtime": source.runtime,
        "engine": dict(engine_versions),
    }
    return Deployment(
        id=hashlib.sha256(orjson.dumps(identity, option=orjson.OPT_SORT_KEYS)).hexdigest(),
        function=source.name,
        runtime=source.runtime,
        entry=source.entry,
        files=files,
        manifest=manifest,
        config=source.config,
        engine=dict(engine_versions),
    )


def pack(deployment: Deployment) -> bytes:
    """The deployment's files as a tar whose bytes depend on nothing but their names and contents."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for name, data in sorted(deployment.files.items()):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            member.mode = 0o644
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def unpack(archive: bytes) -> dict[str, bytes]:
    """The files of a packed bundle: path below functions/ -> content.

    Raises:
        ConfigError: the bytes are not a bundle: broken, or with members that are no plain files below it.
    """
    files: dict[str, bytes] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(archive), mode="r:") as bundle:
            for member in bundle:
                path = PurePosixPath(member.name)
                content = bundle.extractfile(member) if member.isreg() else None
                if content is None or path.is_absolute() or ".." in path.parts:
                    raise ConfigError(f"The bundle holds `{member.name}`, which is no plain file inside it.")
                files[member.name] = content.read()
    except (tarfile.TarError, EOFError) as error:
        raise ConfigError(f"The bundle is broken: {error}.") from error
    return files


def git_state(root: Path) -> GitState | None:
    """The commit that the project at `root` stands on and whether anything under it differs; None without
    git or outside of it.
    """
    command = ["git", "-c", "core.fsmonitor=false", "status", "--porcelain=v2", "--branch", "--", "."]
    try:
        answer = subprocess.run(
            command,
            cwd=root,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_GIT_TIMEOUT,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    if answer.returncode != 0:
        return None
    commit, dirty = None, False
    for line in answer.stdout.splitlines():
        if line.startswith(b"# branch.oid "):
            oid = line.removeprefix(b"# branch.oid ").decode()
            commit = None if oid == "(initial)" else oid
        elif not line.startswith(b"#"):
            dirty = True
    return GitState(commit, dirty)
