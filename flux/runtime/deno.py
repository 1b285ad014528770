"""How a Deno guest is started: its permissions, its import map, its environment. `SubprocessEngine` runs
TypeScript with it.

The guest may read its own bundle and the module `@flux/functions`, and nothing else: no network, environment,
subprocesses, foreign functions or writing. Deno's permissions say so, and the kernel once more. Modules that
evade recording (node:fs, node:process...) are mapped away; node:crypto is the guest's own, whose random
numbers are the invocation's.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import platform
import shutil
import sqlite3
import subprocess
from pathlib import Path

from deno import find_deno_bin

from flux.errors import RuntimeFault
from flux.runtime.confine import seccomp
from flux.runtime.slots import LINK
from flux.runtime.spawner import Order, Spawner

GUEST = Path(__file__).resolve().parent / "guest" / "deno"
MEMORY_MB = 1024
"""MiB that one process may allocate; V8's heap may be half of it, the rest is for what lies outside."""
TEMPLATE = "cache"
"""The folder, beside the slots, of what the guest's own code compiles to."""
LARGEST_CACHE_FILE = 16 * 2**20
"""Bytes that a file of a guest's own cache may have."""
_LOADERS = ("/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1")

NODE_ALLOWED = """
assert assert/strict async_hooks buffer events path path/posix path/win32 punycode querystring string_decoder
url util util/types
"""
"""Modules of Node that neither reach the outside nor bring a clock or random of their own."""
_OFFERED = {"functions.ts": "@flux/functions", "node_crypto.ts": "node:crypto"}
"""What of the guest's own code functions can import, and as what."""
NODE_DENIED = """
child_process cluster console constants dgram diagnostics_channel dns dns/promises domain fs
fs/promises http http2 https inspector inspector/promises module net os perf_hooks process readline
readline/promises repl sea sqlite stream stream/consumers stream/promises stream/web sys test
test/reporters timers timers/promises tls trace_events tty v8 vm wasi worker_threads zlib
"""


class DenoLauncher:
    """Starts Deno guests.

    Args:
        memory_mb: MiB that one process may allocate, of which V8's heap gets half; 0 sets no limit.
    """

    name = "deno"
    dials = True

    def __init__(self, memory_mb: int = MEMORY_MB) -> None:
        self._heap_mb = memory_mb // 2

    def versions(self) -> dict[str, str]:
        """`deno`, `v8`, `typescript`, `platform`, and `guest`: a digest of the guest's code."""
        return dict(_versions())

    def spawner(self, project: Path | None) -> Spawner:
        """One that executes Deno."""
        return Spawner(project=project)

    def order(self, slot: Path, door: str) -> Order:
        """A guest with the import map in its slot, beside the bundle, where user code can't read it.

        What it may do with `door`, with its cache and with the C library it gives up before it loads user
        code (`confine.ts`).

        Raises:
            RuntimeFault: there is no Deno.
        """
        # A package.json further up, the project's, would decide whether the bundle's modules are CommonJS.
        (slot / "package.json").write_text('{"type": "module"}', encoding="utf-8")
        import_map = slot / "import_map.json"
        import_map.write_text(_import_map(), encoding="utf-8")
        template, cache = slot.parent / TEMPLATE, slot / "cache"
        if template.is_dir():
            shutil.copytree(template, cache, ignore=shutil.ignore_patterns("gen"))
            (cache / "gen").symlink_to(template / "gen")
        else:
            cache.mkdir()
        return Order(
            argv=self._command(import_map, door),
            environment=_environment(slot, cache),
            cwd=str(slot),
            read=[str(slot), str(GUEST), *([str(template)] if template.is_dir() else [])],
            execute=[_binary(), *_LOADERS],
            write=[str(cache)],
            file_size=LARGEST_CACHE_FILE,
        )

    def booted(self, slot: Path) -> None:
        """Keep the first guest's cache for those after it: what its own code compiled to. Then drop it.

        A guest reads the guest's code from a copy; what it compiles later is kept nowhere.
        """
        template, cache = slot.parent / TEMPLATE, slot / "cache"
        if not template.exists():
            half = template.with_name(f"{TEMPLATE}.{slot.name}")
            (half / "gen").mkdir(parents=True)
            if (cache / "gen").is_dir():
                shutil.copytree(cache / "gen", half / "gen", dirs_exist_ok=True)
            for path in cache.glob("*_cache_v*[0-9]"):
                with contextlib.suppress(sqlite3.Error):
                    _copy_database(path, half / path.name)
            with contextlib.suppress(OSError):
                half.rename(template)
            shutil.rmtree(half, ignore_errors=True)
        shutil.rmtree(cache, ignore_errors=True)

    def _command(self, import_map: Path, door: str) -> list[str]:
        heap = f"--max-old-space-size={self._heap_mb}," if self._heap_mb else ""
        library, filtering = _narrowing()
        offered = ",".join(str(GUEST / name) for name in _OFFERED)
        return [
            _binary(),
            "run",
            "--quiet",
            "--no-prompt",
            "--no-config",
            "--no-lock",
            "--no-remote",
            "--no-npm",
            "--no-check",
            "--node-modules-dir=none",
            f"--import-map={import_map}",
            # `bundle` is relative to the slot: Deno splits at commas, and a folder may have one.
            f"--allow-read=bundle,../../{LINK}/bundle,{offered},{door}",
            f"--allow-write={door}",
            f"--allow-net=unix:{door}",
            *([f"--allow-ffi={library}"] if library else []),
            f"--v8-flags={heap}--stack-trace-limit=40",
            str(GUEST / "main.ts"),
            door,
            library,
            filtering,
        ]


