"""Every metric by name: its kind, its labels and what it means. Values come from `metrics`.

Names are those of OpenTelemetry's semantic conventions as Prometheus writes them, or `flux_*` if
there is none. docs/operations.md lists the same; a test compares the two.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from flux.histogram import Histogram

Key = tuple[str, ...]


class Instrument(NamedTuple):
    """One metric. A counter's name is without the `_total` it is shown with."""

    kind: Literal["counter", "gauge", "histogram"]
    labels: Key
    help: str


_POOL = "db_client_connection_pool_name"
INSTRUMENTS: Mapping[str, Instrument] = {
    "http_server_request_duration_seconds": Instrument(
        "histogram",
        ("http_request_method", "url_scheme", "http_route", "http_response_status_code", "error_type"),
        "Duration of HTTP requests to functions' routes, from the request's head to the end of its answer.",
    ),
    "http_server_active_requests": Instrument(
        "gauge", ("http_request_method", "url_scheme"), "HTTP requests being answered."
    ),
    "flux_executions": Instrument(
        "counter",
        ("trigger", "outcome", "function"),
        "Executions that have ended; interrupted means that their end could not be recorded.",
    ),
    "flux_executions_in_flight": Instrument("gauge", (), "Executions that have begun and not ended."),
    "flux_guests_running": Instrument("gauge", ("runtime",), "Guest processes, spares included."),
    "flux_guest_invocations_in_flight": Instrument("gauge", ("runtime",), "Invocations under way."),
    "flux_guest_starts": Instrument("counter", ("runtime",), "Guest processes started."),
    "flux_guest_deaths": Instrument(
        "counter", ("runtime", "reason"), "Guest processes that have ended, by how they did."
    ),
    "db_client_connection_count": Instrument(
        "gauge",
        (_POOL, "db_client_connection_state"),
        "Functions' connections to Postgres: used by an execution, or idle.",
    ),
    "db_client_connection_max": Instrument("gauge", (_POOL,), "Most connections there may be."),
    "db_client_connection_pending_requests": Instrument(
        "gauge", (_POOL,), "Executions that wait for a connection."
    ),
    "db_client_connection_timeouts": Instrument(
        "counter", (_POOL,), "Executions that waited for a connection in vain."
    ),
    "db_client_connection_wait_time_seconds": Instrument(
        "histogram", (_POOL,), "How long executions waited for a connection."
    ),
    "flux_recorder_appends": Instrument("counter", (), "Appends to the spool."),
    "flux_recorder_appended_bytes": Instrument("counter", (), "Bytes appended to the spool."),
    "flux_recorder_refusals": Instrument(
        "counter", ("reason",), "Appends that the spool refused: at its limit, or by the disk."
    ),
    "flux_recorder_dropped_spans": Instrument(
        "counter", (), "Spans of no execution that the spool could not take; nothing else is ever dropped."
    ),
    "flux_spool_bytes": Instrument("gauge", (), "Size of this process's spool on disk."),
    "flux_spool_limit_bytes": Instrument("gauge", (), "Size at which new executions are answered 503."),
    "flux_spool_undrained_bytes": Instrument(
        "gauge", (), "Bytes of the spool that Postgres does not have, executions under way included."
    ),
    "flux_drain_lag_seconds": Instrument(
        "gauge", (), "Age of the oldest ended execution that Postgres does not have; 0 where it has all."
    ),
    "flux_drained_records": Instrument(
        "counter", (), "Executions and other units of this process's spool that Postgres has."
    ),
    "flux_quarantined_records": Instrument("gauge", (), "Records that Postgres refused."),
    "flux_orphan_spools": Instrument("gauge", (), "Spools on this disk without a writer, not drained yet."),
    "flux_orphan_spool_bytes": Instrument("gauge", (), "Size of those spools."),
    "flux_otlp_spans": Instrument(
        "counter",
        ("fate",),
        "Spans for a collector, by what became of them; of all processes here.",
    ),
    "flux_otlp_waiting_bytes": Instrument("gauge", (), "Bytes that only the export of spans still needs."),
    "flux_sidecar_up": Instrument(
        "gauge", (), "Whether the process that drains the spool runs and was heard of within 10 s."
    ),
    "flux_sidecar_restarts": Instrument("counter", (), "How often that process had to be started again."),
    "flux_postgres_up": Instrument("gauge", (), "Whether Postgres answered within a second."),
    "flux_uncaptured_tables": Instrument("gauge", (), "Tables whose changes should be recorded and are not."),
    "flux_partitions_ahead_days": Instrument(
        "gauge", (), "Days for which the record has partitions, today included."
    ),
    "flux_clock_offset_seconds": Instrument("gauge", (), "This machine's clock minus that of Postgres."),
    "flux_nodes": Instrument("gauge", ("state",), "Serving processes, by whether they were heard of lately."),
    "flux_jobs": Instrument("gauge", ("state",), "Jobs by state; the stuck ones are among the running."),
    "flux_jobs_oldest_due_seconds": Instrument("gauge", (), "How long the longest due job has waited."),
    "flux_build_info": Instrument("gauge", ("version", "python"), "Always 1; its labels say what runs."),
}


def one(name: str, value: float) -> Metric:
    """A metric without labels."""
    return numbers(name, {(): value})


def numbers(name: str, values: Mapping[Any, float]) -> Metric:
    """A counter or gauge: values by their labels'."""
    kind, labels, text = INSTRUMENTS[name]
    family = (CounterMetricFamily if kind == "counter" else GaugeMetricFamily)(name, text, labels=labels)
    for key, value in values.items():
        family.add_metric(key, value)
    return family


def histograms(name: str, values: Mapping[Any, Histogram]) -> Metric:
    """A histogram: distributions by their labels' values."""
    _, labels, text = INSTRUMENTS[name]
    family = HistogramMetricFamily(name, text, labels=labels)
    for key, histogram in values.items():
        total = 0
        buckets: list[tuple[str, float]] = []
        for bound, count in zip([*map(str, histogram.bounds), "+Inf"], histogram.counts, strict=True):
            total += count
            buckets.append((bound, total))
        family.add_metric(key, buckets, histogram.total)
    return family
