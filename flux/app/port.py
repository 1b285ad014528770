"""Takes the port, and names who holds it if it is taken. Called first by `serve` and `dev`."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from pathlib import Path

from flux.errors import FluxError


class PortTaken(FluxError):
    """Another process listens on the port."""


def bind(host: str, port: int) -> socket.socket:
    """A socket bound to `host`:`port`, not yet listening.

    Raises:
        PortTaken: somebody listens there; the message names the process where the system tells.
        FluxError: the address is not this machine's, or the port needs privileges.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except socket.gaierror as error:
        raise FluxError(f"`{host}` is not an address: {error.strerror}.", "Use --host 127.0.0.1.") from error
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind(address)
        sock.listen(1024)
    except OSError as error:
        sock.close()
        if error.errno == errno.EADDRINUSE:
            owner = describe_owner(port)
            raise PortTaken(
                f"Port {port} is taken{f' by {owner}' if owner else ''}.", f"Use another: --port {port + 1}"
            ) from error
        if error.errno == errno.EACCES:
            raise FluxError(f"Port {port} needs privileges.", "Use one above 1023: --port 4000") from error
        raise FluxError(
            f"Can't listen on {host}:{port}: {error.strerror}.", "Use --host 127.0.0.1."
        ) from error
    sock.setblocking(False)
    return sock


def describe_owner(port: int) -> str | None:
    """`flux dev (pid 4242, in ~/shop)` for the process that listens on `port`, or None where it can't be
    seen.
    """
    inodes = _listening_inodes(port)
    if not inodes:
        return None
    wanted = {f"socket:[{inode}]" for inode in inodes}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and not wanted.isdisjoint(_descriptors(entry)):
            return _describe(entry)
    return None


def _descriptors(process: Path) -> set[str]:
    """What the process has open, as far as it can be seen; descriptors come and go while one looks."""
    found: set[str] = set()
    with contextlib.suppress(OSError):
        for link in (process / "fd").iterdir():
            with contextlib.suppress(OSError):
                found.add(os.readlink(link))
    return found


def _listening_inodes(port: int) -> set[str]:
    found: set[str] = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            lines = Path(table).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            columns = line.split()
            if columns[3] == "0A" and int(columns[1].rpartition(":")[2], 16) == port:
                found.add(columns[9])
    return found


def _describe(process: Path) -> str:
    try:
        words = [
            word.decode(errors="replace") for word in (process / "cmdline").read_bytes().split(b"\0") if word
        ]
        if Path(words[0]).name.startswith("python"):
            words = [word for word in words[1:] if word != "-m"]
        words[0] = Path(words[0]).name
        name = " ".join(words[:2])
    except (OSError, IndexError):
        name = "a process"
    try:
        where = f", in {os.readlink(process / 'cwd')}"
    except OSError:
        where = ""
    return f"{name} (pid {process.name}{where})"
