"""The Quart application behind `/_flux/`: health, readiness, metrics, functions, reading records over HTTP.

In dev, on loopback, it is open to the machine's own users. The gateway keeps web pages out, as it does from
functions (`flux.gateway.origins`). Outside dev everything but health and readiness answers 403 until API keys
exist.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from quart import Quart, Response, request
from werkzeug.exceptions import HTTPException

from flux import __version__
from flux.config import Config
from flux.errors import Ambiguous, FluxError, NotFound, UsageError
from flux.query import Reader, to_json
from flux.record import json_text
from flux.runtime.executor import Executor
from flux.runtime.registry import Registry
from flux.runtime.request import Request

_OPEN = frozenset({"/_flux/health", "/_flux/ready"})


def make_application(
    config: Config,
    registry: Registry,
    executor: Executor,
    reader: Reader,
    ready: Callable[[], Awaitable[dict[str, Any]]],
    metrics: Callable[[str], Awaitable[tuple[bytes, str]]],
) -> Quart:
    """Build the application.

    Args:
        ready: says whether Postgres answers and the record is whole: `{"ok": bool, ...}`.
        metrics: takes an Accept header; the page for a Prometheus server, and its content type.
    """
    app = Quart("flux")

    @app.before_request
    async def guard() -> Response | None:
        if request.path in _OPEN:
            return None
        if not config.dev:
            return _error(403, "Forbidden", "The management API is open in `flux dev` on loopback only.")
        return None

    @app.errorhandler(FluxError)
    async def flux_error(error: FluxError) -> Response:
        status = (
            404 if isinstance(error, NotFound) else 400 if isinstance(error, (UsageError, Ambiguous)) else 503
        )
        answer = _error(status, error.type, error.message, error.hint)
        if status == 503:
            answer.headers["retry-after"] = "1"
        return answer

    @app.errorhandler(HTTPException)
    async def http_error(error: HTTPException) -> Response:
        return _error(
            error.code or 500,
            error.name.replace(" ", ""),
            f"{request.method} {request.path}: {error.description}",
        )

    @app.get("/_flux/health")
    async def health() -> Response:
        return _json({"ok": True, "version": __version__})

    @app.get("/_flux/ready")
    async def readiness() -> Response:
        state = await ready()
        return _json(state, 200 if state["ok"] else 503)

    @app.get("/_flux/metrics")
    async def metrics_page() -> Response:
        page, content_type = await metrics(request.headers.get("accept", ""))
        return Response(page, content_type=content_type)

    @app.get("/_flux/api/v1/functions")
    async def functions() -> Response:
        return _json(
            [
                {
                    "name": served.name,
                    "methods": list(served.methods),
                    "route": served.route,
                    "runtime": served.deployment.runtime,
                    "deployment": served.deployment.id,
                    "loaded": served.failure is None,
                }
                for served in registry.functions.values()
            ]
        )

    @app.post("/_flux/api/v1/functions/<name>/invoke")
    async def invoke(name: str) -> Response:
        body = await request.body
        try:
            json_text.check(body or b"null")
        except json_text.BadJSON as error:
            return _error(400, "BadJSON", f"The body is {error}.")
        result = await executor.execute(Request(trigger="invoke", function=name, body=body))
        answer = Response(result.body, status=result.status, mimetype="application/json")
        for header, value in result.headers:
            if header.lower() not in ("content-length", "transfer-encoding", "connection"):
                answer.headers[header] = value
        answer.headers["x-request-id"] = result.request_id
        return answer

    @app.get("/_flux/api/v1/executions/<request_id>")
    async def execution(request_id: str) -> Response:
        return _json(await reader.trace(request_id))

    @app.get("/_flux/api/v1/executions/<request_id>/why")
    async def why(request_id: str) -> Response:
        return _json(await reader.why(request_id))

    @app.get("/_flux/api/v1/executions/<request_id>/diff")
    @app.get("/_flux/api/v1/executions/<request_id>/diff/<other>")
    async def diff(request_id: str, other: str | None = None) -> Response:
        return _json(await reader.diff(request_id, other))

    return app


def _json(value: Any, status: int = 200) -> Response:
    return Response(to_json(value), status=status, mimetype="application/json")


def _error(status: int, kind: str, message: str, hint: str | None = None) -> Response:
    return _json({"error": {"type": kind, "message": message, "hint": hint}}, status)
