"""Faults while spans are sent to a collector: Postgres away, the spool's disk full, the wrong certificate, a
collector that says nothing at all, the sender killed. The record is whole, no request notices, and what can
be sent is.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from flux.store import embedded
from tests import certificates
from tests.acceptance.conftest import Project, environment, eventually
from tests.acceptance.own_postgres import OwnPostgres
from tests.acceptance.test_disk_full import drain_held, small_disk
from tests.acceptance.test_otlp import (
    PROTOCOLS,
    assert_no_spool_left,
    assert_same,
    children,
    recorded,
    rows_of,
    sends,
    spool_dir,
    status,
)
from tests.collector import collecting


def post(url: str, path: str, times: int, text: str = "") -> list[httpx.Response]:
    """Answers to requests, one after the other."""
    with httpx.Client(base_url=url, timeout=30, trust_env=False) as client:
        return [client.post(path, json=f"{number} {text}") for number in range(times)]


def statuses(answers: list[httpx.Response]) -> set[int]:
    return {answer.status_code for answer in answers}


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[tuple[Project, OwnPostgres]]:
    """A project on an embedded Postgres of its own."""
    project = Project(tmp_path / "app", environment(FLUX_MASTER_KEY="5a" * 32))
    project.write("flux.toml", 'name = "app"\n')
    project.typescript("hello", "    return input;")
    with embedded.acquire(project.root / ".flux") as lease:
        try:
            yield project, OwnPostgres(project.root / ".flux", lease)
        finally:
            project.end()


@pytest.mark.parametrize(("way", "protocol"), [("dead", "grpc"), ("frozen", "http/protobuf")])
def test_spans_reach_the_collector_while_postgres_is_away(
    alone: tuple[Project, OwnPostgres], way: str, protocol: str
) -> None:
    project, postgres = alone
    with collecting(protocol) as collector:
        sends(project, collector)
        server = project.start()
        assert statuses(post(server.url, "/hello", 1)) == {200}
        recorded(project, lambda found: len(found) == 2)
        with postgres.dead() if way == "dead" else postgres.frozen():
            assert statuses(post(server.url, "/hello", 20)) == {200}
            collector.wait(lambda c: len(c.ids()) >= 42)
            assert httpx.get(f"{server.url}/_flux/ready", trust_env=False).json()["postgres"] is False
        recorded(project, lambda found: len(found) == 42)
        assert server.stop() == 0, server.text()
        assert "Traceback" not in server.text()
        assert len(assert_same(project, collector)) == 42
        assert status(project, lambda s: s.tally.exported).tally.exported == 42
        assert_no_spool_left(project)


@pytest.fixture
def cramped(project: Project) -> Iterator[Project]:
    """A project whose spool has a disk of 8 MiB."""
    project.write("flux.toml", 'name = "app"\nspool_limit = "16MiB"\n')
    project.typescript("plain", "    return input.length;")
    with small_disk(spool_dir(project), "8m"):
        try:
            yield project
        finally:
            project.end()


async def test_a_full_spool_disk_keeps_no_recorded_span_from_the_collector(cramped: Project) -> None:
    url = cramped.environment["DATABASE_URL"]
    with collecting("http/protobuf") as collector:
        sends(cramped, collector)
        server = cramped.start()
        answers: list[httpx.Response] = []
        for _ in range(2):
            async with drain_held(url):
                for _ in range(40):
                    answers += post(server.url, "/plain", 10, "y" * 60_000)
                    if answers[-1].status_code == 503:
                        break
                assert statuses(answers) == {200, 503}
                kept = {a.headers["x-request-id"] for a in answers if a.status_code == 200}
                # What is on the full disk is sent, though nothing more can be put there.
                collector.wait(lambda c, kept=kept: len(c.ids()) >= 2 * len(kept))
            eventually(lambda: statuses(post(server.url, "/plain", 1)) == {200})
        assert server.stop() == 0, server.text()
        assert "Traceback" not in server.text()
        assert len(kept) > 20
        spans = assert_same(cramped, collector)
        assert kept <= {row["request_id"] for row in spans}
        tally = status(cramped, lambda s: s.tally.exported == len(spans)).tally
        assert (tally.dropped, tally.lost_segments, tally.refused) == (0, 0, 0)


def test_what_waits_for_a_collector_gives_way_before_it_fills_the_spools_disk(cramped: Project) -> None:
    with collecting("http/protobuf") as collector:
        port = collector.port
        sends(cramped, collector, OTEL_EXPORTER_OTLP_TIMEOUT="1000")
    server = cramped.start()
    answers: list[httpx.Response] = []
    for _ in range(20):  # 24 MB on a disk of 8, of which `otlp_limit` would allow 512
        eventually(lambda: statuses(post(server.url, "/plain", 1)) == {200})
        answers += post(server.url, "/plain", 20, "y" * 60_000)
    kept = {answer.headers["x-request-id"] for answer in answers if answer.status_code == 200}
    assert len(kept) > 200
    eventually(
        lambda: kept <= {row["request_id"] for row in rows_of(cramped, "executions", where="status = 200")},
        60,
    )
    server.wait_for(r"\d+ spans were dropped: .* bytes \(what its disk has free\). The record is whole.")
    with collecting("http/protobuf", port) as collector:
        spans = {row["span_id"] for row in rows_of(cramped, "spans")}
        there = status(cramped, lambda s: s.tally.exported + s.tally.dropped >= len(spans)).tally
        assert there.exported + there.dropped == len(spans)
        assert (there.lost_segments, there.refused) == (0, 0)
        assert len(collector.ids()) == len(collector.names) == there.exported > 0
        assert collector.ids() < spans
    assert server.stop() == 0, server.text()
    assert "Traceback" not in server.text()


@PROTOCOLS
def test_spans_go_over_tls_where_each_side_knows_the_other(
    project: Project, protocol: str, tmp_path: Path
) -> None:
    project.typescript("hello", "    return {};")
    mine, theirs, third = (certificates.make(tmp_path, name) for name in ("mine", "theirs", "third"))
    with collecting(protocol, tls=theirs, clients=mine) as collector:
        sends(
            project,
            collector,
            OTEL_EXPORTER_OTLP_CERTIFICATE=str(theirs.certificate),
            OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE=str(mine.certificate),
            OTEL_EXPORTER_OTLP_CLIENT_KEY=str(mine.key),
            # For other programs: what is said of the collector counts.
            REQUESTS_CA_BUNDLE=str(third.certificate),
            SSL_CERT_FILE=str(third.certificate),
        )
        with project.serving() as client:
            assert client.post("/hello", json={}).status_code == 200
            collector.wait(lambda c: len(c.names) >= 2)
            recorded(project, lambda found: len(found) == 2)
        assert_same(project, collector)


@pytest.mark.parametrize(
    ("protocol", "named", "shown", "said"),
    [
        ("http/protobuf", "third", "theirs", r"not trusted \(self-signed certificate\): see \w+_CERTIFICATE"),
        ("grpc", "elsewhere", "elsewhere", r"another host's: see \w+_ENDPOINT"),
    ],
)
def test_a_wrong_certificate_is_named_and_holds_nothing_up(
    project: Project, protocol: str, tmp_path: Path, named: str, shown: str, said: str
) -> None:
    project.typescript("hello", "    return {};")
    made = {name: certificates.make(tmp_path, name) for name in ("theirs", "third")}
    made["elsewhere"] = certificates.make(tmp_path, "elsewhere", host="127.0.0.2")
    with collecting(protocol, tls=made[shown]) as collector:
        port = collector.port
        trusted = str(made[named].certificate)
        sends(project, collector, OTEL_EXPORTER_OTLP_CERTIFICATE=trusted, OTEL_EXPORTER_OTLP_TIMEOUT="1000")
        server = project.start()
        assert statuses(post(server.url, "/hello", 20)) == {200}
        server.wait_for(rf"spans wait for the collector at \S+: its certificate is {said}", 60)
        assert status(project, lambda s: s.tally.away).tally.away.startswith("its certificate is ")
        recorded(project, lambda found: len(found) == 40)
        assert server.stop() == 0, server.text()
        for noise in ("Traceback", "ssl_transport_security", "retrying"):
            assert noise not in server.text()
        assert collector.received == []
    with collecting(protocol, port, tls=made["theirs"]) as collector:
        project.environment["OTEL_EXPORTER_OTLP_CERTIFICATE"] = str(made["theirs"].certificate)
        with project.serving():
            collector.wait(lambda c: len(c.ids()) >= 40)
        assert_same(project, collector)
        assert_no_spool_left(project)


@contextlib.contextmanager
def mute() -> Iterator[socket.socket]:
    """A port where connections are taken and nothing is ever read or said."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


