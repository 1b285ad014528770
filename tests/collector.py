"""A collector for the tests: a real OTLP receiver, over gRPC or HTTP, that keeps what it was sent and can
be told to misbehave.
"""

from __future__ import annotations

import gzip
import ssl
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.certificates import Certificate


@dataclass(frozen=True)
class Fault:
    """Refuse with this: an HTTP status, and the gRPC code that means the same."""

    status: int
    code: grpc.StatusCode
    headers: dict[str, str] = field(default_factory=dict)


BUSY = Fault(503, grpc.StatusCode.UNAVAILABLE)
BAD = Fault(400, grpc.StatusCode.INVALID_ARGUMENT)
DENIED = Fault(401, grpc.StatusCode.UNAUTHENTICATED)
BROKEN = Fault(500, grpc.StatusCode.INTERNAL)

Behaviour = Callable[[ExportTraceServiceRequest], Fault | ExportTraceServiceResponse | None]
"""What comes of a request: a fault (its spans are not kept), a partial success, or None: all is well."""


@dataclass(frozen=True)
class Received:
    """A span as it came, and under what."""

    span: Span
    scope: InstrumentationScope
    resource: Resource


class Collector:
    """What both kinds have in common.

    Args:
        tls: what it shows of itself; without it speaks plain text.
        clients: the certificate that whoever comes must show, with `tls`.

    Attributes:
        behaviour: asked about every request.
        requests: those that were taken; headers: of every request, names in lower case.
        refused: how many were not taken.
    """

    def __init__(self, tls: Certificate | None = None, clients: Certificate | None = None) -> None:
        self.tls = tls
        self.clients = clients
        self.behaviour: Behaviour = lambda request: None
        self.requests: list[ExportTraceServiceRequest] = []
        self.headers: list[dict[str, str]] = []
        self.refused = 0
        self.hang = threading.Event()
        self.hang.set()
        self._changed = threading.Condition()

    @property
    def port(self) -> int:
        raise NotImplementedError

    @property
    def endpoint(self) -> str:
        """What OTEL_EXPORTER_OTLP_ENDPOINT takes."""
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"

    def take(
        self, request: ExportTraceServiceRequest, headers: dict[str, str]
    ) -> Fault | ExportTraceServiceResponse:
        """A request has come."""
        with self._changed:
            self.headers.append(headers)
            self._changed.notify_all()
        self.hang.wait(60)
        answer = self.behaviour(request)
        with self._changed:
            if isinstance(answer, Fault):
                self.refused += 1
            else:
                self.requests.append(request)
            self._changed.notify_all()
        return ExportTraceServiceResponse() if answer is None else answer

    @property
    def received(self) -> list[Received]:
        """Every span that was taken, as often as it came."""
        with self._changed:
            return [
                Received(span, scoped.scope, group.resource)
                for request in self.requests
                for group in request.resource_spans
                for scoped in group.scope_spans
                for span in scoped.spans
            ]

    @property
    def names(self) -> list[str]:
        """The names of the spans that were taken."""
        return [received.span.name for received in self.received]

    def ids(self) -> set[str]:
        """The ids of the spans that were taken."""
        return {received.span.span_id.hex() for received in self.received}

    def wait(self, enough: Callable[[Collector], bool], seconds: float = 60) -> None:
        """Wait until `enough` is true of what has come."""
        with self._changed:
            assert self._changed.wait_for(lambda: enough(self), seconds), (
                f"{len(self.requests)} requests taken, {self.refused} refused, spans: {self.names}"
            )


class HttpCollector(Collector):
    """OTLP over HTTP with protobuf."""

    protocol: ClassVar = "http/protobuf"

    def __init__(
        self, port: int = 0, tls: Certificate | None = None, clients: Certificate | None = None
    ) -> None:
        super().__init__(tls, clients)
        collector = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                headers = {name.lower(): value for name, value in self.headers.items()} | {"path": self.path}
                if headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                answer = collector.take(ExportTraceServiceRequest.FromString(body), headers)
                fault = answer if isinstance(answer, Fault) else None
                data = b"no" if isinstance(answer, Fault) else answer.SerializeToString()
                try:
                    self.send_response(200 if fault is None else fault.status)
                    for name, value in ({} if fault is None else fault.headers).items():
                        self.send_header(name, value)
                    self.send_header("content-type", "application/x-protobuf")
                    self.send_header("content-length", str(len(data)))
                    self.end_headers()
                    self.wfile.write(data)
                except OSError:
                    self.close_connection = True

            def log_message(self, *_: Any) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        if tls is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(tls.certificate, tls.key)
            if clients is not None:
                context.verify_mode = ssl.CERT_REQUIRED
                context.load_verify_locations(clients.certificate)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def close(self) -> None:
        """Stop."""
        self.hang.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class GrpcCollector(Collector):
    """OTLP over gRPC."""

    protocol: ClassVar = "grpc"

    def __init__(
        self, port: int = 0, tls: Certificate | None = None, clients: Certificate | None = None
    ) -> None:
        super().__init__(tls, clients)
        collector = self

        class Service(TraceServiceServicer):  # type: ignore[misc]
            def Export(self, request: Any, context: Any) -> Any:  # noqa: N802
                headers = {str(name): str(value) for name, value in context.invocation_metadata()}
                answer = collector.take(request, headers)
                if isinstance(answer, Fault):
                    context.abort(answer.code, "no")
                return answer

        self._server = grpc.server(ThreadPoolExecutor(8))
        add_TraceServiceServicer_to_server(Service(), self._server)
        if tls is None:
            self._port = self._server.add_insecure_port(f"127.0.0.1:{port}")
        else:
            identity = (tls.key.read_bytes(), tls.certificate.read_bytes())
            trusted = None if clients is None else clients.certificate.read_bytes()
            credentials = grpc.ssl_server_credentials([identity], trusted, clients is not None)
            self._port = self._server.add_secure_port(f"127.0.0.1:{port}", credentials)
        self._server.start()

    @property
    def port(self) -> int:
        return self._port

    def close(self) -> None:
        """Stop."""
        self.hang.set()
        self._server.stop(None).wait(10)


KINDS: dict[str, type[HttpCollector] | type[GrpcCollector]] = {
    "http/protobuf": HttpCollector,
    "grpc": GrpcCollector,
}


@contextmanager
def collecting(
    protocol: str, port: int = 0, tls: Certificate | None = None, clients: Certificate | None = None
) -> Iterator[HttpCollector | GrpcCollector]:
    """A collector that is closed at the end."""
    made = KINDS[protocol](port, tls, clients)
    try:
        yield made
    finally:
        made.close()


def value(given: AnyValue) -> Any:
    """A value as Python has it."""
    kind = given.WhichOneof("value")
    if kind == "array_value":
        return [value(item) for item in given.array_value.values]
    if kind == "kvlist_value":
        return attributes(given.kvlist_value.values)
    return None if kind is None else getattr(given, kind)


def attributes(given: Any) -> dict[str, Any]:
    """Attributes as Python has them; none twice."""
    items: list[KeyValue] = list(given)
    made = {item.key: value(item.value) for item in items}
    assert len(made) == len(items)
    return made
