"""Whether the record is whole: what waits on disk and for whom, what was refused, who is silent.

Looks at the spools' own files, and asks the server and Postgres if they answer. Without them it goes
by what lies on the disk.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx

from flux.address import base_url
from flux.app import watch
from flux.app.application import server_file
from flux.app.doctor.check import Check, fine, warning, wrong
from flux.app.doctor.words import counted, duration, size, some
from flux.app.watch import Q
from flux.config import Config
from flux.drain.state import SILENT
from flux.drain.status import Quarantine, RecorderStatus, SpoolStatus, recorder_status
from flux.otlp.tally import OtlpStatus, otlp_status
from flux.store.database import Store

SLOW, STUCK = 10.0, 60.0
"""Seconds that an ended execution may wait for Postgres before it is worth a look, and before it is wrong."""
FILLING, FULL = 0.5, 0.9
"""Parts of the spool's limit."""
ADOPTED = 15.0
"""Seconds after which a spool without a writer should have been taken by a server that runs here."""
ANSWER = 5.0


@dataclass(frozen=True)
class _Server:
    """The server of this project: where `.flux/server.json` says it is, what it says of itself if it does."""

    address: str
    pid: int
    said: dict[str, Any] | None


async def look(config: Config, store: Store | None) -> list[Check]:
    """Everything about the record. `store` is None where Postgres can't be reached."""
    server = await _find_server(config)
    nodes: list[Any] = []
    if store is None:
        status = await recorder_status(config.spool_dir, None)
    else:
        async with store.internal() as connection:
            status = await recorder_status(config.spool_dir, connection)
            nodes = await connection.fetch(Q.nodes, watch.SILENT)
    held = [spool for spool in status.spools if spool.held == "writer" and spool.problem is None]
    checks = [_server(server), _drain(held), _spool(config, status, server), _orphans(config, status, server)]
    if status.quarantine is not None:
        checks.append(_quarantine(status.quarantine))
    checks.append(_drops(server))
    if store is not None:
        checks.append(_nodes(nodes, status))
    if (export := otlp_status(config.spool_dir)) is not None:
        checks.append(_otlp(export))
    return checks


