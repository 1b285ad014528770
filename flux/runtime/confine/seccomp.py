"""Refusing a process the system calls that reach beyond it, through seccomp. Linux on x86-64 and aarch64.

A filter is a program of the kernel's classic BPF over `struct seccomp_data` (`linux/seccomp.h`): number,
architecture, instruction pointer, six arguments. It looks at the architecture first: the numbers of another
one, and those of x32, are refused whole. Filters add up and can't be taken away, by exec either.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import sys
from collections.abc import Iterable

from flux.runtime.confine import syscalls

_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_X32 = 0x40000000

_LOAD, _JUMP_IF, _JUMP_FROM, _JUMP_ANY, _AND, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x54, 0x06
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16
_ALLOW = 0x7FFF0000
_ERRNO = 0x00050000
_NO = _ERRNO | errno.EPERM
_UNKNOWN = _ERRNO | errno.ENOSYS

_PR_SET_NO_NEW_PRIVS, _PR_GET_SECCOMP, _PR_SET_SECCOMP = 38, 21, 22
_SECCOMP_MODE_FILTER = 2

_CLONE_THREAD = 0x00010000
_CLONE_NEW = 0x7E020000
"""Any of clone's flags for a new namespace."""
_NAMES = (15, 16)
"""prctl: PR_SET_NAME, PR_GET_NAME."""
_SET_VMA = 0x53564D41
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | 0x400000
"""The last is what makes O_TMPFILE of O_DIRECTORY."""
_IOCTLS = (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)
"""TCGETS, TIOCGWINSZ, FIONREAD, FIONBIO, FIONCLEX, FIOCLEX."""
_FCNTLS = (0, 1, 2, 3, 4, 5, 6, 7, 36, 37, 38, 1030, 1031, 1032, 1034)
"""Descriptors, flags, locks, sizes and seals. Not F_SETOWN and F_SETSIG, which send signals to others."""
_SLEEPS = ("clock_nanosleep", "nanosleep")
_LAUNCHING = ("prctl", "open", "openat", "socket", "connect", "execve", "seccomp")
"""Judged calls of which more is allowed before `narrowing`."""

Instruction = tuple[int, int, int, int]


def supported() -> bool:
    """Whether this kernel takes filters and the machine's architecture is known here."""
    if sys.platform != "linux" or platform.machine() not in _ARCHITECTURES:
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    # A filter that lies at no address: a kernel that takes filters faults on it, another knows no such mode.
    libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, None, 0, 0)
    return ctypes.get_errno() == errno.EFAULT


def program(pid: int, *, machine: str, launching: bool = False) -> bytes:
    """The filter of the process `pid`.

    Args:
        machine: `x86_64` or `aarch64`.
        launching: it has yet to `exec` what it is to run. That connects to a Unix socket and fills a cache
            before it takes on `narrowing` too.
    """
    judged = _judged(pid, launching=launching)
    body: list[Instruction] = []
    for name, number in syscalls.numbers(syscalls.JUDGED, machine).items():
        body += [(_JUMP_IF, 0, len(judged[name]), number), *judged[name]]
    scratch = syscalls.numbers(syscalls.SCRATCH, machine)
    return _packed(machine, [*body, *_ranges(machine, scratch.values() if launching else ())])


def narrowing(machine: str) -> bytes:
    """The filter that takes back what `launching` allowed.

    Deno tries six times to write what a module compiled to, and sleeps between: 150 ms, all in vain, before
    the first answer of new code. Nothing else in it sleeps, its timers are epoll's. So a sleep takes no time.
    """
    judged = _judged(0, launching=False)
    scratch = syscalls.numbers(syscalls.SCRATCH, machine)
    judged |= {name: [(_RETURN, 0, 0, _NO)] for name in scratch}
    sleeps = {name: syscalls.numbers(syscalls.ALLOWED, machine)[name] for name in _SLEEPS}
    judged |= {name: [(_RETURN, 0, 0, _ERRNO)] for name in sleeps}
    numbers = syscalls.numbers(syscalls.JUDGED + syscalls.SCRATCH, machine) | sleeps
    body: list[Instruction] = []
    for name in (*_LAUNCHING, *scratch, *sleeps):
        if name in numbers:
            body += [(_JUMP_IF, 0, len(judged[name]), numbers[name]), *judged[name]]
    return _packed(machine, [*body, (_RETURN, 0, 0, _ALLOW)])


def _packed(machine: str, body: list[Instruction]) -> bytes:
    """The filter whose `body` judges calls of this architecture; it begins with the call's number loaded."""
    head: list[Instruction] = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_JUMP_IF, 1, 0, _ARCHITECTURES[machine]),
        (_RETURN, 0, 0, _NO),
        (_LOAD, 0, 0, _NUMBER),
        (_JUMP_FROM, 0, 1, _X32),
        (_RETURN, 0, 0, _UNKNOWN),
    ]
    return b"".join(struct.pack("HBBI", *step) for step in (*head, *body))


