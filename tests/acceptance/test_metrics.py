"""`/_flux/metrics`, read as a Prometheus server reads it."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

import httpx
import pytest
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as prometheus

from flux.app.instruments import INSTRUMENTS
from tests.acceptance.conftest import Project, eventually

PROCESS = {
    "process_cpu_seconds",
    "process_max_fds",
    "process_open_fds",
    "process_resident_memory_bytes",
    "process_start_time_seconds",
    "process_virtual_memory_bytes",
}
OPENMETRICS = "application/openmetrics-text;version=1.0.0"


def scrape(client: httpx.Client) -> dict[str, Metric]:
    """Every metric by name, as Prometheus' own parser understands the page."""
    answer = client.get("/_flux/metrics")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/plain; version=")
    return {family.name: family for family in prometheus(answer.text)}


def value(page: dict[str, Metric], name: str, **labels: str) -> float:
    """The one sample of that name with at least these labels."""
    (found,) = [
        sample.value
        for family in page.values()
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    ]
    return float(found)


@contextlib.contextmanager
def dev(project: Project, **environment: str) -> Iterator[httpx.Client]:
    project.environment.update(environment)
    with project.serving("dev") as client:
        yield client


def test_the_page_tells_of_requests_by_their_standard_names(project: Project) -> None:
    project.typescript("hello", "    return { hello: input.name };")
    project.typescript("fail", '    throw new TypeError("no");')
    with dev(project) as client:
        for _ in range(3):
            assert client.post("/hello", json={"name": "ada"}).status_code == 200
        assert client.post("/fail", json={}).status_code == 500
        assert client.post("/nowhere", json={}).status_code == 404
        assert client.request("PROPFIND", "/hello").status_code == 405
        page = scrape(client)
        durations = "http_server_request_duration_seconds"
        assert value(page, f"{durations}_count", http_route="/hello", http_request_method="POST") == 3
        assert (
            value(page, f"{durations}_count", http_route="/fail", http_response_status_code="500")
            == value(page, f"{durations}_bucket", http_route="/fail", error_type="TypeError", le="+Inf")
            == 1
        )
        assert value(page, f"{durations}_count", http_response_status_code="404", http_route="") == 1
        assert value(page, f"{durations}_count", http_request_method="_OTHER") == 1
        bounds = [
            sample.labels["le"]
            for sample in page[durations].samples
            if sample.name.endswith("_bucket") and sample.labels["http_route"] == "/fail"
        ]
        assert bounds == [
            *("0.005", "0.01", "0.025", "0.05", "0.075", "0.1", "0.25"),
            *("0.5", "0.75", "1.0", "2.5", "5.0", "7.5", "10.0", "+Inf"),
        ]
        assert 0 < value(page, f"{durations}_sum", http_route="/fail") < 30
        assert value(page, "http_server_active_requests", http_request_method="POST") == 0

        done = {"trigger": "http", "function": "hello", "outcome": "ok"}
        assert value(page, "flux_executions_total", **done) == 3
        assert value(page, "flux_executions_total", function="fail", outcome="error") == 1
        assert value(page, "flux_executions_total", function="", outcome="rejected") == 2
        assert value(page, "flux_executions_in_flight") == 0
        assert value(page, "flux_recorder_appends_total") >= 12
        assert value(page, "flux_recorder_dropped_spans_total") == 0
        assert value(page, "flux_postgres_up") == value(page, "flux_sidecar_up") == 1
        assert value(page, "flux_uncaptured_tables") == 0
        assert value(page, "flux_partitions_ahead_days") >= 7
        assert abs(value(page, "flux_clock_offset_seconds")) < 1, "one machine has one clock"
        assert value(page, "flux_guests_running", runtime="typescript") >= 2
        assert value(page, "process_resident_memory_bytes") > 2**20
        eventually(lambda: value(scrape(client), "flux_nodes", state="live") == 1)
        eventually(lambda: value(scrape(client), "flux_drained_records_total") >= 6)
        eventually(lambda: value(scrape(client), "flux_spool_undrained_bytes") == 0)
        assert value(scrape(client), "flux_drain_lag_seconds") == 0


def test_every_metric_is_well_formed_and_none_is_undocumented(project: Project) -> None:
    project.typescript("hello", "    return 1;")
    with dev(project) as client:
        client.post("/hello", json={})
        eventually(lambda: value(scrape(client), "flux_postgres_up") == 1)
        page = scrape(client)
        assert set(page) == set(INSTRUMENTS) | PROCESS
        for name, family in page.items():
            assert re.fullmatch(r"[a-z][a-z0-9_]*", name)
            assert family.documentation, f"{name} has no help"
            if name in INSTRUMENTS:
                kind, labels, text = INSTRUMENTS[name]
                assert (family.type, family.documentation) == (kind, text)
                assert text.endswith((".", "it has all.", "refused."))
                for sample in family.samples:
                    assert set(sample.labels) - {"le"} == set(labels)
            if family.type == "counter":
                assert all(sample.name.endswith(("_total", "_created")) for sample in family.samples)
            elif not name.startswith("db_client_connection_"):
                assert not name.endswith(("_total", "_count", "_sum", "_bucket")), name
            assert not re.search(r"_(ms|milliseconds|kb|mb|minutes|percent)(_|$)", name), "base units only"
        answer = client.get("/_flux/metrics", headers={"accept": OPENMETRICS})
        assert answer.headers["content-type"].startswith("application/openmetrics-text")
        assert {family.name for family in openmetrics(answer.text)} == set(page)


def test_the_page_is_guarded_as_the_rest_of_the_internal_pages(project: Project) -> None:
    project.typescript("hello", "    return 1;")
    with project.serving("dev") as client:
        assert client.get("/_flux/metrics", headers={"host": "evil.example"}).status_code == 403
        other = {"origin": "http://evil.example"}
        assert client.get("/_flux/metrics", headers=other).status_code == 403
    with project.serving("serve") as client:
        assert client.get("/_flux/metrics").status_code == 403
        assert client.get("/_flux/health").json()["ok"] is True
        ready = client.get("/_flux/ready").json()
        assert ready == {
            **dict.fromkeys(("ok", "postgres", "drain", "spool"), True),
            **dict.fromkeys(("dropped", "refused", "restored", "missing"), 0),
        }


@pytest.mark.parametrize("limit", ["256KiB"])
def test_refused_appends_are_counted(project: Project, limit: str) -> None:
    """What a spool at its limit looks like is in test_doctor; here the limit is met by one body."""
    project.typescript("hello", "    return 1;")
    with dev(project, FLUX_SPOOL_LIMIT=limit) as client:
        assert client.post("/hello", json={"x": "y" * 400_000}).status_code == 503
        page = scrape(client)
        assert value(page, "flux_spool_limit_bytes") == 256 * 1024
        assert value(page, "flux_recorder_refusals_total", reason="limit") == 1
        durations = "http_server_request_duration_seconds_count"
        assert value(page, durations, http_response_status_code="503", error_type="SpoolFull") == 1