async def _find_server(config: Config) -> _Server | None:
    try:
        found = json.loads(server_file(config.flux_dir).read_text())
        pid = int(found["pid"])
        os.kill(pid, 0)
        address = base_url(str(found["host"]), int(found["port"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    said: dict[str, Any] | None = None
    try:
        async with httpx.AsyncClient(timeout=ANSWER, trust_env=False) as client:
            said = (await client.get(f"{address}/_flux/ready")).json()
    except (httpx.HTTPError, ValueError):
        said = None
    return _Server(address, pid, said)


def _server(server: _Server | None) -> Check:
    if server is None:
        return fine("server", "not running here", "no server here")
    where = f"{server.address} (pid {server.pid})"
    if server.said is None:
        return wrong("server", f"{where} does not answer within {ANSWER:.0f} s", "See its log; restart it.")
    if not server.said.get("ok"):
        missing = [name for name in ("postgres", "drain", "spool") if not server.said.get(name, True)]
        return wrong("server", f"{where} is not ready: {', '.join(missing)}", "See its log, and below.")
    return fine("server", where, f"serving on {server.address}")


def _drain(held: list[SpoolStatus]) -> Check:
    """Whether what is written gets into Postgres."""
    now = time.monotonic()
    for spool in held:
        said = spool.drain
        if said is None:
            continue
        if (since := said.silent(now)) is not None:
            detail = (
                f"the drain of {_name(spool)} has not been heard of for {duration(since)}; {_waits(held)}"
            )
            return wrong("drain", detail, f"Kill it, and its server starts another: kill -9 {said.pid}")
        if said.error is not None:
            return wrong(
                "drain", f"Postgres can't be used: {said.error}; {_waits(held)}", "See postgres, above."
            )
        if now - said.looked > SILENT:
            detail = f"the drain has been at one batch for {duration(now - said.looked)}; {_waits(held)}"
            return warning("drain", detail, "See what Postgres is doing: select * from pg_stat_activity")
    age = _oldest(held)
    if age >= SLOW:
        hint = "See the server's log, and what Postgres is doing: select * from pg_stat_activity"
        return (wrong if age >= STUCK else warning)("drain", _waits(held), hint)
    return fine(
        "drain", _waits(held), "nothing waits" if not any(spool.lag for spool in held) else _waits(held)
    )


def _spool(config: Config, status: RecorderStatus, server: _Server | None) -> Check:
    """Whether the server's spool is where it belongs, and how full the fullest is."""
    said = {} if server is None or server.said is None else server.said
    if not said.get("spool", True):
        detail = "the server's spool was deleted and can't be made anew: requests are answered 503"
        hint = (
            f"See who owns {config.spool_dir.parent}, and whether its disk has room; then restart the server."
        )
        return wrong("spool", detail, hint)
    if restored := said.get("restored", 0):
        detail = (
            f"its files were deleted or moved away while the server ran, and made anew ({restored} times)"
        )
        hint = f"Leave {config.spool_dir} to the server: it deletes what Postgres has."
        if lost := said.get("missing", 0):
            return wrong("spool", f"{detail}; {counted(lost, 'file')} with records is lost", hint)
        return warning("spool", f"{detail}; no record is lost", hint)
    limit = size(config.spool_limit)
    fullest = max(status.spools, key=lambda spool: spool.bytes, default=None)
    if fullest is None:
        return fine("spool", f"empty (limit {limit})")
    part = fullest.bytes / max(config.spool_limit, 1)
    files = counted(fullest.waiting.files, "file")
    detail = f"{size(fullest.bytes)} in {files}, {part:.0%} of the limit ({limit}), in {_name(fullest)}"
    if part >= FULL:
        return wrong(
            "spool",
            detail,
            "Requests are answered 503 at the limit: see drain and postgres, or raise spool_limit.",
        )
    if part >= FILLING:
        return warning("spool", detail, "At the limit requests are answered 503: see drain and postgres.")
    return fine("spool", detail)


def _orphans(config: Config, status: RecorderStatus, server: _Server | None) -> Check:
    """Spools that nobody drains: refused ones, and those that wait to be adopted."""
    refused = [spool for spool in status.spools if spool.problem is not None]
    if refused:
        first = refused[0]
        detail = f"{counted(len(refused), 'spool')} can't be drained: {_name(first)}: {first.problem}"
        return wrong("orphans", detail, first.hint)
    orphans = [spool for spool in status.spools if spool.held == "nobody" and spool.lag != 0]
    if not orphans:
        return fine("orphans", "every spool here has its writer, or is drained")
    lost = "1 spool lost its writer" if len(orphans) == 1 else f"{len(orphans)} spools lost their writers"
    detail = f"{lost}; {_waits(orphans)}"
    left = time.time() - max((config.spool_dir / spool.node).stat().st_mtime for spool in orphans)
    if server is not None and left > ADOPTED and status.quarantine is not None:
        return wrong("orphans", detail, "A server should have taken them by now: see its log, and drain.")
    return warning("orphans", detail, "Start a server, or run any reading command: flux tail --no-follow")


def _quarantine(quarantine: Quarantine) -> Check:
    if not quarantine.count:
        return fine("quarantine", "nothing was refused by Postgres", "nothing quarantined")
    since = "" if quarantine.at is None else duration((datetime.now(UTC) - quarantine.at).total_seconds())
    refused = counted(quarantine.count, "record")
    detail = f"{refused} refused by Postgres, the newest {since} ago: {quarantine.reason}"
    hint = (
        'See them: flux query "select id, at, request_id, reason from flux.quarantine". They are kept raw; '
        "when you have seen to them, delete their rows."
    )
    return wrong("quarantine", detail, hint)


def _drops(server: _Server | None) -> Check:
    if server is None or server.said is None:
        return fine("drops", "none known: a server counts them, and none answers")
    dropped, refused = server.said.get("dropped", 0), server.said.get("refused", 0)
    if dropped:
        detail = f"{counted(dropped, 'span')} of no execution could not be written to the spool"
        return wrong("drops", detail, "The spool or its disk was full: see spool and disk.")
    if refused:
        detail = f"nothing; {counted(refused, 'append')} refused since the server began (answered 503)"
        return warning("drops", detail, "The spool or its disk was full: see spool and disk.")
    return fine("drops", "nothing was dropped", "nothing dropped")


def _nodes(nodes: list[Any], status: RecorderStatus) -> Check:
    silent = [row for row in nodes if row["silent"] is not None]
    here = {spool.node: spool for spool in status.spools}
    if not silent:
        live = counted(len(nodes), "node")
        return fine("nodes", f"{live}, none silent", live if len(nodes) > 1 else "")
    said = []
    for row in silent:
        spool = here.get(row["id"])
        waits = _waits([spool]) if spool is not None else "what waits in its spool is there and not here"
        said.append(
            f"{row['id'][:8]} (pid {row['pid']} on {row['host']}) for {duration(row['silent'])}; {waits}"
        )
    detail = f"not heard of: {some(said)}"
    hint = (
        "Start Flux where it ran: that drains what it left. If its disk is gone, so are its last records; "
        f"then say so: update flux.nodes set stopped_at = now() where id = '{silent[0]['id']}'"
    )
    return wrong("nodes", detail, hint)


def _otlp(export: OtlpStatus) -> Check:
    """The collector's copy of the spans; whatever becomes of it, the record is whole."""
    tally = export.tally
    waits = f"{size(export.waiting)} wait" if export.waiting else "nothing waits"
    text = f"{counted(tally.exported, 'span')} sent to {tally.endpoint}, {waits}"
    lost = {"dropped": tally.dropped, "refused": tally.refused, "rejected": tally.rejected}
    found = ", ".join(f"{count} {fate}" for fate, count in lost.items() if count)
    if tally.away:
        return warning("otlp", f"{text}; the collector can't be reached: {tally.away}", "See the collector.")
    if found or tally.lost_segments:
        hint = "See the collector's log, and otlp_limit. The record has them all."
        return warning("otlp", f"{text}; not sent: {found or 'files that nobody sent in time'}", hint)
    return fine("otlp", text, "")


def _name(spool: SpoolStatus) -> str:
    return f"{spool.node[:8]} (pid {spool.pid})" if spool.pid else spool.node


def _oldest(spools: list[SpoolStatus]) -> float:
    ages = [
        time.time() - spool.waiting.oldest_ns / 1e9 for spool in spools if spool.waiting.oldest_ns is not None
    ]
    return max(ages, default=0.0)


def _waits(spools: list[SpoolStatus]) -> str:
    """What of these spools Postgres does not have."""
    counts = [spool.lag for spool in spools]
    undrained = sum(spool.waiting.undrained for spool in spools)
    if not undrained or not any(count is None or count for count in counts):
        return "nothing waits"
    known = sum(count for count in counts if count is not None)
    what = counted(known, "record") if None not in counts else f"more than {known} records"
    age = _oldest(spools)
    return f"{what} ({size(undrained)}) {'waits' if known == 1 else 'wait'}" + (
        f", the oldest for {duration(age)}" if age >= 1 else ""
    )
