"""What a collector says to a request, over both protocols, and what the export makes of it."""

from __future__ import annotations

import random
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceResponse,
)
from opentelemetry.sdk.resources import Resource

from flux.otlp.exports import Exports
from flux.otlp.sender import Away, Refused, Sent, sender
from flux.otlp.settings import Settings, settings
from flux.otlp.tally import Tally, otlp_status
from flux.record.events import Resource as NamedResource
from flux.record.events import Spans
from flux.recorder.processor import RecordProcessor
from flux.recorder.recorder import Recorder
from flux.recorder.telemetry import RecordingProvider
from flux.spool import folder as folders
from flux.spool import positions
from flux_postgres_exporter import rows
from tests import certificates
from tests.collector import BAD, BROKEN, BUSY, DENIED, KINDS, Fault, GrpcCollector, HttpCollector, collecting
from tests.integration.drain.recorded import recorder

NEVER = threading.Event()


@pytest.fixture(params=list(KINDS))
def collector(request: Any) -> Iterator[HttpCollector | GrpcCollector]:
    with collecting(request.param) as made:
        yield made


def settings_of(collector: HttpCollector | GrpcCollector, **more: str) -> Settings:
    found, _ = settings(
        {
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint,
            "OTEL_EXPORTER_OTLP_PROTOCOL": collector.protocol,
            "OTEL_EXPORTER_OTLP_TIMEOUT": "500",
            **more,
        }
    )
    assert found is not None
    return found


def spool(tmp_path: Path, **more: Any) -> Recorder:
    return recorder(tmp_path / "spool", otlp_limit=2**20, **more)


def write(made: Recorder, *names: str) -> None:
    """Spans with these names, in one record."""
    provider = RecordingProvider(RecordProcessor(made), Resource({"service.name": "test"}))
    tracer = provider.get_tracer("t")
    for name in names:
        tracer.start_span(name).end()
    provider.force_flush()


def exports(made: Recorder, collector: HttpCollector | GrpcCollector, **more: str) -> Exports:
    asked = settings_of(collector, **more)
    return Exports(made.journal.spool.folder.parent, made.node, asked, sender(asked), limit=2**20)


def tally(made: Recorder) -> Tally:
    found = otlp_status(made.journal.spool.folder.parent)
    assert found is not None
    return found.tally


def has(name: str) -> Callable[[Any], bool]:
    """Whether a request holds a span of that name."""
    return lambda request: any(
        span.name == name
        for group in request.resource_spans
        for scoped in group.scope_spans
        for span in scoped.spans
    )


def test_a_poisoned_span_is_found_and_dropped_and_the_rest_arrives(
    tmp_path: Path, collector: HttpCollector | GrpcCollector
) -> None:
    made = spool(tmp_path)
    names = [f"span {n}" for n in range(40)]
    write(made, *names)
    poisoned = has("span 17")
    collector.behaviour = lambda request: BAD if poisoned(request) else None
    sending = exports(made, collector)
    assert sending.once(NEVER) is None
    sending.close()
    assert sorted(collector.names) == sorted(set(names) - {"span 17"})
    assert collector.refused < 10
    found = tally(made)
    assert (found.exported, found.refused, found.dropped) == (39, 1, 0)
    assert "refuses 1 spans" in str(found.last_error)
    made.close()


@pytest.mark.parametrize(
    ("shown", "trusted", "said"),
    [
        (
            "theirs",
            "other",
            r"its certificate is not trusted \(self.signed certificate\): see \w+_CERTIFICATE",
        ),
        ("theirs", None, r"its certificate is not trusted \(self.signed certificate\): see \w+_CERTIFICATE"),
        ("elsewhere", "elsewhere", r"its certificate is another host's: see \w+_ENDPOINT"),
        (None, "theirs", r"it does not speak TLS: see \w+_ENDPOINT"),
    ],
)
@pytest.mark.parametrize("protocol", list(KINDS))
def test_what_is_wrong_with_tls_is_said_in_words(
    tmp_path: Path, protocol: str, shown: str | None, trusted: str | None, said: str
) -> None:
    made = {name: certificates.make(tmp_path, name) for name in ("theirs", "other")}
    made["elsewhere"] = certificates.make(tmp_path, "elsewhere", host="127.0.0.2")
    more = {} if trusted is None else {"OTEL_EXPORTER_OTLP_CERTIFICATE": str(made[trusted].certificate)}
    with collecting(protocol, tls=made[shown] if shown else None) as collector:
        endpoint = f"https://127.0.0.1:{collector.port}"
        answer = sender(settings_of(collector, OTEL_EXPORTER_OTLP_ENDPOINT=endpoint, **more)).send([])
        assert isinstance(answer, Away)
        assert re.fullmatch(said, answer.reason)
        assert collector.headers == []


def test_a_collector_that_refuses_everything_is_not_asked_for_every_span(
    tmp_path: Path, collector: HttpCollector | GrpcCollector
) -> None:
    made = spool(tmp_path)
    write(made, *(f"span {n}" for n in range(200)))
    collector.behaviour = lambda request: BAD
    sending = exports(made, collector)
    assert sending.once(NEVER) is None
    sending.close()
    assert tally(made).refused == 200
    assert collector.refused < 150
    made.close()


def test_a_partial_success_is_counted(tmp_path: Path, collector: HttpCollector | GrpcCollector) -> None:
    made = spool(tmp_path)
    write(made, "a", "b", "c")
    partial = ExportTracePartialSuccess(rejected_spans=2, error_message="too long a name")
    collector.behaviour = lambda request: ExportTraceServiceResponse(partial_success=partial)
    sending = exports(made, collector)
    assert sending.once(NEVER) is None
    sending.close()
    found = tally(made)
    assert (found.exported, found.rejected) == (1, 2)
    assert "too long a name" in str(found.last_error)
    made.close()


