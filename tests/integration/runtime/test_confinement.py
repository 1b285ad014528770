"""What the kernel refuses a guest, with the language's own guards taken away; and what still works.

Each attack was seen to succeed, or is of the kind of one that was.
"""

from __future__ import annotations

import asyncio
import os
import platform
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import orjson
import pytest

from flux.errors import FunctionError
from flux.runtime import spawner as spawning
from flux.runtime.confine import landlock
from flux.runtime.deno import GUEST as DENO_GUEST
from flux.runtime.deno import DenoLauncher
from flux.runtime.pool import SubprocessEngine
from flux.runtime.python import PythonLauncher
from flux.runtime.spawner import Order, Spawner
from tests.integration.runtime import local_guest, python_guest
from tests.integration.runtime.local_guest import engine, run

UNGUARDED = Path(__file__).with_name("unguarded")
pytestmark = pytest.mark.skipif(bool(spawning.missing()), reason="this kernel has no Landlock or no seccomp")


class Unguarded(PythonLauncher):
    """Python guests without audit hooks."""

    def spawner(self, project: Path | None) -> Spawner:
        return Spawner(loaded=[str(UNGUARDED), *map(str, self._packages)], project=project)


ATTACKS = {
    "a signal by pidfd": "signal.pidfd_send_signal(os.pidfd_open(server), 9)",
    "a signal": "os.kill(server, 9)",
    "a signal to all": "os.kill(-1, 9)",
    "a signal to the server's group": "os.killpg(os.getpgid(server), 9)",
    "a signal to a thread of the server": "syscall(tgkill, server, server, 9)",
    "a shell": "subprocess.run(['/bin/sh', '-c', 'true'])",
    "posix_spawn": "os.posix_spawn('/bin/sh', ['sh'], {})",
    "fork": "os.fork()",
    "exec": "os.execv(sys.executable, ['python'])",
    "a fork by clone": "syscall(clone, 17, 0, 0, 0, 0)",
    "a fork by clone3": "syscall(435, 0, 0)",
    "a TCP socket": "socket.socket()",
    "a Unix socket": "socket.socket(socket.AF_UNIX)",
    "datagrams to other sockets": "socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)",
    "the master key": "open(f'{project}/.flux/master.key')",
    "the project's .env": "open(f'{project}/.env')",
    "a link out of the bundle": "open('bundle/hello/link')",
    "a file by way of the bundle": "open('bundle/../../../../../.env')",
    "the machine's accounts": "open('/etc/passwd')",
    "the folder of all": "os.listdir('/')",
    "the server's environment": "open(f'/proc/{server}/environ')",
    "the server's memory": "open(f'/proc/{server}/mem', 'rb')",
    "its own environment": "open('/proc/self/environ')",
    "a database by ATTACH": "sqlite3.connect(':memory:').execute(f\"attach '{project}/.flux/evil.db' as e\")",
    "a new file": "open('/tmp/flux-attack', 'w')",
    "a file without a name": "os.open('/tmp', os.O_RDWR | os.O_TMPFILE)",
    "a file of memory": "os.memfd_create('x')",
    "a change of its code": "open('bundle/hello/main.py', 'a')",
    "a mode": "os.chmod('bundle/hello/main.py', 0o777)",
    "a time": "os.utime('bundle/hello/main.py')",
    "an attribute": "os.setxattr('bundle/hello/main.py', 'user.x', b'')",
    "a removal": "os.remove('bundle/hello/main.py')",
    "a fifo": "os.mkfifo('/tmp/flux-attack')",
    "a folder": "os.mkdir('/tmp/flux-attack')",
    "a link": "os.symlink('/etc/passwd', '/tmp/flux-attack')",
    "a priority": "os.setpriority(os.PRIO_PROCESS, server, 10)",
    "a processor": "os.sched_setaffinity(0, {0})",
    "a limit": "resource.setrlimit(resource.RLIMIT_DATA, (-1, -1))",
    "a limit of the server": "resource.prlimit(server, resource.RLIMIT_NOFILE, (1, 1))",
    "a lock": "fcntl.flock(os.open('bundle/hello/main.py', 0), fcntl.LOCK_EX)",
    "signals by a descriptor's owner": "fcntl.fcntl(0, fcntl.F_SETOWN, server)",
    "another session": "os.setsid()",
    "another account": "os.setuid(0)",
    "outliving the server": "prctl(1, 0)",
    "being traced": "prctl(0x59616d61, server)",
    "ptrace": "syscall(ptrace, 16, server, 0, 0)",
    "process_vm_readv": "syscall(process_vm_readv, server, 0, 0, 0, 0, 0)",
    "pidfd_getfd": "syscall(438, 0, 0, 0)",
    "io_uring": "syscall(425, 1, 0)",
    "bpf": "syscall(bpf, 0, 0, 0)",
    "userfaultfd": "syscall(userfaultfd, 1)",
    "keyctl": "syscall(keyctl, 0, -3, 0)",
    "unshare": "syscall(unshare, 0x10000000)",
    "mount": "syscall(mount, 0, 0, 0, 0, 0)",
    "a file by its handle": "syscall(open_by_handle_at, -1, 0, 0)",
    "watching files": "syscall(inotify, 0)",
    "shared memory": "syscall(shmget, 0, 4096, 0o1600)",
    "a call of a later kernel": "syscall(5000)",
}
"""What is tried, each an expression that must raise."""

