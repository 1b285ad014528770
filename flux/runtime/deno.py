"""How a Deno guest is started: its permissions, its import map, its environment. `SubprocessEngine` runs
TypeScript with it.

The guest may read its own bundle and the module `@flux/functions`, and nothing else: no network, environment,
subprocesses, foreign functions or writing. Modules that evade recording (node:fs, node:process...) are mapped
away; node:crypto is the guest's own, whose random numbers are the invocation's.
"""

from __future__ import annotations

import functools
import hashlib
import json
import platform
import subprocess
from pathlib import Path

from deno import find_deno_bin

from flux.errors import RuntimeFault

GUEST = Path(__file__).resolve().parent / "guest" / "deno"
MEMORY_MB = 1024
"""MiB that one process may allocate; V8's heap may be half of it, the rest is for what lies outside."""

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

    def command(self, slot: Path, door: str = "") -> list[str]:
        """The command line; writes the guest's import map into the slot, beside the bundle, where user code
        can't read it. The guest gives up what it may do with `door` before it loads user code.

        Raises:
            RuntimeFault: there is no Deno.
        """
        # `bundle` is relative to the slot: Deno splits --allow-read at commas, and a folder may have one.
        import_map = slot / "import_map.json"
        heap = f"--max-old-space-size={self._heap_mb}," if self._heap_mb else ""
        import_map.write_text(_import_map(), encoding="utf-8")
        # A package.json further up, the project's, would decide whether the bundle's modules are CommonJS.
        (slot / "package.json").write_text('{"type": "module"}', encoding="utf-8")
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
            f"--allow-read=bundle,{','.join(str(GUEST / name) for name in _OFFERED)},{door}",
            f"--allow-write={door}",
            f"--allow-net=unix:{door}",
            f"--v8-flags={heap}--stack-trace-limit=40",
            str(GUEST / "main.ts"),
            door,
        ]

    def environment(self, slot: Path) -> dict[str, str]:
        """Time zone and locale are fixed: what a function prints must not depend on the machine."""
        return {
            "DENO_DIR": str(slot.parent / "cache"),
            "DENO_NO_PACKAGE_JSON": "1",
            "DENO_NO_UPDATE_CHECK": "1",
            "HOME": str(slot),
            "LANG": "en_US.UTF-8",
            "LC_ALL": "en_US.UTF-8",
            "NO_COLOR": "1",
            "TZ": "UTC",
        }


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
