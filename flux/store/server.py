"""The server process over a cluster: started, watched, stopped, and what to say when it won't start.

Called by the keeper.

Every process of the server inherits the project's lock, so the lock is free only once the last of them has
gone.
"""

from __future__ import annotations

import errno
import os
import re
import signal
import stat
import time

from flux.errors import StoreError, WrongOwner
from flux.store import accounts
from flux.store.child import spawn
from flux.store.cluster import ENVIRONMENT, USER, Cluster

DATABASE = "postgres"
PORT = 5432

_START_TIMEOUT = 300.0
"""Seconds; recovery after a crash takes long when much was written."""
_LEFTOVER_TIMEOUT = 5.0
_TICK = 0.003
_LOG_LIMIT = 16 * 2**20
_SETTINGS = {
    "listen_addresses": "",
    "port": str(PORT),
    "unix_socket_permissions": "0700",
    "cluster_name": "flux",
    "max_connections": "200",
    "shared_buffers": "128MB",
    "max_locks_per_transaction": "256",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "lc_messages": "C",
    # What goes wrong in statements is in the record, redacted. Postgres' own log would show users' values: in
    # errors, in RAISE LOG, in statements that were slow, in a deadlock or died. All that is below FATAL.
    "log_min_messages": "fatal",
    "log_min_error_statement": "panic",
    "log_checkpoints": "off",
    "log_line_prefix": "%m [%p] ",
    "update_process_title": "off",
    # No replicas: less WAL, and COPY into a table of its own transaction writes none.
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_logical_replication_workers": "0",
    "max_wal_size": "2GB",
    "checkpoint_timeout": "15min",
}