def enter(program: bytes) -> None:
    """Put the calling thread, and what it will start, under `program` for good.

    Raises:
        OSError: the kernel refuses.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    code = ctypes.create_string_buffer(program, len(program))
    filtered = struct.pack("HxxxxxxQ", len(program) // 8, ctypes.addressof(code))
    for call in (
        (_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
        (_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.c_char_p(filtered), 0, 0),
    ):
        if libc.prctl(*call) != 0:
            number = ctypes.get_errno()
            raise OSError(number, f"seccomp: {os.strerror(number)}")


def _ranges(machine: str, more: Iterable[int]) -> list[Instruction]:
    """What the calls that are not judged are answered, in ranges of equal answers: the kernel runs the filter
    for each number once when it is set, so it is short. `more` are allowed too."""
    answers = dict.fromkeys(syscalls.numbers(syscalls.ALLOWED, machine).values(), _ALLOW)
    refused = syscalls.numbers(syscalls.REFUSED + syscalls.SCRATCH, machine)
    answers |= dict.fromkeys(refused.values(), _NO)
    answers |= dict.fromkeys(more, _ALLOW)
    steps: list[Instruction] = []
    for number in range(max(answers) + 1):
        answer = answers.get(number, _UNKNOWN)
        if answer != answers.get(number + 1, _UNKNOWN):
            steps += [(_JUMP_FROM, 1, 0, number + 1), (_RETURN, 0, 0, answer)]
    return [*steps, (_RETURN, 0, 0, _UNKNOWN)]


def _judged(pid: int, *, launching: bool) -> dict[str, list[Instruction]]:
    """For each call that goes by its arguments, what judges it."""
    always: list[Instruction] = [(_RETURN, 0, 0, _ALLOW)]
    never: list[Instruction] = [(_RETURN, 0, 0, _NO)]
    stream = [*_equal(0, 1), *_masked(1, 0xF, 1)]
    return {
        "clone": [
            *_argument(0),
            (_JUMP_ANY, 0, 1, _CLONE_NEW),
            (_RETURN, 0, 0, _NO),
            (_JUMP_ANY, 1, 0, _CLONE_THREAD),
            (_RETURN, 0, 0, _NO),
            (_RETURN, 0, 0, _ALLOW),
        ],
        "prctl": _one_of(0, (*_NAMES, _SET_VMA, *((_PR_SET_SECCOMP,) if launching else ())), _NO),
        "prlimit64": [*_null(2), *always],
        "tgkill": [*_equal(0, pid), *always],
        "sendto": [*_null(4), *always],
        "socketpair": [*stream, *always],
        "ioctl": _one_of(1, _IOCTLS, _ERRNO | errno.ENOTTY),
        "fcntl": _one_of(1, _FCNTLS, _NO),
        "open": always if launching else _unless(1, _WRITING),
        "openat": always if launching else _unless(2, _WRITING),
        "socket": [*stream, *always] if launching else never,
        "connect": always if launching else never,
        "execve": always if launching else never,
        "seccomp": always if launching else never,
    }


def _argument(index: int, *, high: bool = False) -> list[Instruction]:
    """Load the low (or high) half of an argument; both architectures are little-endian."""
    return [(_LOAD, 0, 0, _ARGUMENTS + 8 * index + (4 if high else 0))]


def _equal(index: int, value: int) -> list[Instruction]:
    """Refuse unless the argument is `value`, then go on."""
    return [*_argument(index), (_JUMP_IF, 1, 0, value), (_RETURN, 0, 0, _NO)]


def _masked(index: int, mask: int, value: int) -> list[Instruction]:
    """Refuse unless the argument's bits under `mask` are `value`, then go on."""
    return [*_argument(index), (_AND, 0, 0, mask), (_JUMP_IF, 1, 0, value), (_RETURN, 0, 0, _NO)]


def _null(index: int) -> list[Instruction]:
    """Refuse unless the argument is a null pointer, then go on."""
    high = [*_argument(index, high=True), (_JUMP_IF, 1, 0, 0), (_RETURN, 0, 0, _NO)]
    return [*_equal(index, 0), *high]


def _one_of(index: int, values: tuple[int, ...], otherwise: int) -> list[Instruction]:
    """Allow the argument's `values`; answer others with `otherwise`."""
    steps: list[Instruction] = [*_argument(index)]
    for value in values:
        steps += [(_JUMP_IF, 0, 1, value), (_RETURN, 0, 0, _ALLOW)]
    return [*steps, (_RETURN, 0, 0, otherwise)]


def _unless(index: int, flags: int) -> list[Instruction]:
    """Refuse where the argument has any of `flags`, else allow."""
    steps: list[Instruction] = [(_JUMP_ANY, 0, 1, flags), (_RETURN, 0, 0, _NO), (_RETURN, 0, 0, _ALLOW)]
    return [*_argument(index), *steps]
