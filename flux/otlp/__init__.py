"""The record's spans sent to an OpenTelemetry collector: a second consumer of the spool, beside Postgres.

A process of its own (`flux.app.otlp`) reads the same files and has its own position in them, so that
neither a request nor the drain ever waits for a collector.
"""
