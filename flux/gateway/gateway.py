"""The front door: an ASGI application that runs functions itself and hands everything under `/_flux/` to
Quart.

Functions' routes are dispatched here, before Quart builds its request and context objects: that path costs
more than all of
the recording. Every request to a function's side becomes an execution, refused ones included.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from opentelemetry.context import Context
from opentelemetry.propagators.textmap import Getter
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from flux import semconv
from flux.config import Config
from flux.errors import SpoolError
from flux.gateway import listing
from flux.gateway.body import (
    BadJSON,
    BodyTooLarge,
    ClientGone,
    Receive,
    Refused,
    check_json,
    is_json_body,
    query_input,
    query_members,
    read_body,
)
from flux.gateway.http1 import REFUSED
from flux.gateway.rejections import Rejections
from flux.gateway.traffic import Traffic
from flux.record.events import Failure
from flux.runtime.executor import Executor
from flux.runtime.failures import explain
from flux.runtime.registry import Registry, Served
from flux.runtime.request import Request, Result
from flux.runtime.routes import NotAllowed

log = logging.getLogger("flux.gateway")

Scope = Mapping[str, Any]
Send = Callable[[dict[str, Any]], Awaitable[None]]
ASGIApp = Callable[[Any, Any, Any], Awaitable[None]]

COMPLAINT = 5.0
"""Seconds between two log lines about the same trouble."""
INTERNAL = ("/_flux", "/v1/traces")
_NO_BODY = frozenset({204, 205, 304})
_DROPPED = frozenset(
    {"content-length", "transfer-encoding", "connection", "keep-alive", "x-request-id", "traceparent"}
)
_ROOT_CONTEXT = Context()
_JSON = (b"content-type", b"application/json")
_LATER = (b"retry-after", b"5")


class _Carrier(Getter[dict[str, str]]):
    def get(self, carrier: dict[str, str], key: str) -> list[str] | None:
        value = carrier.get(key)
        return None if value is None else [value]

    def keys(self, carrier: dict[str, str]) -> list[str]:
        return list(carrier)


_PROPAGATOR = TraceContextTextMapPropagator()
_CARRIER = _Carrier()


class Gateway:
    """Dispatches HTTP requests.

    Args:
        config: body limit, dev.
        registry: routes.
        executor: runs what they name.
        internal: the Quart application behind `/_flux/`.

    Attributes:
        traffic: what was answered, for metrics; what is behind `/_flux/` is not in it.
    """

    def __init__(self, config: Config, registry: Registry, executor: Executor, internal: ASGIApp) -> None:
        self._config = config
        self._registry = registry
        self._executor = executor
        self._internal = internal
        self._quiet_until = 0.0
        self.traffic = Traffic()
        self._rejections = Rejections(executor, config.rejection_records)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI entry point."""
        path: str = scope["path"]
        if scope["type"] != "http" or path.startswith(INTERNAL):
            await self._internal(scope, receive, send)
            return
        if path == "/" and self._config.dev and self._lists(scope):
            headers = {k.decode("latin-1"): v.decode("latin-1") for k, v in scope["headers"]}
            await listing.answer(send, self._registry, self._config, headers.get("accept", ""))
            return
        began = time.perf_counter()
        key = self.traffic.begin(scope["method"], scope["scheme"])
        route: str | None = None
        status, kind = 500, None
        try:
            request, result = await self._serve(scope, receive, send)
            route, status, kind = request.route, result.status, result.error.type if result.error else None
        except SpoolError as error:
            self._refused(error)
            status, kind = 503, error.type
            document = self._executor.error_document(_unrecorded(error), None)
            await _send(send, 503, [_JSON, _LATER], document)
        finally:
            self.traffic.end(key, route, status, kind, time.perf_counter() - began)

    def close(self) -> None:
        """The server has stopped: record what is not yet."""
        self._rejections.close()

    async def _unrecorded(self, request: Request, error: SpoolError, send: Send) -> Result:
        """Answer a request that was not begun, because it can't be recorded; it is counted for later."""
        self._refused(error)
        failure = _unrecorded(error)
        request_id = self._rejections.unrecorded(request, 503, failure)
        document = self._executor.error_document(failure, request_id)
        await _send(send, 503, [(b"x-request-id", request_id.encode()), _JSON, _LATER], document)
        return Result(request_id, "", "", 503, "rejected", "json", [], document, failure)

    def _refused(self, error: SpoolError) -> None:
        """Say so in the log, but not ten thousand times a second."""
        now = time.monotonic()
        if now >= self._quiet_until:
            self._quiet_until = now + COMPLAINT
            log.error("requests are refused because they can't be recorded: %s", error.message)

    def _lists(self, scope: Scope) -> bool:
        """Whether this is the page that lists the functions: no function has its route."""
        return scope["method"] == "GET" and self._registry.routes.match("GET", "/") is None

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> tuple[Request, Result]:
        method: str = scope["method"]
        path: str = scope["path"]
        headers = [(k.decode("latin-1"), v.decode("latin-1")) for k, v in scope["headers"]]
        named = dict(headers)
        query = scope["query_string"].decode("latin-1")
        raw: str = scope["raw_path"].decode("latin-1")
        refused = scope["extensions"].get(REFUSED)
        match = None if refused is not None else self._registry.routes.match(method, raw)
        request = Request(
            trigger="http",
            function=None,
            method=method or None,
            path=path or None,
            headers=headers,
            query=query or None,
        )
        host = named.get("host") or "localhost"
        request.url = f"{scope['scheme']}://{host}{raw}" + (f"?{query}" if query else "") if method else None
        request.client_request_id = named.get("x-request-id")
        client = scope.get("client")
        request.client = client[0] if client else None
        request.attributes = _attributes(scope, request, named, host)
        request.context = (
            _PROPAGATOR.extract(named, _ROOT_CONTEXT, _CARRIER) if "traceparent" in named else _ROOT_CONTEXT
        )
        extra: list[tuple[bytes, bytes]] = []
        rejected: tuple[int, Failure] | None
        if refused is not None:
            status, kind, message = refused
            rejected = status, Failure(type=kind, message=message)
        elif match is None:
            rejected = 404, Failure(type="NotFound", message=f"No function has the route {path}.")
        elif isinstance(match, NotAllowed):
            allowed = ", ".join(match.allowed)
            extra.append((b"allow", allowed.encode()))
            message = f"{path} takes {allowed}, not {method}."
            if self._config.dev:
                message += f" Try: {listing.curl(self._config, match.allowed[0], path)}"
            rejected = 405, Failure(type="MethodNotAllowed", message=message)
        else:
            request.function = match.function
            request.params = match.params
            served = self._registry.get(match.function)
            if served is not None:
                request.route = request.attributes[semconv.HTTP_ROUTE] = served.route
            rejected = (
                await self._read(request, receive, named) or self._input(request, named) or _room(served)
            )
        request.rejected = rejected
        try:
            if rejected is None:
                result = await self._executor.execute(request)
            else:
                result = await self._rejections.reject(request)
        except SpoolError as error:
            if request.begun:
                raise
            result = await self._unrecorded(request, error, send)
            return request, result
        if rejected is None or rejected[0] != 499:
            await _answer(send, result, extra, head=method == "HEAD")
        return request, result

    async def _read(
        self, request: Request, receive: Receive, named: Mapping[str, str]
    ) -> tuple[int, Failure] | None:
        declared = named.get("content-length", "")
        try:
            request.body = await read_body(
                receive, int(declared) if declared.isdigit() else None, self._config.body_limit
            )
        except BodyTooLarge as error:
            request.body_size = error.size
            limit = self._config.body_limit
            return 413, Failure(
                type="BodyTooLarge",
                message=f"The body is larger than the limit of {limit} bytes (body_limit).",
            )
        except ClientGone:
            return 499, Failure(
                type="ClientDisconnected", message="The client went away before its body was complete."
            )
        except Refused as error:
            return error.status, Failure(type=error.kind, message=error.message)
        return None

    def _input(self, request: Request, named: Mapping[str, str]) -> tuple[int, Failure] | None:
        request.query_params = query_members(request.query) if request.query else {}
        if request.method in ("GET", "HEAD"):
            request.input = query_input(request.query_params)
            request.input_from = "query"
            return None
        if is_json_body(named.get("content-type"), request.body):
            try:
                check_json(request.body)
            except BadJSON as error:
                return 400, Failure(type="BadJSON", message=str(error))
            return None
        request.input = b"null"
        return None