@pytest.mark.parametrize("fault", [BUSY, DENIED], ids=["busy", "denied"])
def test_spans_wait_for_a_collector_that_takes_none(
    tmp_path: Path, collector: HttpCollector | GrpcCollector, fault: Fault
) -> None:
    made = spool(tmp_path)
    write(made, "a", "b")
    collector.behaviour = lambda request: fault
    sending = exports(made, collector)
    away = sending.once(NEVER)
    assert isinstance(away, Away)
    if fault is DENIED:
        assert "OTEL_EXPORTER_OTLP_HEADERS" in away.reason
    collector.behaviour = lambda request: None
    assert sending.once(NEVER) is None
    sending.close()
    assert collector.names == ["a", "b"]
    assert (tally(made).exported, tally(made).refused) == (2, 0)
    made.close()


def test_a_collector_s_own_fault_is_believed_the_fourth_time(
    tmp_path: Path, collector: HttpCollector | GrpcCollector
) -> None:
    made = spool(tmp_path)
    write(made, "a")
    collector.behaviour = lambda request: BROKEN
    sending = exports(made, collector)
    assert [isinstance(sending.once(NEVER), Away) for _ in range(4)] == [True, True, True, False]
    sending.close()
    assert tally(made).refused == 1
    made.close()


def test_the_answers_in_so_many_words() -> None:
    with collecting("http/protobuf") as http:
        one = sender(settings_of(http))
        answers = {}
        for status, headers in {302: {"location": "/"}, 404: {}, 413: {}, 429: {"retry-after": "7"}}.items():
            fault = Fault(status, grpc.StatusCode.OK, headers)
            http.behaviour = lambda request, fault=fault: fault
            answers[status] = one.send([])
        http.behaviour = lambda request: None
        answers[200] = one.send([])
    assert answers[200] == Sent()
    assert isinstance(answers[413], Refused)
    assert isinstance(answers[429], Away)
    assert answers[429].after == 7
    for status in (302, 404):
        assert isinstance(answers[status], Away)
        assert "OTEL_EXPORTER_OTLP_ENDPOINT" in answers[status].reason


def test_a_large_record_goes_in_requests_of_the_asked_size(
    tmp_path: Path, collector: HttpCollector | GrpcCollector
) -> None:
    made = spool(tmp_path)
    write(made, *(f"span {n}" for n in range(25)))
    sending = exports(made, collector, OTEL_BSP_MAX_EXPORT_BATCH_SIZE="10")
    assert sending.once(NEVER) is None
    sending.close()
    assert len(collector.requests) == 3
    assert len(set(collector.names)) == 25
    made.close()


def test_what_was_sent_is_not_sent_again_and_a_copy_of_a_spool_never_is(
    tmp_path: Path, collector: HttpCollector | GrpcCollector
) -> None:
    made = spool(tmp_path)
    write(made, "a")
    folder = made.journal.spool.folder
    shutil.copytree(folder, folder.parent / ("c" * 32))
    for number in range(3):
        sending = exports(made, collector)
        assert sending.once(NEVER) is None
        other = exports(made, collector)  # another process, at the same time
        assert other.once(NEVER) is None
        other.close()
        sending.close()
        assert len(collector.names) == number + 1
        write(made, "b")
    position = positions.read(folder)
    assert position is not None
    assert len(position.resources) == 1
    made.close()


def test_a_copy_that_is_adopted_is_sent_from_where_the_original_was(
    tmp_path: Path, collector: HttpCollector | GrpcCollector
) -> None:
    made = spool(tmp_path)
    write(made, "a")
    folder = made.journal.spool.folder
    sending = exports(made, collector)
    assert sending.once(NEVER) is None
    write(made, "b")
    copy = folder.with_name("c" * 32)
    shutil.copytree(folder, copy)
    made.close()
    shutil.rmtree(folder)
    assert sending.once(NEVER) is None
    assert collector.names == ["a"]
    assert folders.adopt(copy) == folder
    assert sending.once(NEVER) is None
    assert collector.names == ["a", "b"]
    sending.close()


def test_values_that_are_no_span_cost_themselves_only(
    tmp_path: Path, collector: HttpCollector | GrpcCollector
) -> None:
    made = spool(tmp_path)
    write(made, "before")
    draw = random.Random(7)
    wrong = [None, -1, 2**63, 1.5, "x", "\0", b"y", [], [1], {}, {"a": []}, True]
    good = rows.encode(_ended(made))
    for _ in range(60):
        row = list(good)
        for _ in range(draw.randint(1, 3)):
            row[draw.randrange(len(row))] = draw.choice(wrong)
        row[rows.NAME] = row[rows.NAME] if row[rows.NAME] != good[rows.NAME] else "wrong"
        made.journal.write(Spans([tuple(row), tuple(row[: draw.randrange(18)])]), {})
    made.journal.write(NamedResource("r", "no json"), {})
    write(made, "after")
    sending = exports(
        made, collector, OTEL_TRACES_SAMPLER="traceidratio", OTEL_TRACES_SAMPLER_ARG="0.9999999"
    )
    assert sending.once(NEVER) is None
    sending.close()
    assert {"before", "after"} <= set(collector.names)
    found = tally(made)
    assert found.refused > 20
    assert found.exported == len(collector.names)
    made.close()


def _ended(made: Recorder) -> Any:
    tracer = RecordingProvider(RecordProcessor(made), Resource({})).get_tracer("t")
    span = tracer.start_span("good")
    span.end()
    return span
