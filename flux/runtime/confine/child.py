"""What a fresh child of the spawner makes of itself before it is a guest. Called between fork and the guest.

The order matters: files are looked up while it still may, the signal for its parent's death is set after the
change of account (which clears it), and the filter of system calls comes last.
"""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import signal
import sys
from collections.abc import Mapping
from typing import Any

from flux.runtime.confine import account, landlock, seccomp

_PR_SET_PDEATHSIG = 1
_OPEN_FILES = 1024
_SYSTEM = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/etc/ld.so.cache")
"""Where shared libraries lie: an interpreter's extension modules load them."""
_HARMLESS = ("/dev/null", "/dev/urandom", "/usr/share/zoneinfo")


def settle(order: Mapping[str, Any], parent: int, descriptors: list[int], keep: int) -> None:
    """Take on the descriptors, the limits, the account and the confinement that `order` names.

    Args:
        order: see `flux.runtime.spawner.Order`.
        parent: the spawner's process id.
        descriptors: what becomes stdin and stdout, and what becomes stderr.
        keep: a descriptor that stays open; all others are closed.

    Raises:
        account.Unreachable: the account can't read what the guest needs.
        OSError: the kernel refuses.
    """
    protocol, errors = descriptors
    os.setsid()
    for number, taken in enumerate((protocol, protocol, errors)):
        os.dup2(taken, number)
    os.closerange(3, keep)
    os.closerange(keep + 1, 65536)
    os.umask(0o077)
    os.chdir(order["cwd"])
    _limit(order["file_size"])
    confined = landlock.version() > 0
    rules = landlock.Ruleset() if confined else None
    if rules is not None:
        # The rule holds for the file as it is known now: an open descriptor keeps it so, over an exec too.
        own = f"/proc/{os.getpid()}/maps"
        os.set_inheritable(os.open(own, os.O_PATH), True)
        rules.allow((*_SYSTEM, *_HARMLESS, own, *order["read"]))
        rules.allow(order["list"], read=False)
        rules.allow(order["execute"], execute=True)
        rules.allow(order["write"], write=True)
    if order["account"] is not None:
        uid, gid = order["account"]
        for path in order["write"]:
            _give(path, uid, gid)
        account.enter(uid, gid, (*order["read"], *order["execute"]), confined=confined)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)
    if rules is not None:
        rules.enter()
    if seccomp.supported():
        launching = bool(order["argv"])
        seccomp.enter(seccomp.program(os.getpid(), machine=platform.machine(), launching=launching))


def _give(folder: str, uid: int, gid: int) -> None:
    """Make the account the owner of a folder and all in it; links are not followed."""
    os.chown(folder, uid, gid, follow_symlinks=False)
    for path, folders, files in os.walk(folder):
        for name in (*folders, *files):
            os.chown(os.path.join(path, name), uid, gid, follow_symlinks=False)


def _limit(file_size: int) -> None:
    """Limits that hold for the process for good; its memory's is set once it has booted."""
    # Whoever writes more gets an error, not the signal.
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    wanted = {"RLIMIT_CORE": 0, "RLIMIT_FSIZE": file_size, "RLIMIT_NOFILE": _OPEN_FILES, "RLIMIT_MSGQUEUE": 0}
    for name, limit in wanted.items():
        number = getattr(resource, name, None)
        if number is not None:
            most = resource.getrlimit(number)[1]
            least = limit if most == resource.RLIM_INFINITY else min(limit, most)
            resource.setrlimit(number, (least, least))
