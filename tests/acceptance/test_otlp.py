"""Spans sent to a collector: every one of the record's, as it is in the record, whatever the collector does
and whoever is killed; and no request notices.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from flux.otlp.tally import otlp_status
from flux.spool import positions
from tests.acceptance.conftest import Project, Server
from tests.collector import BUSY, KINDS, GrpcCollector, HttpCollector, Received, attributes, collecting

SECRET = "s3cr3t-of-the-collector-test"
PROTOCOLS = pytest.mark.parametrize("protocol", list(KINDS))
KINDS_OF_SPAN = ("INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER")
STATUSES = ("UNSET", "OK", "ERROR")


def sends(project: Project, collector: HttpCollector | GrpcCollector, **more: str) -> None:
    """Have the project's servers send their spans to `collector`."""
    project.environment.update(
        OTEL_EXPORTER_OTLP_ENDPOINT=collector.endpoint,
        OTEL_EXPORTER_OTLP_PROTOCOL=collector.protocol,
        OTEL_BSP_SCHEDULE_DELAY="50",
        **more,
    )


def shop(project: Project) -> None:
    """Functions in both languages, SQL, a job, a failure, a secret."""
    project.write(
        "schema/001.sql",
        "CREATE TABLE orders (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "
        "item text UNIQUE, sent boolean);",
    )
    project.typescript(
        "order",
        '    const token = await ctx.secrets.get("PROVIDER_TOKEN");\n'
        "    const id = await ctx.trace.span(`pay with ${token}`, async () => {\n"
        '      const [row] = await ctx.db.sql("insert into orders (item) values ($1) returning id",'
        " [input.item]).then((r) => r.rows ?? r);\n"
        "      return row.id;\n"
        "    });\n"
        '    await ctx.queue.push("receipt", { id });\n'
        '    return { id, price: await ctx.invoke("price", { item: input.item }) };',
    )
    project.write(
        "functions/price/main.py",
        "async def handler(input, ctx):\n"
        '    return await ctx.db.fetchval("select length($1::text)", input["item"])\n',
    )
    project.write(
        "functions/receipt/main.py",
        "async def handler(input, ctx):\n"
        '    await ctx.db.execute("update orders set sent = true where id = $1", int(input["id"]))\n',
    )
    (project.root / ".env").write_text(f"PROVIDER_TOKEN={SECRET}\n")
    project.flux("db", "push")


def rows_of(project: Project, table: str, *, where: str = "true") -> list[dict[str, Any]]:
    found = project.json("query", f"select * from flux.{table} where {where}")
    assert isinstance(found, list)
    return found


def recorded(project: Project, enough: Callable[[list[dict[str, Any]]], bool]) -> list[dict[str, Any]]:
    """The record's spans, once `enough` is true of them."""
    deadline = time.monotonic() + 60
    while True:
        found = rows_of(project, "spans")
        if enough(found):
            return found
        assert time.monotonic() < deadline, [row["name"] for row in found]


def as_recorded(received: Received) -> dict[str, Any]:
    """A span that came, in the record's words."""
    span = received.span
    return {
        "span_id": span.span_id.hex(),
        "trace_id": span.trace_id.hex(),
        "parent_span_id": span.parent_span_id.hex() or None,
        "name": span.name,
        "kind": KINDS_OF_SPAN[span.kind - 1],
        "start_ns": span.start_time_unix_nano,
        "duration_ns": span.end_time_unix_nano - span.start_time_unix_nano,
        "status": STATUSES[span.status.code],
        "status_message": span.status.message or None,
        "attributes": attributes(span.attributes),
        "events": [
            {"name": e.name, "time_ns": str(e.time_unix_nano), "attributes": attributes(e.attributes)}
            for e in span.events
        ],
        "links": [
            {"trace_id": k.trace_id.hex(), "span_id": k.span_id.hex(), "attributes": attributes(k.attributes)}
            for k in span.links
        ],
        "scope": received.scope.name,
        "resource": attributes(received.resource.attributes),
    }


def as_sent(row: dict[str, Any], resources: dict[str, Any]) -> dict[str, Any]:
    """A row of flux.spans, in the same words."""
    names = (
        "span_id", "trace_id", "parent_span_id", "name", "kind", "status", "status_message", "scope",
    )  # fmt: skip
    return {
        **{name: row[name] for name in names},
        "start_ns": int(row["start_ns"]),
        "duration_ns": int(row["duration_ns"]),
        "attributes": row["attributes"],
        "events": row["events"] or [],
        "links": row["links"] or [],
        "resource": resources[row["resource_id"]],
    }


