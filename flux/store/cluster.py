"""A project's Postgres data folder: whose it is, where it lies, how it is made and what is refused.

Called by server.py.

Everything here may assume that no server runs on the folder: the caller holds the project's lock.
"""

from __future__ import annotations

import os
import re
import signal
import stat

from flux.errors import StoreError, WrongOwner
from flux.store import accounts, reach
from flux.store.child import spawn

USER = "postgres"
MARKER = "flux.txt"
"""A file in the data folder that says that Flux made it, and for which project."""
OLDEST = 14
"""The oldest major version of Postgres that Flux works with."""
ENVIRONMENT = {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}
"""What Postgres' programs get of an environment: nothing of the user's PG* variables."""


class Cluster:
    """The cluster of one project.

    Args:
        folder: the project's `.flux/postgres`, resolved.
        name: one for it that is unique on this machine.
        binaries: where initdb and postgres are.

    Attributes:
        account: whom its programs run as.
        data: the data folder.
        binaries: where that account can run them.

    Raises:
        StoreError: the account can't reach the data or the programs, and nothing could be done about it.
    """

    def __init__(self, folder: str, name: str, binaries: str) -> None:
        inside = os.path.join(folder, "data")
        project = os.path.dirname(os.path.dirname(folder))
        self.account = accounts.choose(project, inside if os.path.isdir(inside) else None)
        self._folder = folder
        self._home = reach.home(folder, name, self.account)
        self.data = os.path.join(self._home, "data")
        self.binaries = reach.programs(binaries, self.account)

    def prepare(self, output: int) -> bool:
        """Make the data folder if there is none, or check the one that is there.

        Args:
            output: descriptor that initdb writes to.

        Returns:
            True when it was made; it is not synced to disk then, see `sync`.

        Raises:
            StoreError: it is no data folder of Flux's, or initdb failed; nothing half-made is left.
            WrongOwner: it is another account's.
        """
        for name in os.listdir(self._home):
            if name.startswith("data.new-"):
                self._remove(os.path.join(self._home, name))
        if os.path.isdir(self.data) and os.stat(self.data).st_uid != self.account.uid:
            raise WrongOwner(
                f"The Postgres data in {self.data} belongs to {accounts.describe(self.data)}, not to"
                f" `{self.account.name or self.account.uid}`.",
                "Run Flux as that account, or move the folder away to begin with an empty database.",
            )
        if os.path.isdir(self.data) and os.listdir(self.data):
            self._check()
            return False
        self._create(output)
        return True

    def sync(self, output: int) -> int:
        """Begin to flush a folder just made to the disk, a server may run on it; returns the process id."""
        return self._spawn([os.path.join(self.binaries, "initdb"), "--sync-only", "-D", self.data], output)

    def version(self) -> str:
        """The major version that the data folder was made by."""
        with open(os.path.join(self.data, "PG_VERSION"), encoding="ascii") as file:
            return file.read().strip()

    def _check(self) -> None:
        if not os.path.exists(os.path.join(self.data, MARKER)):
            raise StoreError(
                f"{self.data} is not a data folder that Flux made.",
                "Move it away, or run its own Postgres over it and name that in DATABASE_URL.",
            )
        if stat.S_IMODE(os.stat(self.data).st_mode) & 0o027:
            os.chmod(self.data, 0o700)

    def _create(self, output: int) -> None:
        program = self._program_version(output)
        if program < OLDEST:
            raise StoreError(
                f"{self.binaries} holds Postgres {program}; Flux needs {OLDEST} or later.",
                "Name a newer one in FLUX_POSTGRES_BIN, or unset it to use the embedded one.",
            )
        # Code-point order and Unicode case everywhere: what a query answers must not hang on a machine's
        # locales.
        locale = ["--locale=C"]
        if program >= 17:
            locale += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        half = os.path.join(self._home, f"data.new-{os.getpid()}")
        os.mkdir(half, 0o700)
        try:
            os.chown(half, self.account.uid, self.account.gid)
            options = [f"--pgdata={half}", f"--username={USER}", "--auth=trust", "--encoding=UTF8", *locale]
            initdb = [os.path.join(self.binaries, "initdb"), "--no-sync", "--no-instructions", *options]
            if self._run(initdb, output) != 0:
                raise StoreError("Postgres' initdb failed.", "Its log says why.")
            with open(os.path.join(half, MARKER), "w", encoding="utf-8") as marker:
                marker.write(f"Made by Flux for {self._folder}\n")
            os.chown(os.path.join(half, MARKER), self.account.uid, self.account.gid)
            if os.path.isdir(self.data):
                os.rmdir(self.data)
            os.rename(half, self.data)
        except BaseException:
            self._remove(half)
            raise

    def _program_version(self, output: int) -> int:
        reading, writing = os.pipe()
        try:
            code = self._run([os.path.join(self.binaries, "initdb"), "--version"], writing)
        finally:
            os.close(writing)
        with os.fdopen(reading, encoding="utf-8", errors="replace") as pipe:
            text = pipe.read()
        found = re.search(r"\) (\d+)", text)
        if code != 0 or found is None:
            os.write(output, text.encode())
            raise StoreError(f"{self.binaries}/initdb does not run on this machine.", "Its log says why.")
        return int(found[1])

    def _run(self, command: list[str], output: int) -> int:
        return os.waitstatus_to_exitcode(os.waitpid(self._spawn(command, output), 0)[1])

    def _spawn(self, command: list[str], output: int) -> int:
        return spawn(
            command,
            account=self.account,
            environment=ENVIRONMENT,
            output=output,
            on_parent_death=signal.SIGKILL,
        )

    def _remove(self, folder: str) -> None:
        for parent, folders, files in os.walk(folder, topdown=False):
            for name in files:
                os.unlink(os.path.join(parent, name))
            for name in folders:
                path = os.path.join(parent, name)
                os.unlink(path) if os.path.islink(path) else os.rmdir(path)
        os.rmdir(folder)
