"""`/_flux/metrics`: what a Prometheus server scrapes. `instruments` says what each metric is.

There are three sources, and none is trusted beyond what it can know: integers that this process
counts, the spool's own files (what waits in it, whatever state the drain is in), and Postgres. While
Postgres does not answer, `flux_postgres_up` is 0 and what only it knows is left out. A scrape never
fails.
"""

from __future__ import annotations

import asyncio
import platform
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from flux import __version__
from flux.app.child import Child
from flux.app.instruments import histograms, numbers, one
from flux.app.watch import Seen, Watch
from flux.data.pool import Pool
from flux.drain import state as drain_state
from flux.gateway.traffic import Traffic
from flux.otlp.tally import OtlpStatus, Tally, otlp_status
from flux.recorder.recorder import Recorder
from flux.runtime.executor import Executor
from flux.runtime.pool import SubprocessEngine
from flux.spool import folder as folders
from flux.spool.frames import DRAINED
from flux.spool.orphans import unlocked
from flux.spool.waiting import Waiting, waiting, word

POOL = "functions"
"""What the pool of functions' connections is called."""


@dataclass(frozen=True, slots=True)
class Sources:
    """The objects that count."""

    traffic: Traffic
    executor: Executor
    recorder: Recorder
    engines: Mapping[str, SubprocessEngine]
    connections: Pool
    sidecar: Child
    spools: Path


@dataclass(frozen=True, slots=True)
class _Disk:
    """What lies in the folder of spools: in this process's own, and in those that nobody writes."""

    own: Waiting
    said: drain_state.DrainState | None
    orphans: int
    orphaned: int
    export: OtlpStatus


class Metrics:
    """Makes the page.

    Args:
        sources: what this process counts.
        watch: asks Postgres.
    """

    def __init__(self, sources: Sources, watch: Watch) -> None:
        self._sources = sources
        self._watch = watch
        self._process = ProcessCollector(registry=CollectorRegistry())

    async def page(self, accept: str) -> tuple[bytes, str]:
        """The page as `accept` (an Accept header) wants it, OpenMetrics or Prometheus' older text; and its
        content type.
        """
        seen, uncaptured = await self._watch.seen(), await self._watch.uncaptured()
        disk = await asyncio.to_thread(_look, self._sources.recorder.spool.folder, self._sources.spools)
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Found([*self._counted(), *self._recorded(disk), *_asked(seen, uncaptured)]))
        registry.register(self._process)
        encode, content_type = choose_encoder(accept)
        return encode(registry), content_type

    def _counted(self) -> Iterator[Metric]:
        sources = self._sources
        traffic, executor = sources.traffic, sources.executor
        yield numbers("flux_build_info", {(__version__, platform.python_version()): 1})
        durations = {tuple(map(str, series)): found for series, found in traffic.durations.items()}
        yield histograms("http_server_request_duration_seconds", durations)
        yield numbers("http_server_active_requests", traffic.active)
        yield numbers("flux_executions", executor.ended)
        yield one("flux_executions_in_flight", executor.in_flight)
        engines = sources.engines
        yield numbers("flux_guests_running", {(name,): engine.running for name, engine in engines.items()})
        in_flight = {(name,): engine.in_flight for name, engine in engines.items()}
        yield numbers("flux_guest_invocations_in_flight", in_flight)
        yield numbers("flux_guest_starts", {(name,): engine.starts for name, engine in engines.items()})
        deaths = {
            (name, how): count for name, engine in engines.items() for how, count in engine.deaths.items()
        }
        yield numbers("flux_guest_deaths", deaths)
        pool = sources.connections
        states = {(POOL, "used"): pool.lent, (POOL, "idle"): pool.idle}
        yield numbers("db_client_connection_count", states)
        yield numbers("db_client_connection_max", {(POOL,): pool.size})
        yield numbers("db_client_connection_pending_requests", {(POOL,): pool.pending})
        yield numbers("db_client_connection_timeouts", {(POOL,): pool.timeouts})
        yield histograms("db_client_connection_wait_time_seconds", {(POOL,): pool.waits})

    def _recorded(self, disk: _Disk) -> Iterator[Metric]:
        recorder, sidecar = self._sources.recorder, self._sources.sidecar
        spool, lies = recorder.spool, disk.own
        yield one("flux_recorder_appends", spool.appends)
        yield one("flux_recorder_appended_bytes", spool.appended_bytes)
        yield numbers("flux_recorder_refusals", {(why,): count for why, count in spool.refusals.items()})
        yield one("flux_recorder_dropped_spans", recorder.dropped)
        yield one("flux_spool_bytes", lies.bytes)
        yield one("flux_spool_limit_bytes", spool.limit)
        yield one("flux_spool_undrained_bytes", lies.undrained)
        age = 0.0 if lies.oldest_ns is None else (time.time_ns() - lies.oldest_ns) / 1e9
        yield one("flux_drain_lag_seconds", max(0.0, age))
        yield one("flux_orphan_spools", disk.orphans)
        yield one("flux_orphan_spool_bytes", disk.orphaned)
        tally = disk.export.tally
        fates = ("exported", "rejected", "refused", "dropped", "unsampled")
        yield numbers("flux_otlp_spans", {(fate,): getattr(tally, fate) for fate in fates})
        yield one("flux_otlp_waiting_bytes", disk.export.waiting)
        yield one("flux_sidecar_up", int(sidecar.works(disk.said)))
        yield one("flux_sidecar_restarts", sidecar.restarts)


class _Found(Collector):
    def __init__(self, metrics: list[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> list[Metric]:
        return self._metrics


def _look(own: Path, spools: Path) -> _Disk:
    orphans = [
        folder
        for folder in folders.spools(spools)
        if folder != own and unlocked(folder) and not (folder / DRAINED).exists()
    ]
    return _Disk(
        own=waiting(own, word(own)),
        said=drain_state.read(own),
        orphans=len(orphans),
        export=otlp_status(spools) or OtlpStatus(Tally(), 0),
        orphaned=sum(waiting(folder, word(folder)).bytes for folder in orphans),
    )


def _asked(seen: Seen | None, uncaptured: int | None) -> Iterator[Metric]:
    yield one("flux_postgres_up", int(seen is not None))
    if uncaptured is not None:
        yield one("flux_uncaptured_tables", uncaptured)
    if seen is None:
        return
    yield one("flux_drained_records", seen.drained)
    yield one("flux_quarantined_records", seen.quarantined)
    yield numbers("flux_jobs", {(state,): count for state, count in seen.jobs.items()})
    yield one("flux_jobs_oldest_due_seconds", seen.oldest)
    yield numbers("flux_nodes", {("live",): seen.live, ("silent",): seen.silent})
    yield one("flux_partitions_ahead_days", seen.days_ahead)
    yield one("flux_clock_offset_seconds", seen.clock_offset)
