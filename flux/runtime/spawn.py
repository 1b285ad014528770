"""Starting a guest's operating-system process so that it can't outlive the server. Called by GuestProcess.

The child's stdin and stdout are one end of a socketpair; stderr is a pipe. It leads a process group of its
own and, on Linux, is killed by the kernel when the thread that started it ends (PR_SET_PDEATHSIG follows the
thread: start guests from the thread that runs the event loop, which lives as long as the server). Elsewhere
it ends with its stdin.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from flux.errors import RuntimeFault

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def spawn(
    command: Sequence[str], *, cwd: Path, environment: Mapping[str, str]
) -> tuple[subprocess.Popen[bytes], socket.socket]:
    """Start `command`; the caller owns the process, its stderr pipe and the returned end of the socketpair.

    Raises:
        RuntimeFault: the program can't be started.
    """
    ours, theirs = socket.socketpair()
    with theirs:
        try:
            process = subprocess.Popen(
                list(command),
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                stderr=subprocess.PIPE,
                cwd=cwd,
                env=dict(environment),
                process_group=0,
                preexec_fn=_die_with(os.getpid()),  # noqa: PLW1509 - it only makes two system calls
            )
        except OSError as error:
            ours.close()
            raise RuntimeFault(f"The guest can't be started: {command[0]}: {error.strerror}.") from error
    ours.setblocking(False)
    return process, ours


def _die_with(parent: int) -> Callable[[], None] | None:
    """What the child runs between fork and exec, or None where the kernel offers nothing."""
    if _libc is None:
        return None
    prctl = _libc.prctl

    def child() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)

    return child


def kill(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL the process and its group; nothing happens if it is gone already."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)


def bound_memory(process: subprocess.Popen[bytes], more: int) -> None:
    """Let the process allocate `more` bytes beyond what it has now, and no further: the kernel refuses it.

    Counted is private writable memory, touched or not (RLIMIT_DATA, see getrlimit(2)): heaps, buffers outside
    them, stacks. What a runtime maps when it boots differs by version, so the limit is set on the running
    process. Linux only; elsewhere nothing happens.

    Raises:
        RuntimeFault: the limit can't be set.
    """
    if sys.platform != "linux":
        return
    try:
        status = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii", errors="replace")
        held = int(status.partition("VmData:")[2].split()[0]) * 1024
        resource.prlimit(process.pid, resource.RLIMIT_DATA, (held + more, held + more))
    except (OSError, ValueError, IndexError) as error:
        raise RuntimeFault(
            f"The memory of a guest process can't be limited: {error}.",
            "`memory_mb = 0` in flux.toml runs functions without a limit.",
        ) from error


async def reap(process: subprocess.Popen[bytes]) -> int:
    """Wait for the process to end; its code (negative: the signal). No thread where the kernel has pidfds."""
    loop = asyncio.get_running_loop()
    if not hasattr(os, "pidfd_open"):
        return await loop.run_in_executor(None, process.wait)
    try:
        pidfd = os.pidfd_open(process.pid)
    except OSError:
        return await loop.run_in_executor(None, process.wait)
    ended = asyncio.Event()
    try:
        loop.add_reader(pidfd, ended.set)
        await ended.wait()
    finally:
        loop.remove_reader(pidfd)
        os.close(pidfd)
    return process.wait()