@PROTOCOLS
def test_a_collector_that_takes_the_connection_and_says_nothing(project: Project, protocol: str) -> None:
    project.typescript("hello", "    return {};")
    with mute() as listener:
        port = listener.getsockname()[1]
        project.environment.update(
            OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{port}",
            OTEL_EXPORTER_OTLP_PROTOCOL=protocol,
            OTEL_EXPORTER_OTLP_TIMEOUT="500",
            OTEL_BSP_SCHEDULE_DELAY="50",
        )
        server = project.start()
        assert statuses(post(server.url, "/hello", 1)) == {200}
        server.wait_for(r"spans wait for the collector at", 60)
        assert statuses(post(server.url, "/hello", 20)) == {200}
        recorded(project, lambda found: len(found) == 42)
        assert server.stop() == 0, server.text()
        assert "Traceback" not in server.text()
    with collecting(protocol, port) as collector:
        with project.serving():
            collector.wait(lambda c: len(c.ids()) >= 42)
        assert_same(project, collector)
        assert_no_spool_left(project)


@PROTOCOLS
def test_a_sender_killed_with_a_request_on_the_way_sends_it_again_and_nothing_is_missing(
    project: Project, protocol: str
) -> None:
    project.typescript("hello", "    return {};")
    with collecting(protocol) as collector:
        sends(project, collector)
        server = project.start()
        for number in range(3):
            collector.hang.clear()
            asked = len(collector.headers)
            assert statuses(post(server.url, "/hello", 5)) == {200}
            collector.wait(lambda c, n=asked: len(c.headers) > n)  # the sender waits for its answer
            (sender,) = children(server, "flux.app.otlp")
            os.kill(sender, signal.SIGKILL)
            assert statuses(post(server.url, "/hello", 5)) == {200}
            collector.hang.set()
            collector.wait(lambda c, n=number: len(c.ids()) >= 20 * (n + 1))
            eventually(lambda gone=sender: gone not in children(server, "flux.app.otlp"))
        server.wait_for("the span export ended with code -9; the spool waits; starting it again")
        recorded(project, lambda found: len(found) == 60)
        assert server.stop() == 0, server.text()
        # At least once: what had come before the sender heard so came again, and is the same.
        again = {}
        for one in collector.received:
            assert again.setdefault(one.span.span_id, one.span) == one.span
        assert collector.ids() == {row["span_id"] for row in rows_of(project, "spans")}
        lost = status(project, lambda s: s.tally.exported).tally
        assert (lost.dropped, lost.lost_segments, lost.refused) == (0, 0, 0)
        assert_no_spool_left(project)
