"""CPU seconds by process: who of a server, its sidecar, its guests and its Postgres spent them."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

TICK = os.sysconf("SC_CLK_TCK")


def spent(roots: Mapping[str, list[int]]) -> dict[str, float]:
    """CPU seconds so far of process trees, by role.

    Args:
        roots: role -> ids of the processes at its trees' tops. Children of a `server` that are a sidecar or a
            guest are told apart by their command line.

    Returns:
        Seconds by role, of what has ended since among them. Roles that have no process are left out.
    """
    times, children = _table()
    found: dict[str, float] = defaultdict(float)
    for role, pids in roots.items():
        todo = [(role, pid) for pid in pids]
        while todo:
            mine, pid = todo.pop()
            if pid not in times:
                continue
            found[mine] += times[pid]
            todo += [(_role(child, mine), child) for child in children[pid]]
    return dict(found)


def _table() -> tuple[dict[int, float], dict[int, list[int]]]:
    """Seconds by process (with those of children it has waited for), and children by process."""
    times: dict[int, float] = {}
    children: dict[int, list[int]] = defaultdict(list)
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            fields = Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        times[int(name)] = sum(int(field) for field in fields[11:15]) / TICK
        children[int(fields[1])].append(int(name))
    return times, children


def _role(pid: int, parent: str) -> str:
    if parent != "server":
        return parent
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return parent
    if "sidecar" in command or "flux.app" in command:
        return "sidecar"
    return "guests" if "/guest/" in command or "deno" in command else parent
