"""Spans into a Flux database, from any Python program that uses the OpenTelemetry SDK.

`PostgresSpanExporter` is an ordinary SpanExporter, found as `flux_postgres` by `OTEL_TRACES_EXPORTER`.
Flux's own recorder writes its spans through the same rows. Nothing here imports `flux`.
"""

from flux_postgres_exporter.exporter import PostgresSpanExporter

__all__ = ["PostgresSpanExporter"]
