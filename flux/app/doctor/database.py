"""What doctor asks of Postgres: its settings, Flux's tables, and whether every change is captured."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from flux.app import watch
from flux.app.doctor.check import Check, fine, warning, wrong
from flux.app.doctor.words import counted, duration, some
from flux.app.watch import Q
from flux.config import Config
from flux.data import install, schema_files
from flux.store import locks
from flux.store.database import Store

OWN_CONNECTIONS = 12
"""What a serving process may hold besides `pool_size`."""
SKEWED, WRONG = 1.0, 30.0
"""Seconds that a clock may be off before it is worth a look, and before it is wrong."""
LATE = 60.0
"""Seconds that a due job may wait while somebody serves."""
FEW_DAYS = 3
LONG = 60.0
"""Seconds that a session may hold locks before it is named."""

_DANGERS = {
    ("fsync", "off"): "a crash of the machine can destroy the whole database",
    ("full_page_writes", "off"): "a crash of the machine can leave torn pages",
    ("synchronous_commit", "off"): "a crash of Postgres takes back what it said was committed",
}


_SILENT = {
    "log_statement": ("none",),
    "log_min_duration_statement": ("-1",),
    "log_min_duration_sample": ("-1",),
    "log_min_error_statement": ("log", "fatal", "panic"),
    "log_transaction_sample_rate": ("0",),
    "auto_explain.log_min_duration": ("-1",),
}
"""Values with which Postgres writes no statement into its log."""


async def _postgres(config: Config, store: Store) -> Check:
    async with store.internal() as connection:
        version = (await connection.fetchval("SHOW server_version")).split()[0]
    where = "embedded" if store.embedded else "from DATABASE_URL"
    return fine("postgres", f"{version}, {where}", f"{version}, {where}")


async def _settings(config: Config, store: Store) -> Check:
    async with store.internal() as connection:
        found = {row["name"]: row["setting"] for row in await connection.fetch(Q.settings)}
        overrides = await connection.fetch(Q.overrides)
        nodes = max(1, len(await connection.fetch(Q.nodes, watch.SILENT)))
    bad = [f"{name} = {value}: {why}" for (name, value), why in _DANGERS.items() if found.get(name) == value]
    bad += [f"{row['setting']} for {row['role']}" for row in overrides if row["dangerous"]]
    if bad:
        hint = (
            "Switch it on: ALTER SYSTEM RESET …; SELECT pg_reload_conf(); (of a role: ALTER ROLE … RESET …)"
        )
        return wrong("settings", "; ".join(bad), hint)
    room = int(found["max_connections"]) - int(found["superuser_reserved_connections"])
    wanted = nodes * (config.pool_size + OWN_CONNECTIONS)
    if wanted > room:
        detail = f"{nodes} serving process(es) may want {wanted} connections, the server has {room}"
        return warning("settings", detail, "Raise max_connections, or lower pool_size in flux.toml.")
    if found.get("autovacuum") == "off":
        hint = "Switch it on: ALTER SYSTEM RESET autovacuum; SELECT pg_reload_conf();"
        return warning("settings", "autovacuum = off: flux.jobs and the indexes grow without end", hint)
    given = [f"{row['setting']} for {row['role']}" for row in overrides]
    detail = "fsync, full_page_writes and synchronous_commit are on"
    if given:
        detail += f"; set for this database or its roles: {some(given)} (taken off by ALTER … RESET …)"
    if shown := _logged(found):
        detail += f"; Postgres' own log shows what functions ask of it, values too: {', '.join(shown)}"
    return fine("settings", detail)


def _logged(found: Mapping[str, str]) -> list[str]:
    """The settings by which statements, or values in errors, stand in the server's own log."""
    if found.get("log_min_messages") in ("fatal", "panic"):
        return []
    return [
        f"{name} = {found[name]}"
        for name, silent in _SILENT.items()
        if name in found and found[name] not in silent
    ]


async def _migrations(config: Config, store: Store) -> Check:
    async with store.internal() as connection:
        row = await connection.fetchrow(Q.applied_migrations)
    return fine("migrations", f"{row['count']} applied, the newest {row['newest']}")


async def _role(config: Config, store: Store) -> Check:
    if store.protected:
        async with store.internal() as connection:
            given = [row["told"] for row in await connection.fetch(Q.role_settings)]
            open_to = await connection.fetchval(Q.open_catalog)
        if given:
            hint = (
                "Take them off: ALTER ROLE flux_app RESET ALL; what functions should have, give the database."
            )
            return warning(
                "role", f"flux_app has settings, which any function can give it: {some(given)}", hint
            )
        if open_to:
            detail = f"functions can call what shows or ends other functions' statements: {some(open_to)}"
            return warning("role", detail, "As a superuser: REVOKE EXECUTE ON FUNCTION … FROM PUBLIC.")
        return fine("role", "functions run as flux_app, which owns nothing")
    return wrong(
        "role",
        "functions run as the database's owner: the record is unprotected against them",
        "Connect as a role with CREATEROLE once, so that Flux can make flux_app.",
    )


async def _locks(config: Config, store: Store) -> Check:
    async with store.internal() as connection:
        way = await locks.in_the_way(connection, older_than=LONG)
    if way:
        hint = "It holds up `flux db push` and the next start. End it: SELECT pg_terminate_backend(PROCESS);"
        return warning("locks", some(way), hint)
    return fine("locks", f"no session has held any for {duration(LONG)}")