def _unrecorded(error: SpoolError) -> Failure:
    return Failure(type=error.type, message="The server can't record requests now; try again.")


def _room(served: Served | None) -> tuple[int, Failure] | None:
    """A refusal where the function takes no more now."""
    if served is None or served.guest is None:
        return None
    refusal = served.guest.refusal()
    return None if refusal is None else explain(refusal)


def _attributes(scope: Scope, request: Request, named: Mapping[str, str], host: str) -> dict[str, Any]:
    attributes: dict[str, Any] = {
        semconv.HTTP_REQUEST_METHOD: request.method or "_OTHER",
        semconv.URL_PATH: request.path or "",
        semconv.URL_SCHEME: scope["scheme"],
        semconv.NETWORK_PROTOCOL_VERSION: scope["http_version"],
    }
    name, _, port = host.rpartition(":") if not host.endswith("]") else (host, "", "")
    attributes[semconv.SERVER_ADDRESS] = name or host
    if port.isascii() and port.isdigit() and len(port) <= 5:
        attributes[semconv.SERVER_PORT] = int(port)
    if request.query:
        attributes[semconv.URL_QUERY] = request.query
    if request.client:
        attributes[semconv.CLIENT_ADDRESS] = request.client
    if "user-agent" in named:
        attributes[semconv.USER_AGENT_ORIGINAL] = named["user-agent"]
    if request.client_request_id:
        attributes[semconv.FLUX_CLIENT_REQUEST_ID] = request.client_request_id
    return attributes


async def _answer(send: Send, result: Result, extra: list[tuple[bytes, bytes]], *, head: bool) -> None:
    headers = [
        (b"x-request-id", result.request_id.encode()),
        (b"traceparent", f"00-{result.trace_id}-{result.span_id}-01".encode()),
        *extra,
    ]
    if result.kind == "json":
        headers.append(_JSON)
    headers += [
        (name.lower().encode("latin-1", "replace"), value.encode("latin-1", "replace"))
        for name, value in result.headers
        if name.lower() not in _DROPPED
    ]
    if result.status == 503 and not any(name == b"retry-after" for name, _ in headers):
        headers.append((b"retry-after", b"1"))
    await _send(send, result.status, headers, result.body, head=head)


async def _send(
    send: Send, status: int, headers: list[tuple[bytes, bytes]], body: bytes, *, head: bool = False
) -> None:
    if status not in _NO_BODY:
        headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if head or status in _NO_BODY else body})
