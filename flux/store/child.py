"""Child processes of the keeper: postgres and initdb, under another account where need be; none outlives it.

Called by cluster.py. Plain fork and exec: the keeper has one thread, and must start quickly.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Mapping, Sequence

from flux.store.accounts import Account

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def spawn(
    command: Sequence[str],
    *,
    account: Account,
    environment: Mapping[str, str],
    output: int,
    on_parent_death: signal.Signals,
) -> int:
    """Start a program with nothing on its standard input.

    Args:
        command: the program's path and its arguments.
        account: whom it runs as.
        environment: all that it gets of one.
        output: descriptor that becomes its standard output and error.
        on_parent_death: the signal that the kernel sends it when this process ends in whatever way (Linux
            only).

    Returns:
        Its process id; the caller waits for it.
    """
    parent = os.getpid()
    child = os.fork()
    if child:
        return child
    try:
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        if account.other:
            account.enter()
        # After the change of account, which clears it.
        if _LIBC is not None:
            _LIBC.prctl(_PR_SET_PDEATHSIG, int(on_parent_death))
        if os.getppid() != parent:
            os._exit(1)
        os.umask(0o077)
        os.chdir("/")
        signal.set_wakeup_fd(-1)
        for ignored in (signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(ignored, signal.SIG_DFL)
        os.execve(command[0], list(command), dict(environment))
    except BaseException as error:
        os.write(2, f"{command[0]}: {error}\n".encode())
    finally:
        os._exit(127)
