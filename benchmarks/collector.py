"""A collector that keeps nothing: takes OTLP over HTTP and, once asked, says how many spans of kind SERVER it
got. What it takes is decoded only then, so that it costs as little as may be while others are measured.

    benchmarks/.venv/bin/python benchmarks/collector.py PORT
"""

from __future__ import annotations

import asyncio
import json
import sys

import uvloop
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

bodies: list[bytes] = []


async def exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One client's connection."""
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            if head.startswith("get"):
                answer = json.dumps(count()).encode()
            else:
                length = int(head.split("content-length:")[1].split("\r\n", 1)[0])
                bodies.append(await reader.readexactly(length))
                answer = b""
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(answer), answer))
    except asyncio.IncompleteReadError:
        writer.close()


def count() -> dict[str, int]:
    """Spans received since this was last asked: of kind SERVER, and of any."""
    found = {"server": 0, "all": 0}
    for body in bodies:
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            for scope in resource.scope_spans:
                found["all"] += len(scope.spans)
                found["server"] += sum(span.kind == Span.SPAN_KIND_SERVER for span in scope.spans)
    bodies.clear()
    return found


async def main(port: int) -> None:
    """Serve until killed."""
    server = await asyncio.start_server(exchange, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
