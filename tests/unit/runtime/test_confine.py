"""The filter of system calls, run here by a small interpreter of the kernel's BPF, for both architectures."""

from __future__ import annotations

import errno
import struct

import pytest

from flux.app.doctor.machine import LOOKS
from flux.config import Config
from flux.runtime import spawner
from flux.runtime.confine import seccomp, syscalls

MACHINES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
PID = 4321
ALLOWED = "allowed"


def judge(program: bytes, arch: int, number: int, *arguments: int) -> str:
    """What the filter says to a call: `allowed`, or the name of an errno."""
    given = [argument & (1 << 64) - 1 for argument in (*arguments, *(0,) * 6)][:6]
    data = struct.pack("<IIQ6Q", number, arch, 0, *given)
    steps = [struct.unpack_from("HBBI", program, at) for at in range(0, len(program), 8)]
    at = accumulator = 0
    while True:
        code, true, false, value = steps[at]
        at += 1
        if code == 0x20:
            (accumulator,) = struct.unpack_from("<I", data, value)
        elif code == 0x54:
            accumulator &= value
        elif code == 0x06:
            return ALLOWED if value == 0x7FFF0000 else errno.errorcode.get(value & 0xFFFF, "done")
        else:
            met = {0x15: accumulator == value, 0x35: accumulator >= value, 0x45: bool(accumulator & value)}
            at += true if met[code] else false


@pytest.fixture(params=sorted(MACHINES), name="machine")
def _machine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def numbers(machine: str) -> dict[str, int]:
    lists = (syscalls.ALLOWED, syscalls.JUDGED, syscalls.SCRATCH, syscalls.REFUSED)
    return {name: number for names in lists for name, number in syscalls.numbers(names, machine).items()}


def test_no_call_stands_in_two_lists(machine: str) -> None:
    found = numbers(machine)
    lists = (syscalls.ALLOWED, syscalls.JUDGED, syscalls.SCRATCH, syscalls.REFUSED)
    assert len(found) == sum(len(syscalls.numbers(names, machine)) for names in lists)
    assert len(set(found.values())) == len(found)


def test_each_call_is_answered_as_its_list_says(machine: str) -> None:
    program = seccomp.program(PID, machine=machine)
    arch = MACHINES[machine]
    for names, answer in (
        (syscalls.ALLOWED, ALLOWED),
        (syscalls.REFUSED, "EPERM"),
        (syscalls.SCRATCH, "EPERM"),
    ):
        said = {
            name: judge(program, arch, number) for name, number in syscalls.numbers(names, machine).items()
        }
        assert set(said.values()) == {answer}, said
    known = set(numbers(machine).values())
    assert {judge(program, arch, number) for number in range(2000) if number not in known} == {"ENOSYS"}


def test_another_architecture_and_x32_are_refused_whole(machine: str) -> None:
    found = numbers(machine)
    for program in (
        seccomp.program(PID, machine=machine),
        seccomp.program(PID, machine=machine, launching=True),
        seccomp.narrowing(machine),
    ):
        assert judge(program, 0x40000003, found["read"]) == "EPERM"
        assert judge(program, MACHINES[machine], 0x40000000 | found["read"]) == "ENOSYS"
        assert judge(program, MACHINES[machine], 0x40000000 | found["connect"]) == "ENOSYS"


@pytest.mark.parametrize(
    ("name", "arguments", "answer"),
    [
        ("clone", (0x3D0F00,), ALLOWED),  # as a thread is made
        ("clone", (17,), "EPERM"),
        ("clone", (0x4111,), "EPERM"),  # as vfork is
        ("clone", (0x10000 | 0x10000000,), "EPERM"),
        ("prctl", (15,), ALLOWED),
        ("prctl", (1,), "EPERM"),
        ("prctl", (22,), "EPERM"),
        ("prlimit64", (0, 7, 0, 1), ALLOWED),
        ("prlimit64", (0, 7, 1), "EPERM"),
        ("prlimit64", (0, 7, 1 << 32), "EPERM"),
        ("tgkill", (PID,), ALLOWED),
        ("tgkill", (PID + 1,), "EPERM"),
        ("sendto", (3, 1, 1, 0, 0), ALLOWED),
        ("sendto", (3, 1, 1, 0, 1 << 40), "EPERM"),
        ("socketpair", (1, 1 | 0o2000000), ALLOWED),
        ("socketpair", (1, 2), "EPERM"),
        ("socket", (1, 1), "EPERM"),
        ("connect", (3,), "EPERM"),
        ("execve", (), "EPERM"),
        ("seccomp", (1,), "EPERM"),
        ("ioctl", (3, 0x5421), ALLOWED),
        ("ioctl", (3, 0x5412), "ENOTTY"),
        ("fcntl", (3, 4), ALLOWED),
        ("fcntl", (3, 8), "EPERM"),
        ("fcntl", (3, 10), "EPERM"),
        ("openat", (-100, 1, 0o2000000), ALLOWED),
        ("openat", (-100, 1, 0o101), "EPERM"),
        ("openat", (-100, 1, 0o20000000), "EPERM"),
    ],
)
def test_calls_are_judged_by_their_arguments(
    machine: str, name: str, arguments: tuple[int, ...], answer: str
) -> None:
    program = seccomp.program(PID, machine=machine)
    assert judge(program, MACHINES[machine], numbers(machine)[name], *arguments) == answer


def test_what_is_launched_gives_back_all_that_launching_took(machine: str) -> None:
    found, arch = numbers(machine), MACHINES[machine]
    launching = seccomp.program(PID, machine=machine, launching=True)
    settled = seccomp.program(PID, machine=machine)
    narrowing = seccomp.narrowing(machine)
    given = 0
    for sleep in ("clock_nanosleep", "nanosleep"):
        assert judge(narrowing, arch, found.pop(sleep)) == "done"
    for name, number in found.items():
        for arguments in ((0, 0, 0), (1, 1, 1), (22, 0x101, 0x241), (15, 0, 0)):
            before = judge(launching, arch, number, *arguments)
            after = before if before != ALLOWED else judge(narrowing, arch, number, *arguments)
            assert after == judge(settled, arch, number, *arguments), (name, arguments)
            given += before != after
    assert given > 10


async def test_a_kernel_that_confines_nothing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flux.runtime.confine.landlock.version", lambda: 0)
    monkeypatch.setattr("flux.runtime.confine.seccomp.supported", lambda: False)
    assert spawner.missing() == ["Landlock", "seccomp"]
    check = await LOOKS["confinement"](Config.__new__(Config))
    assert check.level == "warning"
    assert check.detail.startswith("What keeps functions in is a guard, not a sandbox")
    assert check.hint is not None