class Server:
    """Postgres over one project's cluster.

    Args:
        folder: the project's `.flux/postgres`, resolved.
        name: one for it that is unique on this machine.
        binaries: where initdb and postgres are.
    """

    def __init__(self, folder: str, name: str, binaries: str) -> None:
        self._folder = folder
        self._name = name
        self._given = binaries
        self._cluster: Cluster | None = None
        self._log = os.path.join(folder, "log")
        self._output = -1
        self._socket_folder = ""
        self._pid: int | None = None
        self._syncing: int | None = None

    @property
    def address(self) -> dict[str, str | int]:
        """How to connect as superuser: host (the folder of the socket), port, user, database."""
        return {"host": self._socket_folder, "port": PORT, "user": USER, "database": DATABASE}

    def start(self) -> None:
        """Make the cluster if there is none, start the server, and return once it takes connections.

        Raises:
            StoreError: what is in the way; WrongOwner: it is another account.
        """
        try:
            self._open_log()
            self._cluster = cluster = Cluster(self._folder, self._name, self._given)
            made = cluster.prepare(self._output)
            self._make_socket_folder(cluster.account)
            self._clear_stale(cluster)
            self._pid = spawn(
                self._command(cluster),
                account=cluster.account,
                environment=ENVIRONMENT,
                output=self._output,
                on_parent_death=signal.SIGINT,
            )
            self._wait_ready(cluster)
            if made:
                self._syncing = cluster.sync(self._output)
        except OSError as error:
            raise _from_os(self._folder, error) from error
        except StoreError as error:
            if self._full():
                raise _disk_full(self._folder) from error
            if error.hint == "Its log says why.":
                raise StoreError(f"{error.message} {self._last_words()}", f"See {self._log}.") from error
            raise

    def alive(self) -> bool:
        """Whether the server's first process runs."""
        if self._syncing is not None and os.waitpid(self._syncing, os.WNOHANG)[0]:
            self._syncing = None
        if self._pid is not None and os.waitpid(self._pid, os.WNOHANG)[0]:
            self._pid = None
        return self._pid is not None

    def stop(self) -> None:
        """End the server: cleanly, or, where that takes too long, at once (the next start then recovers)."""
        for number, patience in ((signal.SIGINT, 20.0), (signal.SIGQUIT, 5.0), (signal.SIGKILL, 5.0)):
            if self._pid is None:
                break
            os.kill(self._pid, number)
            end = time.monotonic() + patience
            while self.alive() and time.monotonic() < end:
                time.sleep(_TICK)
        if self._syncing is not None:
            os.waitpid(self._syncing, 0)
        self._clear_socket_folder()

    def trim_log(self) -> None:
        """Empty the log when it has grown past its limit: the server appends to it for as long as it runs."""
        if os.fstat(self._output).st_size > _LOG_LIMIT:
            os.ftruncate(self._output, 0)

    def _open_log(self) -> None:
        if self._output >= 0:
            os.close(self._output)
        if os.path.lexists(self._log):
            os.replace(self._log, self._log + ".old")
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
        self._output = os.open(self._log, flags, 0o600)

    def _command(self, cluster: Cluster) -> list[str]:
        command = [os.path.join(cluster.binaries, "postgres"), "-D", cluster.data]
        for name, value in {**_SETTINGS, "unix_socket_directories": self._socket_folder}.items():
            command += ["-c", f"{name}={value}"]
        return command

    def _make_socket_folder(self, account: accounts.Account) -> None:
        # Under /tmp because a socket's path may have 107 bytes only; closed to all but its owner.
        self._socket_folder = folder = f"/tmp/flux-{account.uid}-{self._name}"
        try:
            os.mkdir(folder, 0o700)
        except FileExistsError:
            found = os.lstat(folder)
            if not stat.S_ISDIR(found.st_mode) or found.st_uid not in (account.uid, os.geteuid()):
                raise WrongOwner(
                    f"{folder}, where the socket of Postgres belongs, is {accounts.describe(folder)}'s.",
                    "Remove it: Flux uses it only if it made it.",
                ) from None
            os.chmod(folder, 0o700)
        os.chown(folder, account.uid, account.gid)
        self._clear_socket_folder(keep=True)

    def _clear_socket_folder(self, *, keep: bool = False) -> None:
        for name in (f".s.PGSQL.{PORT}", f".s.PGSQL.{PORT}.lock"):
            try:
                os.unlink(os.path.join(self._socket_folder, name))
            except FileNotFoundError:
                continue
        if not keep:
            try:
                os.rmdir(self._socket_folder)
            except OSError:
                return

    def _clear_stale(self, cluster: Cluster) -> None:
        # Left by a server that was killed. Postgres itself heals the file unless its number is now that of
        # another process. It may not start while a process of the former server is still on the data.
        end = time.monotonic() + _LEFTOVER_TIMEOUT
        while left := _working_in(cluster.data):
            if time.monotonic() > end:
                raise StoreError(
                    f"Process {min(left)} runs Postgres over {cluster.data}, and Flux did not start it.",
                    "Stop that one first, or name it in DATABASE_URL.",
                )
            time.sleep(_TICK)
        path = os.path.join(cluster.data, "postmaster.pid")
        try:
            with open(path, encoding="utf-8") as file:
                pid = int(file.readline())
            os.kill(pid, 0)
        except (FileNotFoundError, ProcessLookupError):
            return
        except (ValueError, PermissionError):
            os.unlink(path)
        else:
            os.unlink(path)

    def _wait_ready(self, cluster: Cluster) -> None:
        path = os.path.join(cluster.data, "postmaster.pid")
        end = time.monotonic() + _START_TIMEOUT
        while self.alive():
            try:
                with open(path, encoding="utf-8") as file:
                    lines = file.read().splitlines()
            except FileNotFoundError:
                lines = []
            if len(lines) > 7 and lines[0] == str(self._pid) and lines[7].strip() == "ready":
                return
            if time.monotonic() > end:
                self.stop()
                raise StoreError(f"Postgres was not ready after {_START_TIMEOUT:.0f} s.", "Its log says why.")
            time.sleep(_TICK)
        found = re.search(
            r"initialized by PostgreSQL version (\S+), which is not compatible with this version (\S+)\.",
            self._log_text(),
        )
        if found:
            raise StoreError(
                f"The data in {cluster.data} is of Postgres {found[1]}, the programs are of {found[2]}.",
                f"Name the programs of {found[1]} in FLUX_POSTGRES_BIN, or dump there and restore here.",
            )
        raise StoreError("Postgres did not start.", "Its log says why.")

    def _log_text(self) -> str:
        with open(self._log, encoding="utf-8", errors="replace") as file:
            return file.read()[-20_000:]

    def _last_words(self) -> str:
        lines = [
            re.sub(r"^\S+ \S+ UTC \[\d+\] ", "", line)
            for line in self._log_text().splitlines()
            if line.strip()
        ]
        said = [line for line in lines if re.match(r"(FATAL|PANIC|initdb: error|.*error)", line)] or lines
        return " / ".join(said[-3:])

    def _full(self) -> bool:
        return self._output >= 0 and os.strerror(errno.ENOSPC) in self._log_text()


def _working_in(folder: str) -> list[int]:
    """Processes whose working folder is `folder`: a server's all work in its data folder (Linux only)."""
    if not os.path.isdir("/proc/self"):
        return []
    wanted = os.stat(folder)
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                if os.path.samestat(os.stat(f"/proc/{name}/cwd"), wanted):
                    found.append(int(name))
            except OSError:
                continue
    return found


def _disk_full(folder: str) -> StoreError:
    return StoreError(
        f"The disk that holds {folder} is full; Postgres can't start.", "Make room, then try again."
    )


def _from_os(folder: str, error: OSError) -> StoreError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return _disk_full(folder)
    if error.errno in (errno.EACCES, errno.EPERM):
        return WrongOwner(
            f"{error.filename or folder} is closed to this account: {error.strerror}.",
            "Run Flux as the account that owns the project, or give it the folder .flux (chown -R).",
        )
    return StoreError(f"The embedded Postgres can't be started: {error}.")
