"""A Quart program without Flux whose spans go into a Flux database.

FLUX_POSTGRES_EXPORTER_DSN=postgresql://… python app.py
"""

from __future__ import annotations

import os

from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from quart import Quart

from flux_postgres_exporter import PostgresSpanExporter

app = Quart(__name__)
provider = TracerProvider(resource=Resource.create({"service.name": "shop"}))
tracer = trace.get_tracer("shop")


@app.before_serving
async def start() -> None:
    provider.add_span_processor(BatchSpanProcessor(PostgresSpanExporter()))
    trace.set_tracer_provider(provider)


@app.after_serving
async def stop() -> None:
    provider.shutdown()


@app.get("/price/<item>")
async def price(item: str) -> dict[str, object]:
    with tracer.start_as_current_span("GET /price/<item>", attributes={"shop.item": item}) as span:
        with tracer.start_as_current_span("look up"):
            cents = 100 * len(item)
        return {"item": item, "cents": cents, "trace_id": format(span.get_span_context().trace_id, "032x")}


if __name__ == "__main__":
    app.run(port=int(os.environ.get("PORT", "5000")))