def _environment(slot: Path, cache: Path) -> dict[str, str]:
    """Time zone and locale are fixed: what a function prints must not depend on the machine."""
    return {
        "DENO_DIR": str(cache),
        "DENO_NO_PACKAGE_JSON": "1",
        "DENO_NO_UPDATE_CHECK": "1",
        "HOME": str(slot),
        "LANG": "en_US.UTF-8",
        "LC_ALL": "en_US.UTF-8",
        "NO_COLOR": "1",
        "TZ": "UTC",
    }


@functools.cache
def _narrowing() -> tuple[str, str]:
    """How a booted guest narrows itself: the C library's path, the filter as hex; empty without seccomp."""
    if not seccomp.supported():
        return "", ""
    for line in Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace").splitlines():
        path = line.partition("/")
        if Path(path[2]).name.startswith("libc.so."):
            return path[1] + path[2], seccomp.narrowing(platform.machine()).hex()
    return "", ""


def _copy_database(source: Path, target: Path) -> None:
    """A copy of a database that another process writes, whole in one file."""
    with (
        contextlib.closing(sqlite3.connect(source)) as read,
        contextlib.closing(sqlite3.connect(target)) as write,
    ):
        read.backup(write)


@functools.cache
def _binary() -> str:
    try:
        return str(find_deno_bin())
    except FileNotFoundError as error:
        raise RuntimeFault(
            "Deno, which runs TypeScript functions, is not installed.",
            "It comes with the Python package `deno`: pip install deno",
        ) from error


@functools.cache
def _versions() -> tuple[tuple[str, str], ...]:
    try:
        out = subprocess.run(
            [_binary(), "--version"], capture_output=True, text=True, timeout=30, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise RuntimeFault(f"Deno can't be run: {error}.") from error
    found = dict(line.split()[:2] for line in out.splitlines() if len(line.split()) >= 2)
    digest = hashlib.sha256()
    for path in sorted(GUEST.glob("*.ts")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return (
        *((name, found[name]) for name in ("deno", "v8", "typescript") if name in found),
        ("guest", digest.hexdigest()[:16]),
        ("platform", f"{platform.system()}-{platform.machine()}".lower()),
    )


@functools.cache
def _import_map() -> str:
    guest = GUEST.as_uri() + "/"
    imports = {name: guest + file for file, name in _OFFERED.items()}
    imports["crypto"] = imports["node:crypto"]
    own = {"node:crypto": "node:crypto"}
    for path in GUEST.glob("*.ts"):
        own[path.as_uri()] = path.as_uri()
        if path.name not in ("main.ts", *_OFFERED):
            imports[path.as_uri()] = f"flux-denied:guest/{path.name}"
    for name in NODE_DENIED.split():
        imports[f"node:{name}"] = imports[name] = f"flux-denied:{name}"
    for name in NODE_ALLOWED.split():
        imports[name] = f"node:{name}"
    return json.dumps({"imports": imports, "scopes": {guest: own}})