async def _partitions(config: Config, store: Store) -> Check:
    async with store.internal() as connection:
        days = await connection.fetchval(Q.days_ahead)
        live = [row for row in await connection.fetch(Q.nodes, watch.SILENT) if row["silent"] is None]
    if days < FEW_DAYS and live:
        return warning(
            "partitions",
            f"made for {days} days, today included: the first write of a day has to make its own",
            "A server makes them each hour for a week ahead. See its log for what keeps it from that.",
        )
    return fine("partitions", f"made for {days} days, today included" if days else "made at the next start")


async def _clock(config: Config, store: Store) -> Check:
    async with store.internal() as connection:
        here = await watch.clock_offset(connection)
        found = await connection.fetch(Q.nodes, watch.SILENT)
    offsets = {"this machine": here}
    for row in found:
        if row["silent"] is None and row["clock_offset_ms"] is not None:
            offsets[f"node {row['id'][:8]} on {row['host']}"] = row["clock_offset_ms"] / 1e3
    worst = max(offsets, key=lambda name: abs(offsets[name]))
    off = offsets[worst]
    if abs(off) < SKEWED:
        return fine("clock", f"within {max(abs(off) * 1000, 1):.0f} ms of Postgres'", "clocks agree")
    detail = f"{worst} is {duration(abs(off))} {'ahead of' if off > 0 else 'behind'} Postgres"
    hint = "Set the clocks by NTP: executions bear their node's time, mutations that of Postgres."
    return (wrong if abs(off) >= WRONG else warning)("clock", detail, hint)


async def _schema(config: Config, store: Store) -> Check:
    async with store.internal() as connection:
        plan = await schema_files.plan(connection, config.root / "schema")
    if plan.drifted:
        return wrong("schema", plan.drifted[0].message, "Put the change into a new file.")
    if plan.pending:
        names = ", ".join(file.name for file in plan.pending)
        return warning("schema", f"not applied yet: {names}", "Apply: flux db push")
    return fine("schema", "every file is applied")


async def _capture(config: Config, store: Store) -> Check:
    async with store.internal() as connection:
        status = await install.status(connection)
    missing = [table for table in status.uncaptured if not table.lasting]
    if missing:
        tables = some([f"{table.name} ({table.reason})" for table in missing])
        hint = "Restart the server or run `flux db push`: both put capture on again."
        if not status.event_triggers or any("!flux_capture" in table.reason for table in missing):
            hint += ' A trigger that stays off: ALTER TABLE … ENABLE ALWAYS TRIGGER "…".'
        return wrong("capture", f"changes are not recorded: {tables}", hint)
    foreign = [table.name for table in status.uncaptured if "foreign" in table.reason]
    if foreign:
        detail = f"changes of foreign tables can't be recorded here: {some(foreign)}"
        return warning("capture", detail, "Let Flux record them in the database where they are.")
    if status.unlogged:
        detail = f"a crash of Postgres empties unlogged tables without a mutation: {some(status.unlogged)}"
        return warning("capture", detail, "Make them ordinary: ALTER TABLE … SET LOGGED")
    parts = [counted(len(status.captured), "table")]
    if status.by_row:
        parts.append(
            f"{len(status.by_row)} row by row, for their triggers or partitions: {some(status.by_row)}"
        )
    if status.late:
        name = max(status.late, key=lambda name: status.late[name])
        since = f"{status.late[name]:%Y-%m-%d %H:%M} UTC"
        parts.append(f"{len(status.late)} older than their history, the newest {name} (whole since {since})")
    parts.append(
        "new ones as they are made" if status.event_triggers else "new ones at `flux db push` and start"
    )
    return fine("capture", "; ".join(parts), f"{parts[0]}, every change recorded")


async def jobs(config: Config, store: Store) -> Check:
    """Whether jobs are done."""
    async with store.internal() as connection:
        found = await connection.fetchrow(Q.jobs)
        failed = await connection.fetchrow(Q.newest_failed_job)
        live = [row for row in await connection.fetch(Q.nodes, watch.SILENT) if row["silent"] is None]
    counts = {state: found[state] for state in ("queued", "delayed", "running", "failed") if found[state]}
    text = ", ".join(f"{count} {state}" for state, count in counts.items()) or "none wait"
    if found["stuck"]:
        hint = "Start a server: it takes them over." if not live else "Restart the servers; see their logs."
        held = f"{found['stuck']} {'is' if found['stuck'] == 1 else 'are'} held"
        return wrong("jobs", f"{text}; {held} by a worker that is gone", hint)
    if found["failed_today"]:
        detail = f"{text}; {found['failed_today']} ran out of attempts today, the newest {failed['name']}"
        if failed["message"]:
            detail += f": {failed['message']}"
        seen = failed["last_request_id"]
        return warning("jobs", detail, f"flux why {seen[:8]}" if seen else None)
    if found["oldest"] > LATE and live:
        detail = f"{text}; the oldest has been due for {duration(found['oldest'])}"
        return warning("jobs", detail, "The workers don't keep up: raise job_concurrency, or add a server.")
    return fine("jobs", text, text)


LOOKS: dict[str, dict[str, Callable[[Config, Store], Awaitable[Check]]]] = {
    "postgres": {
        "postgres": _postgres,
        "settings": _settings,
        "migrations": _migrations,
        "role": _role,
        "locks": _locks,
        "partitions": _partitions,
        "clock": _clock,
    },
    "tables": {"schema": _schema, "capture": _capture},
}