def assert_same(project: Project, collector: HttpCollector | GrpcCollector) -> list[dict[str, Any]]:
    """Every span of the record came once, and is the same; the record's spans."""
    spans = rows_of(project, "spans")
    resources = {row["id"]: row["attributes"] for row in rows_of(project, "resources")}
    expected = {row["span_id"]: as_sent(row, resources) for row in spans}
    came = [as_recorded(received) for received in collector.received]
    assert len(came) == len({span["span_id"] for span in came}), "a span came twice"
    assert {span["span_id"] for span in came} == expected.keys()
    for span in came:
        assert span == expected[span["span_id"]]
    return spans


def children(server: Server, module: str) -> list[int]:
    """The processes of a server that run this module."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            command = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if parent == server.process.pid and module.encode() in command:
            found.append(int(entry.name))
    return found


def spool_dir(project: Project) -> Path:
    return project.root / ".flux" / "spool"


def assert_no_spool_left(project: Project) -> None:
    """What everybody is through with is deleted."""
    assert [entry.name for entry in spool_dir(project).iterdir() if entry.is_dir()] == []


def status(project: Project, enough: Callable[[Any], bool]) -> Any:
    """How the export does, once `enough` is true of it."""
    deadline = time.monotonic() + 60
    while True:
        found = otlp_status(spool_dir(project))
        if found is not None and enough(found):
            return found
        assert time.monotonic() < deadline, found
        time.sleep(0.02)


@PROTOCOLS
def test_every_span_of_the_record_arrives_as_it_is_there(project: Project, protocol: str) -> None:
    shop(project)
    with collecting(protocol) as collector:
        sends(
            project,
            collector,
            OTEL_EXPORTER_OTLP_COMPRESSION="gzip",
            OTEL_EXPORTER_OTLP_HEADERS="api-key=k%20ey,tenant=a",
            OTEL_SERVICE_NAME="shop",
            OTEL_RESOURCE_ATTRIBUTES="deployment.environment.name=test,team=a%2Cb",
        )
        caller = {"traceparent": f"00-{'ab' * 16}-{'cd' * 8}-01", "tracestate": "vendor=1"}
        with project.serving() as client:
            first = client.post("/order", json={"item": "tea"}, headers=caller)
            again = client.post("/order", json={"item": "tea"})
            lost = client.get("/nowhere")
            assert (first.status_code, again.status_code, lost.status_code) == (200, 500, 404), first.text
            recorded(project, lambda found: any(row["name"].endswith("receipt") for row in found))
        collector.wait(lambda c: len(c.ids()) >= len(rows_of(project, "spans")))
        spans = assert_same(project, collector)

        kinds = {(row["kind"], row["status"]) for row in spans}
        assert {kind for kind, _ in kinds} == set(KINDS_OF_SPAN)
        assert ("CLIENT", "ERROR") in kinds
        assert any(row["links"] for row in spans)
        assert any(row["events"] for row in spans)
        sent = b"".join(request.SerializeToString() for request in collector.requests)
        assert b"pay with [redacted:PROVIDER_TOKEN]" in sent
        assert SECRET.encode() not in sent

        received = {one.span.span_id.hex(): one for one in collector.received}
        trace = [one for one in received.values() if one.span.trace_id.hex() == "ab" * 16]
        root = next(one.span for one in trace if one.span.parent_span_id.hex() == "cd" * 8)
        assert root.flags == 0x300  # the parent is known to be remote
        assert all(one.span.trace_state == "vendor=1" for one in trace)
        assert len(trace) > 5
        for one in trace:
            if one.span.span_id != root.span_id:
                assert one.span.parent_span_id.hex() in received
                assert one.span.flags == 0x100
        assert all(
            (one.span.dropped_attributes_count, one.span.dropped_events_count, one.span.dropped_links_count)
            == (0, 0, 0)
            for one in received.values()
        )
        resource = attributes(next(iter(received.values())).resource.attributes)
        assert (resource["service.name"], resource["team"]) == ("shop", "a,b")
        assert {one.scope.version for one in trace if one.scope.name == "flux"} != {""}
        headers = collector.headers[0]
        assert (headers["api-key"], headers["tenant"]) == ("k ey", "a")
        if protocol == "http/protobuf":
            assert (headers["content-encoding"], headers["path"]) == ("gzip", "/v1/traces")
        assert status(project, lambda s: s.tally.exported).tally.exported == len(spans)
        assert_no_spool_left(project)


@PROTOCOLS
def test_what_was_recorded_while_the_collector_was_away_arrives_later(
    project: Project, protocol: str
) -> None:
    project.typescript("hello", "    return {};")
    with collecting(protocol) as collector:
        port = collector.port
        sends(project, collector)
    with project.serving() as client:
        for _ in range(20):
            assert client.post("/hello", json={}).status_code == 200
        status(project, lambda s: s.tally.away)
        with collecting(protocol, port) as collector:
            collector.wait(lambda c: len(c.names) >= 40)
            for _ in range(5):
                client.post("/hello", json={})
            collector.wait(lambda c: len(c.names) >= 50)
            recorded(project, lambda found: len(found) >= 50)
            assert_same(project, collector)
            assert status(project, lambda s: s.tally.exported == 50).tally.away is None
        project.servers[0].wait_for("takes spans again")


@PROTOCOLS
def test_a_collector_that_hangs_delays_neither_requests_nor_the_record_nor_the_end(
    project: Project, protocol: str
) -> None:
    project.typescript("hello", "    return {};")
    with collecting(protocol) as collector:
        sends(project, collector)
        collector.hang.clear()
        server = project.start()
        with httpx.Client(base_url=server.url, timeout=30, trust_env=False) as client:
            client.post("/hello", json={})
            collector.wait(lambda c: len(c.headers) >= 1)  # it has a request, and sits on it
            for _ in range(50):
                assert client.post("/hello", json={}).status_code == 200
        assert len(recorded(project, lambda found: len(found) >= 102)) == 102
        began = time.monotonic()
        assert server.stop() == 0, server.text()
        assert time.monotonic() - began < 30
        collector.hang.set()
        collector.behaviour = lambda request: None
        with project.serving():
            collector.wait(lambda c: len(c.ids()) >= 102)
        assert_no_spool_left(project)


@PROTOCOLS
def test_a_killed_server_s_spans_are_sent_by_the_next_and_nothing_twice(
    project: Project, protocol: str
) -> None:
    project.typescript("hello", "    return {};")
    with collecting(protocol) as collector:
        sends(project, collector)
        server = project.start()
        with httpx.Client(base_url=server.url, timeout=30, trust_env=False) as client:
            client.post("/hello", json={})
            collector.wait(lambda c: len(c.names) >= 2)
            collector.behaviour = lambda request: BUSY
            for _ in range(10):
                client.post("/hello", json={})
            recorded(project, lambda found: len(found) >= 22)
            collector.wait(lambda c: c.refused >= 1)
            (sender,) = children(server, "flux.app.otlp")
            os.kill(server.process.pid, signal.SIGSTOP)  # or it would start another
            os.kill(sender, signal.SIGKILL)
            server.kill()
        assert len(collector.names) == 2
        collector.behaviour = lambda request: None
        with project.serving():
            collector.wait(lambda c: len(c.names) >= 22)
        assert_same(project, collector)
        sent = len(collector.requests)
        with project.serving() as client:
            client.post("/hello", json={})
            collector.wait(lambda c: len(c.names) >= 24)
        assert len(collector.requests) == sent + 1
        assert_same(project, collector)
        assert_no_spool_left(project)


def test_a_sender_that_dies_is_started_again_and_goes_on_where_it_was(project: Project) -> None:
    project.typescript("hello", "    return {};")
    with collecting("http/protobuf") as collector:
        sends(project, collector)
        server = project.start()
        with httpx.Client(base_url=server.url, timeout=30, trust_env=False) as client:
            for number in range(3):
                client.post("/hello", json={})
                collector.wait(lambda c, n=number: len(c.names) >= 2 * (n + 1))
                (sender,) = children(server, "flux.app.otlp")
                folder = next(spool_dir(project).glob("[!.]*"))
                _until(lambda f=folder: _written(f))
                os.kill(sender, signal.SIGKILL)
        assert server.stop() == 0
        recorded(project, lambda found: len(found) == 6)
        assert_same(project, collector)


def _written(folder: Path) -> bool:
    """Whether the position is at the end of the only segment."""
    position = positions.read(folder)
    (segment,) = folder.glob("*.seg")
    return position is not None and position.offset == segment.stat().st_size


def _until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_collector_that_stays_away_costs_a_bounded_room_and_the_drops_are_counted(project: Project) -> None:
    project.typescript("big", "    return { text: 'x'.repeat(30_000) };")
    (project.root / "flux.toml").write_text('name = "app"\notlp_limit = "512KiB"\nspool_limit = "4MiB"\n')
    with collecting("http/protobuf") as collector:
        port = collector.port
        sends(project, collector)
    with project.serving() as client:
        for _ in range(20):  # 9 MB, more than twice what the spool takes
            for _ in range(15):
                assert client.post("/big", json={}).status_code == 200
            status(project, lambda s: s.waiting <= 512 * 1024)
        recorded(project, lambda found: len(found) == 600)
        _until(lambda: sum(file.stat().st_size for file in spool_dir(project).rglob("*.seg")) < 2**20)
        assert 0 < status(project, lambda s: s.waiting <= 512 * 1024).tally.dropped < 600
        with collecting("http/protobuf", port) as collector:
            there = status(project, lambda s: s.tally.exported + s.tally.dropped >= 600)
            assert there.tally.exported + there.tally.dropped == 600
            assert (there.tally.lost_segments, there.tally.refused) == (0, 0)
            assert len(collector.ids()) == len(collector.names) == there.tally.exported > 0
            spans = {row["span_id"] for row in rows_of(project, "spans")}
            assert collector.ids() < spans
    project.servers[0].wait_for(r"\d+ spans were dropped")


def test_a_caller_who_does_not_sample_is_recorded_and_not_sent(project: Project) -> None:
    project.typescript("inner", "    return {};")
    project.typescript("outer", '    return await ctx.invoke("inner", {});')
    with collecting("grpc") as collector:
        sends(project, collector)
        with project.serving() as client:
            client.post("/outer", json={}, headers={"traceparent": f"00-{'11' * 16}-{'22' * 8}-00"})
            client.post("/outer", json={}, headers={"traceparent": f"00-{'33' * 16}-{'44' * 8}-01"})
            spans = recorded(project, lambda found: len(found) >= 8)
            collector.wait(lambda c: len(c.names) >= 4)
        assert {one.span.trace_id.hex() for one in collector.received} == {"33" * 16}
        assert len([row for row in spans if row["trace_id"] == "11" * 16]) == len(collector.names)
        assert status(project, lambda s: s.tally.unsampled).tally.unsampled == len(collector.names)


def test_what_the_record_leaves_out_is_not_sent_either(project: Project) -> None:
    project.typescript("quiet", "    return {};", record="none")
    project.typescript("failing", '    if (input.fail) throw new Error("no");', record="errors")
    with collecting("http/protobuf") as collector:
        sends(project, collector)
        with project.serving() as client:
            client.post("/quiet", json={})
            client.post("/failing", json={})
            assert client.post("/failing", json={"fail": True}).status_code == 500
            collector.wait(lambda c: len(c.names) >= 2)
        assert len(assert_same(project, collector)) == len(collector.names) == 2


def test_bad_variables_are_named_and_stop_nothing_but_the_export(project: Project) -> None:
    project.typescript("hello", "    return {};")
    project.environment.update(OTEL_EXPORTER_OTLP_ENDPOINT="collector:4318", OTEL_TRACES_SAMPLER="sometimes")
    with project.serving() as client:
        assert client.post("/hello", json={}).status_code == 200
        project.servers[0].wait_for(r"OTEL_EXPORTER_OTLP_ENDPOINT=collector:4318: .* spans are sent nowhere")
    assert not list(spool_dir(project).glob(".otlp.json"))
    with collecting("http/protobuf") as collector:
        sends(project, collector, OTEL_EXPORTER_OTLP_COMPRESSION="lz4")
        with project.serving() as client:
            client.post("/hello", json={})
            project.servers[1].wait_for(r"OTEL_TRACES_SAMPLER=sometimes")
            project.servers[1].wait_for(r"OTEL_EXPORTER_OTLP_COMPRESSION=lz4")
            collector.wait(lambda c: len(c.names) >= 2)
