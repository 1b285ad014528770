"""Requests a second of a recorded function with its spans sent to a collector, beside the same without, in
one run on one machine.

    python benchmarks/otlp.py [--seconds 3] [--rounds 3] [--protocol http/protobuf]

Two Flux servers on one embedded Postgres are loaded in turn with 16 keep-alive connections. The collector is
a process of its own that answers and forgets; it has its share of the processor all the same. Prints
medians, the ratio of each pair, CPU seconds per 1,000 requests (the server with all its children), and how
many spans wait or were dropped when the load ends.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc
from cluster import Cluster
from processes import spent
from project import write_project
from runs import load
from server import serve
from standing import Findings, Standing, arguments, spread

from flux.otlp.tally import otlp_status

CONNECTIONS = 16


class _Forget(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        return


def collect(protocol: str) -> None:
    """Answer whatever comes; prints the port first."""
    if protocol == "grpc":
        server = grpc.server(ThreadPoolExecutor(2))
        handler = grpc.unary_unary_rpc_method_handler(lambda request, context: b"")
        name = "opentelemetry.proto.collector.trace.v1.TraceService"
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, {"Export": handler}),))
        print(server.add_insecure_port("127.0.0.1:0"), flush=True)
        server.start()
        server.wait_for_termination()
        return
    http = ThreadingHTTPServer(("127.0.0.1", 0), _Forget)
    print(http.server_address[1], flush=True)
    http.serve_forever()


def main() -> None:
    """Measure and print."""
    parser = arguments(__doc__)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--protocol", default="http/protobuf", choices=("http/protobuf", "grpc"))
    parser.add_argument("--collect", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.collect:
        collect(options.protocol)
        return
    if options.quick:
        options.seconds, options.rounds = 1, 1

    folder = Path(tempfile.mkdtemp(prefix="flux-bench-", dir="/tmp"))
    folder.chmod(0o755)
    collector = subprocess.Popen(
        [sys.executable, __file__, "--collect", "--protocol", options.protocol],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert collector.stdout is not None
    port = collector.stdout.readline().strip()
    cluster = ExitStack()
    servers: dict[str, tuple[subprocess.Popen[str], int]] = {}
    try:
        postgres = cluster.enter_context(Cluster(folder / "postgres"))
        roots = {}
        for name in ("off", "on"):
            roots[name] = write_project(folder / name)
            env = {}
            if name == "on":
                env["OTEL_EXPORTER_OTLP_ENDPOINT"] = f"http://127.0.0.1:{port}"
                env["OTEL_EXPORTER_OTLP_PROTOCOL"] = options.protocol
            servers[name] = serve(roots[name], postgres.database(f"bench_{name}"), env)
        rates: dict[str, list[float]] = {"off": [], "on": []}
        costs: dict[str, list[float]] = {"off": [], "on": []}
        for name in ("off", "on"):
            load([servers[name][1]], "hello", 1, CONNECTIONS)
        for number in range(options.rounds):
            for name in ("off", "on") if number % 2 == 0 else ("on", "off"):
                process, at = servers[name]
                before = _cpu(process.pid)
                found = load([at], "hello", options.seconds, CONNECTIONS)
                if name == "on":
                    status = otlp_status(roots["on"] / ".flux" / "spool")
                _caught_up(roots[name])
                rates[name].append(found["rps"])
                costs[name].append((_cpu(process.pid) - before) / found["requests"] * 1000)
        ratios = [on / off for on, off in zip(rates["on"], rates["off"], strict=True)]
        for name in ("off", "on"):
            print(
                f"OTLP {name:4}{statistics.median(rates[name]):8,.0f} requests/s"
                f"{statistics.median(costs[name]):8.3f} CPU s per 1,000 (until all is sent)"
            )
        print(f"on/off, by pairs: {', '.join(f'{ratio:.2f}' for ratio in ratios)}  ({options.protocol})")
        print(f"as the last load ended: {status}")
        measured = spread(ratios)
        beside = "the same server without"
        one = Standing(f"hello, spans sent to a collector too ({options.protocol})", beside, "–", measured)
        Findings([one]).hand_over(options.json)
        print(f"at the end: {otlp_status(roots['on'] / '.flux' / 'spool')}")
    finally:
        for process, _ in servers.values():
            process.terminate()
            process.wait(60)
        collector.kill()
        collector.wait()
        cluster.close()
        shutil.rmtree(folder, ignore_errors=True)


def _cpu(pid: int) -> float:
    """CPU seconds of a process and its descendants so far."""
    return sum(spent({"server": [pid]}).values())


def _caught_up(root: Path) -> None:
    """Wait until the server's children have nothing left to do, so that the other's turn is its own."""
    spools = root / ".flux" / "spool"
    last, still = None, 0
    while still < 5:
        time.sleep(0.3)
        now = [
            (path.name, path.read_bytes())
            for path in sorted(spools.glob("*/*"))
            if path.name in ("position", "otlp")
        ]
        still = still + 1 if now == last else 0
        last = now


if __name__ == "__main__":
    main()
