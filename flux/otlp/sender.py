"""Sends spans to a collector through OpenTelemetry's own exporters, and says what came of it.

The exporters answer success or failure only. What the collector said is heard beside them: whether to come
again (and when), whether these spans are at fault, how many of them it left out.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import grpc
import requests
from google.rpc.error_details_pb2 import RetryInfo
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from flux.otlp import tls
from flux.otlp.settings import OTLP, Settings

LONGEST_WORD = 200
"""Characters of a collector's answer that are repeated."""
_QUIET = ("opentelemetry.exporter", "opentelemetry.exporter.otlp.proto.common", "urllib3")


@dataclass(frozen=True)
class Sent:
    """The collector has them, but for `rejected` of them. `message`: what it had to say."""

    rejected: int = 0
    message: str = ""


@dataclass(frozen=True)
class Away:
    """They can't be had now. `after`: seconds that the collector asks to wait, 0 where it says nothing."""

    reason: str
    after: float = 0.0


@dataclass(frozen=True)
class Refused:
    """The request is at fault: sent again as it is it would be refused again. `doubtful`: unless the
    collector has a bug or a bad day (500).
    """

    reason: str
    doubtful: bool = False


Answer = Sent | Away | Refused


class Sender(Protocol):
    """Sends one request. Blocks for at most about the settings' timeout."""

    def send(self, spans: Sequence[ReadableSpan]) -> Answer:
        """Send these spans; never raises."""
        ...


def sender(settings: Settings) -> Sender:
    """The sender that the settings ask for."""
    for name in _QUIET:  # they say on every attempt what is said once, by whoever asked
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    return GrpcSender(settings) if settings.protocol == "grpc" else HttpSender(settings)


class HttpSender:
    """OTLP over HTTP, protobuf."""

    def __init__(self, settings: Settings) -> None:
        self._session = _Session()
        self._exporter: SpanExporter = HttpExporter(
            settings.endpoint,
            settings.certificate,
            settings.client_key,
            settings.client_certificate,
            dict(settings.headers),
            settings.timeout,
            Compression.Gzip if settings.gzip else Compression.NoCompression,
            self._session,
            max_request_size=0,
        )

    def send(self, spans: Sequence[ReadableSpan]) -> Answer:
        """See Sender."""
        session = self._session
        session.answered, session.failed = None, None
        try:
            self._exporter.export(spans)
        except Exception as error:
            return Refused(_word(error))
        if session.answered is not None:
            return _from_http(session.answered)
        return Refused("they can't be encoded") if session.failed is None else Away(_lost(session.failed))


class _Session(requests.Session):
    """Remembers how the last request went."""

    answered: requests.Response | None = None
    failed: Exception | None = None

    def request(self, *arguments: Any, **named: Any) -> requests.Response:
        self.answered = None
        # Said with each request: what a session says gives way to REQUESTS_CA_BUNDLE.
        named.setdefault("verify", self.verify)
        try:
            self.answered = super().request(*arguments, **named)
        except Exception as error:
            self.failed = error
            raise
        return self.answered


class GrpcSender:
    """OTLP over gRPC."""

    def __init__(self, settings: Settings) -> None:
        credentials = None
        if not settings.insecure:
            credentials = grpc.ssl_channel_credentials(
                _file(settings.certificate), _file(settings.client_key), _file(settings.client_certificate)
            )
        self._exporter = _Grpc(
            settings.endpoint,
            settings.insecure,
            credentials,
            dict(settings.headers) or None,
            settings.timeout,
            grpc.Compression.Gzip if settings.gzip else grpc.Compression.NoCompression,
            retryable_error_codes=_AGAIN,
        )

    def send(self, spans: Sequence[ReadableSpan]) -> Answer:
        """See Sender."""
        exporter = self._exporter
        exporter.answered, exporter.failed = None, None
        try:
            result = exporter.export(spans)
        except Exception as error:
            if exporter.failed is None:
                return Refused(_word(error))
        else:
            if result is SpanExportResult.SUCCESS:
                return _sent(exporter.answered or ExportTraceServiceResponse())
        return Away("the exporter gave up") if exporter.failed is None else _from_grpc(exporter.failed)


