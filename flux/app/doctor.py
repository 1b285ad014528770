"""`flux doctor`: looks at everything that a project needs, and says of each whether it is right and what
to do if not.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, NamedTuple

from flux import __version__
from flux.app.application import server_file
from flux.app.keys import KEY_FILE
from flux.config import Config
from flux.data import install, push
from flux.errors import FluxError
from flux.recorder.status import recorder_status
from flux.runtime.deno import DenoLauncher
from flux.runtime.functions import discover
from flux.runtime.python import PythonLauncher
from flux.store.database import Store

LOW_DISK = 2**30


class Check(NamedTuple):
    """One thing looked at. `hint` says what to do where it is not ok."""

    name: str
    ok: bool
    detail: str
    hint: str | None = None


async def examine(config: Config) -> dict[str, Any]:
    """Look at everything. Returns `{ok, checks: [{name, ok, detail, hint}]}`; never raises for what it
    finds.
    """
    checks = [Check("flux", True, f"{__version__}, Python {platform.python_version()}")]
    for look in (_deno, _python, _functions, _key, _disk, _server):
        checks.append(await _guard(look.__name__.removeprefix("_"), partial(_now, look, config)))
    try:
        store = await Store.open(config, application_name="flux doctor", pool_size=2)
    except FluxError as error:
        checks.append(Check("postgres", False, error.message, error.hint))
    else:
        try:
            for name, ask in _DATABASE.items():
                checks.append(await _guard(name, partial(ask, config, store)))
        finally:
            await store.close()
    return {"ok": all(check.ok for check in checks), "checks": [check._asdict() for check in checks]}


async def _guard(name: str, look: Callable[[], Awaitable[Check]]) -> Check:
    try:
        return await look()
    except FluxError as error:
        return Check(name, False, error.message, error.hint)
    except OSError as error:
        return Check(name, False, str(error))


async def _now(look: Callable[[Config], Check], config: Config) -> Check:
    return look(config)


def _deno(config: Config) -> Check:
    versions = DenoLauncher().versions()
    return Check("deno", True, ", ".join(f"{k} {v}" for k, v in versions.items()))


def _python(config: Config) -> Check:
    versions = PythonLauncher().versions()
    return Check("python", True, ", ".join(f"{k} {v}" for k, v in versions.items()))


def _functions(config: Config) -> Check:
    found = discover(config.functions_dir, config)
    errors = [problem for problem in found.problems if problem.severity == "error"]
    if errors:
        first = errors[0]
        place = ":".join(str(part) for part in (first.file, first.line, first.column) if part)
        return Check("functions", False, f"{place}: {first.message}", first.hint)
    return Check("functions", True, f"{len(found.functions)} in {config.functions_dir.name}/")


def _key(config: Config) -> Check:
    if config.master_key is not None:
        return Check("master key", True, "from FLUX_MASTER_KEY")
    path = config.flux_dir / KEY_FILE
    if not path.is_file():
        if config.database_url is not None:
            return Check(
                "master key", False, "not set", "Make one: openssl rand -hex 32; set FLUX_MASTER_KEY."
            )
        return Check("master key", True, "made at the first start")
    mode = path.stat().st_mode & 0o077
    detail = f"in {path.relative_to(config.root)}"
    return Check("master key", not mode, detail, f"Others may read it: chmod 600 {path}" if mode else None)


def _disk(config: Config) -> Check:
    folder = config.flux_dir if config.flux_dir.is_dir() else config.root
    free = shutil.disk_usage(folder).free
    hint = "Make room: at the last byte requests are answered 503." if free < LOW_DISK else None
    return Check("disk", free >= LOW_DISK, f"{free / 2**30:.1f} GiB free", hint)


def _server(config: Config) -> Check:
    try:
        found = json.loads(server_file(config.flux_dir).read_text())
        os.kill(found["pid"], 0)
    except (OSError, ValueError, KeyError):
        return Check("server", True, "not running")
    return Check("server", True, f"http://{found['host']}:{found['port']} (pid {found['pid']})")


async def _postgres(config: Config, store: Store) -> Check:
    async with store.internal() as connection:
        version = await connection.fetchval("SHOW server_version")
    return Check("postgres", True, f"{version}, {'embedded' if store.embedded else 'from DATABASE_URL'}")


async def _role(config: Config, store: Store) -> Check:
    if store.protected:
        return Check("role", True, "functions run as flux_app, which owns nothing")
    return Check(
        "role",
        False,
        "functions run as the database's owner: the record is unprotected against them",
        "Connect as a role with CREATEROLE once, so that Flux can make flux_app.",
    )


async def _capture(config: Config, store: Store) -> Check:
    async with store.internal() as connection:
        status = await install.status(connection)
    if status.uncaptured:
        tables = ", ".join(f"{table.schema}.{table.table} ({table.reason})" for table in status.uncaptured)
        return Check("capture", False, f"not recorded: {tables}", "Restart the server or run `flux db push`.")
    if not status.event_triggers:
        return Check("capture", True, "every table; new ones at `flux db push` and start (no superuser)")
    return Check("capture", True, "every table, new ones as they are made")


async def _schema(config: Config, store: Store) -> Check:
    async with store.internal() as connection:
        plan = await push.plan(connection, config.root / "schema")
    if plan.drifted:
        return Check("schema", False, plan.drifted[0].message, "Put the change into a new file.")
    if plan.pending:
        names = ", ".join(file.name for file in plan.pending)
        return Check("schema", False, f"pending: {names}", "Apply: flux db push")
    return Check("schema", True, "every file is applied")


async def _record(config: Config, store: Store) -> Check:
    async with store.internal() as connection:
        status = await recorder_status(config.spool_dir, connection)
    problems = [spool.problem for spool in status.spools if spool.problem]
    quarantined = status.quarantine.count if status.quarantine else 0
    detail = f"{status.lag} records wait, {status.bytes / 2**20:.1f} MiB spooled, {quarantined} quarantined"
    if problems:
        return Check(
            "record",
            False,
            f"{detail}; {problems[0]}",
            "Restore the folder it belongs to, or move it away: it is not drained.",
        )
    if quarantined:
        return Check(
            "record", False, detail, 'See them: flux query "select id, at, reason from flux.quarantine"'
        )
    return Check("record", True, detail)


_DATABASE: dict[str, Callable[[Config, Store], Awaitable[Check]]] = {
    "postgres": _postgres,
    "role": _role,
    "schema": _schema,
    "capture": _capture,
    "record": _record,
}
