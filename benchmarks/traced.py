"""bare.py with the usual OpenTelemetry around it: the ASGI and asyncpg instrumentors, BatchSpanProcessor with
its defaults, OTLP over HTTP with protobuf to OTEL_EXPORTER_OTLP_ENDPOINT.

    benchmarks/.venv/bin/python benchmarks/traced.py PORT DATABASE
"""

from __future__ import annotations

import sys

import uvloop
from bare import app, main
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from opentelemetry.instrumentation.asyncpg import AsyncPGInstrumentor
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

if __name__ == "__main__":
    provider = TracerProvider(resource=Resource.create({"service.name": "traced"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    AsyncPGInstrumentor().instrument()
    app.asgi_app = OpenTelemetryMiddleware(app.asgi_app)
    uvloop.run(main(int(sys.argv[1]), sys.argv[2]))
    provider.shutdown()