class _Grpc(GrpcExporter):
    """Remembers how the last call went."""

    answered: ExportTraceServiceResponse | None = None
    failed: grpc.RpcError | None = None

    def _initialize_channel_and_stub(self) -> None:
        super()._initialize_channel_and_stub()  # type: ignore[no-untyped-call]
        self._client: Any = _Heard(self, self._client)


class _Heard:
    """A stub whose answers the exporter keeps."""

    def __init__(self, exporter: _Grpc, stub: Any) -> None:
        self._exporter, self._stub = exporter, stub

    def Export(self, **call: Any) -> Any:  # noqa: N802
        self._exporter.failed = None
        try:
            self._exporter.answered = self._stub.Export(**call)
        except grpc.RpcError as error:
            self._exporter.failed = error
            raise
        return self._exporter.answered


_CODE = grpc.StatusCode
_AGAIN = frozenset(
    {
        _CODE.CANCELLED,
        _CODE.DEADLINE_EXCEEDED,
        _CODE.ABORTED,
        _CODE.OUT_OF_RANGE,
        _CODE.UNAVAILABLE,
        _CODE.DATA_LOSS,
    }
)
"""What the OTLP specification calls retryable; RESOURCE_EXHAUSTED is only with a RetryInfo."""
_ADMISSION = {
    _CODE.UNAUTHENTICATED: "HEADERS",
    _CODE.PERMISSION_DENIED: "HEADERS",
    _CODE.UNIMPLEMENTED: "ENDPOINT",
    _CODE.NOT_FOUND: "ENDPOINT",
    401: "HEADERS",
    403: "HEADERS",
    404: "ENDPOINT",
    405: "ENDPOINT",
    407: "HEADERS",
}
"""No spans would be taken like this: they wait until somebody has corrected the variable."""


def _from_http(answer: requests.Response) -> Answer:
    status = answer.status_code
    if 200 <= status < 300:
        try:
            return _sent(ExportTraceServiceResponse.FromString(answer.content))
        except Exception:
            return Sent()
    reason = f"{status} {_word(answer.reason)}"
    if 300 <= status < 400:
        return Away(f"{reason}: see {OTLP}ENDPOINT")
    if status in (429, 502, 503, 504, 408):
        return Away(reason, _seconds(answer.headers.get("retry-after")))
    if status in _ADMISSION:
        return Away(f"{reason}: see {OTLP}{_ADMISSION[status]}")
    return Refused(reason, doubtful=status >= 500)


def _from_grpc(error: Any) -> Answer:
    code = error.code()
    details = error.details() or ""
    wrong = tls.trouble(details) if code is _CODE.UNAVAILABLE else None
    if wrong is not None:
        return Away(f"{wrong[0]}: see {OTLP}{wrong[1]}")
    reason = f"{code.name} {_word(details)}".strip()
    after = 0.0
    for name, value in error.trailing_metadata() or ():
        if name == "google.rpc.retryinfo-bin":
            info = RetryInfo.FromString(value)
            after = info.retry_delay.seconds + info.retry_delay.nanos / 1e9
    if code in _AGAIN or (code is _CODE.RESOURCE_EXHAUSTED and after):
        return Away(reason, after)
    if code in _ADMISSION:
        return Away(f"{reason}: see {OTLP}{_ADMISSION[code]}")
    return Refused(reason, doubtful=code in (_CODE.UNKNOWN, _CODE.INTERNAL))


def _sent(response: ExportTraceServiceResponse) -> Sent:
    partial = response.partial_success
    return Sent(max(partial.rejected_spans, 0), _word(partial.error_message))


def _seconds(retry_after: str | None) -> float:
    try:
        seconds = float(retry_after or 0)
    except ValueError:
        return 0.0
    return max(seconds, 0.0) if math.isfinite(seconds) else 0.0


def _lost(error: Exception) -> str:
    wrong = tls.trouble(str(error)) if isinstance(error, requests.exceptions.SSLError) else None
    return _word(error) if wrong is None else f"{wrong[0]}: see {OTLP}{wrong[1]}"


def _word(said: object) -> str:
    text = str(said) if not isinstance(said, Exception) else f"{type(said).__name__}: {said}"
    return "".join(c if c.isprintable() else " " for c in text)[:LONGEST_WORD]


def _file(path: str | None) -> bytes | None:
    if path is None:
        return None
    with open(path, "rb") as file:
        return file.read()