CODE = """
import ctypes, fcntl, os, resource, signal, socket, sqlite3, subprocess, sys

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long

def checked(result):
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

def syscall(*arguments):
    checked(libc.syscall(*map(ctypes.c_long, arguments)))

def prctl(*arguments):
    checked(libc.prctl(*map(ctypes.c_long, arguments), 0, 0, 0))

def handler(input, ctx):
    known = globals() | input["names"]
    said = {}
    for name, attack in input["attacks"].items():
        try:
            eval(attack, known)
        except (OSError, sqlite3.Error, ValueError) as error:
            said[name] = f"{type(error).__name__}: {error}"
        else:
            said[name] = None
    return said
"""
_NUMBERS = {
    "x86_64": {
        "tgkill": 234,
        "clone": 56,
        "ptrace": 101,
        "process_vm_readv": 310,
        "bpf": 321,
        "userfaultfd": 323,
        "keyctl": 250,
        "unshare": 272,
        "mount": 165,
        "open_by_handle_at": 304,
        "inotify": 294,
        "shmget": 29,
        "x32_getpid": 0x40000000 + 39,
    },
    "aarch64": {
        "tgkill": 131,
        "clone": 220,
        "ptrace": 117,
        "process_vm_readv": 270,
        "bpf": 280,
        "userfaultfd": 282,
        "keyctl": 219,
        "unshare": 97,
        "mount": 40,
        "open_by_handle_at": 265,
        "inotify": 26,
        "shmget": 194,
    },
}


@pytest.fixture(name="project")
def _project(tmp_path: Path) -> Path:
    (tmp_path / ".flux").mkdir()
    (tmp_path / ".flux" / "master.key").write_text("key")
    (tmp_path / ".env").write_text("SECRET=x")
    for path in (tmp_path / ".flux" / "master.key", tmp_path / ".env"):
        path.chmod(0o644)
    return tmp_path


@pytest.fixture(name="unguarded")
async def _unguarded(project: Path) -> AsyncIterator[SubprocessEngine]:
    async with engine(project / ".flux", Unguarded(), project=project) as made:
        yield made


async def test_the_kernel_refuses_a_python_function_what_reaches_beyond_it(
    unguarded: SubprocessEngine, project: Path
) -> None:
    guest = await unguarded.load(python_guest.deployment({"hello/main.py": CODE}))
    for bundle in (project / ".flux" / "slots").rglob("bundle/hello"):
        (bundle / "link").symlink_to(project / ".env")
    attacks = dict(ATTACKS)
    if platform.machine() == "x86_64":
        attacks["a call by x32's number"] = "syscall(x32_getpid)"
    names = {"server": os.getpid(), "project": str(project), **_NUMBERS[platform.machine()]}
    said = await run(guest, {"attacks": attacks, "names": names}, timeout=30)
    assert {name: error for name, error in said.items() if error is None} == {}
    plain = {name: error for name, error in said.items() if not error.startswith("PermissionError: ")}
    assert plain.keys() <= {"a fork by clone3", "a database by ATTACH", "a call of a later kernel"} | {
        "io_uring",
        "a call by x32's number",
        "a limit",
        "a limit of the server",
    }, plain
    assert sorted(path.name for path in (project / ".flux").iterdir()) == ["master.key", "slots"]
    assert await run(guest, {"attacks": {}, "names": {}}) == {}


async def test_what_a_python_function_may_do_works(unguarded: SubprocessEngine) -> None:
    code = """
        import asyncio, os, socket, threading, zoneinfo, decimal, ssl, sqlite3, httpx
        from datetime import datetime

        async def handler(input, ctx):
            said = []
            thread = threading.Thread(target=lambda: said.append("thread"))
            thread.start()
            thread.join()
            said.append(await asyncio.to_thread(lambda: "to_thread"))
            one, other = socket.socketpair()
            one.send(b"pair")
            said.append(other.recv(9).decode())
            said.append(str(datetime(2026, 7, 1, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin")).utcoffset()))
            said.append(str(sqlite3.connect(":memory:").execute("select 1").fetchone()[0]))
            async with httpx.AsyncClient() as client:
                said.append((await client.get("http://x/")).text)
            said.append(await ctx.db.fetchval("select 1"))
            return said
    """
    host = python_guest.ScriptedHost(
        {
            "fetch": {
                "status": 200,
                "status_text": "OK",
                "url": "http://x/",
                "headers": [],
                "body": "fetched",
            },
            "db.sql": {"rows": [{"n": 7}], "count": 1, "types": {}},
        }
    )
    guest = await unguarded.load(python_guest.deployment({"hello/main.py": code}))
    reply = await guest.invoke(python_guest.invocation(), host)
    assert orjson.loads(reply.body) == ["thread", "to_thread", "pair", "2:00:00", "1", "fetched", 7]


@pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary account has no other to become")
async def test_guests_of_root_are_not_root(unguarded: SubprocessEngine, tmp_path: Path) -> None:
    code = "import os\ndef handler(input, ctx): return [*os.getresuid(), *os.getresgid(), os.getgroups()]"
    guest = await unguarded.load(python_guest.deployment({"hello/main.py": code}))
    *numbers, groups = await run(guest)
    assert 0 not in numbers
    assert groups == []
    async with engine(tmp_path / "deno") as deno:
        loaded = await deno.load(local_guest.deployment("export default () => 1;"))
        status = Path(f"/proc/{loaded.processes[0].pid}/status").read_text()
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert "0" not in fields["Uid"].split()
    assert "0" not in fields["Gid"].split()
    assert int(fields["CapEff"], 16) in (0, 1 << 1, 1 << 2)
    assert fields["NoNewPrivs"] == "1"
    assert fields["Seccomp"] == "2"


@pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary account can't give a folder away")
async def test_guests_of_root_run_as_the_owner_of_the_project(tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    os.chown(project, 12_345, 12_346)
    async with engine(project, Unguarded(), project=project) as made:
        code = "import os\ndef handler(input, ctx): return [os.getuid(), os.getgid()]"
        guest = await made.load(python_guest.deployment({"hello/main.py": code}))
        assert await run(guest) == [12_345, 12_346]


class Permitted(DenoLauncher):
    """Deno guests with all of Deno's permissions, that attack as they boot."""

    def order(self, slot: Path, door: str) -> Order:
        order = super().order(slot, door)
        given = [part for part in order.argv if not part.startswith(("--allow-", "--import-map="))]
        main = given.index(str(DENO_GUEST / "main.ts"))
        given[main : main + 1] = ["--allow-all", str(UNGUARDED / "attack.ts")]
        argv = [*given, DENO_GUEST.as_uri(), str(os.getpid())]
        return msgspec.structs.replace(order, argv=argv, read=[*order.read, str(UNGUARDED)])


async def test_the_kernel_refuses_a_deno_process_what_deno_would_allow(tmp_path: Path) -> None:
    lines: list[str] = []
    async with engine(
        tmp_path, Permitted(), on_line=lambda guest, function, line: lines.append(line)
    ) as deno:
        await deno.warm()
        assert deno._spare is not None
        process, _ = await deno._spare
        assert process.versions == {"reached": "", "tried": 18}, lines


async def test_imported_data_fills_no_disk(tmp_path: Path) -> None:
    source = """
    export default async ({ input }: any) => {
      let loaded = 0;
      for (let n = 0; n < input; n++) {
        const code = `export const n: number = ${n}; // ${"x".repeat(200_000)}`;
        const blob = new Blob([code], { type: "text/typescript" });
        for (const url of ["data:text/typescript," + code, URL.createObjectURL(blob)]) {
          try { await import(url); loaded++; } catch { /* refused */ }
        }
      }
      return loaded;
    };"""
    async with engine(tmp_path) as deno:
        guest = await deno.load(local_guest.deployment(source))
        await run(guest, 1)
        before = _held(tmp_path, guest.processes[0].pid)
        await run(guest, 40, timeout=60)
        assert _held(tmp_path, guest.processes[0].pid) - before < 2**20


def _held(folder: Path, pid: int) -> int:
    """Bytes on disk below a folder, and in the files that a process has open, deleted ones too."""
    named = sum(path.lstat().st_blocks for path in folder.rglob("*"))
    opened = 0
    for link in Path(f"/proc/{pid}/fd").iterdir():
        status = link.stat()
        if status.st_nlink == 0:
            opened += status.st_blocks
    return 512 * (named + opened)


async def test_a_refusal_says_what_to_use_instead(unguarded: SubprocessEngine) -> None:
    guest = await unguarded.load(
        python_guest.deployment({"hello/main.py": "import socket\ndef handler(input, ctx): socket.socket()"})
    )
    with pytest.raises(FunctionError, match=r"PermissionError|not permitted") as caught:
        await run(guest)
    assert "httpx.AsyncClient" in caught.value.message


async def test_a_lost_spawner_is_replaced(unguarded: SubprocessEngine) -> None:
    guest = await unguarded.load(
        python_guest.deployment({"hello/main.py": "def handler(input, ctx): return 1"})
    )
    assert await run(guest) == 1
    process = guest.processes[0]
    maker = unguarded._spawner._process
    assert maker is not None
    maker.kill()
    await asyncio.wait_for(process.gone(), 5)
    assert await run(guest) == 1


def test_a_ruleset_may_list_a_folder_without_reading_it(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    child = os.fork()
    if child == 0:
        code = 1
        try:
            rules = landlock.Ruleset()
            rules.allow([str(tmp_path)], read=False)
            rules.enter()
            names = os.listdir(tmp_path)
            try:
                open(tmp_path / "secret").close()
            except PermissionError:
                code = 0 if names == ["secret"] else 2
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
