"""Which account of the machine the embedded Postgres runs as.

Called by the keeper, before it makes or starts a cluster.

Postgres refuses to run as root. An ordinary user runs it as itself; root runs it as the owner of the
project, or, where the project is root's own, as the machine's `postgres` account, else as `nobody`.
"""

from __future__ import annotations

import os
import pwd

from flux.errors import StoreError

_SPARE = ("postgres", "nobody")


class Account:
    """An account as a process takes it on.

    Attributes:
        uid: its number; gid: its primary group; name: its name in the password database, "" where it has
            none.
    """

    __slots__ = ("gid", "name", "uid")

    def __init__(self, uid: int, gid: int, name: str) -> None:
        self.uid = uid
        self.gid = gid
        self.name = name

    @property
    def other(self) -> bool:
        """True where a process must change to it."""
        return self.uid != os.geteuid()

    def enter(self) -> None:
        """Become this account, for good. Only in a child of root; drops every group and privilege of root."""
        if self.name:
            os.initgroups(self.name, self.gid)
        else:
            os.setgroups([self.gid])
        os.setresgid(self.gid, self.gid, self.gid)
        os.setresuid(self.uid, self.uid, self.uid)

    def reaches(self, path: str) -> bool:
        """Whether this account can pass through every folder above `path` and read (a folder: enter) it."""
        if not self.other:
            return os.access(path, os.R_OK | os.X_OK)
        child = os.fork()
        if child == 0:
            try:
                self.enter()
                os._exit(0 if os.access(path, os.R_OK | os.X_OK) else 1)
            finally:
                os._exit(2)
        return os.waitpid(child, 0)[1] == 0


def choose(project: str, data: str | None) -> Account:
    """The account that a project's Postgres runs as.

    Args:
        project: the project folder, whose owner root steps into.
        data: an existing data folder, whose owner is bound to be the one; None where there is none yet.

    Raises:
        StoreError: this process is root and the machine has no account to run Postgres as.
    """
    me = os.geteuid()
    if me != 0:
        return _account(me) or Account(me, os.getegid(), "")
    if data is not None and (owner := os.stat(data).st_uid) != 0:
        return _account(owner) or Account(owner, os.stat(data).st_gid, "")
    if (owner := os.stat(project).st_uid) != 0 and (found := _account(owner)) is not None:
        return found
    for name in _SPARE:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(entry.pw_uid, entry.pw_gid, name)
    raise StoreError(
        "Postgres does not run as root, and this machine has no account `postgres` or `nobody` to run it as.",
        "Make one (useradd --system postgres), or run Flux as an ordinary user.",
    )


def _account(uid: int) -> Account | None:
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        return None
    return Account(uid, entry.pw_gid, entry.pw_name)


def describe(path: str) -> str:
    """Who owns a path, for people: the account's name in backticks, or `user 1234`."""
    owner = os.stat(path).st_uid
    found = _account(owner)
    return f"`{found.name}`" if found else f"user {owner}"
