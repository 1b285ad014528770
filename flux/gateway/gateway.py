"""The front door: an ASGI application that runs functions and hands `/_flux/` to Quart.

Functions' routes are dispatched here, before Quart builds its request and context objects: those
cost more than all of the recording. Every request to a function's side becomes an execution,
refused ones included.
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
from flux.address import Authority
from flux.config import Config
from flux.errors import SpoolError
from flux.gateway import listing, replies
from flux.gateway.admission import Admission, Refused
from flux.gateway.body import (
    BodyRefused,
    BodyTooLarge,
    ClientGone,
    Receive,
    is_json_body,
    query_input,
    query_members,
    read_body,
)
from flux.gateway.flood import Flood
from flux.gateway.http1 import REFUSED, Refusal, too_large
from flux.gateway.rejections import Rejections
from flux.gateway.traffic import Traffic
from flux.record.events import Failure
from flux.runtime.executor import Executor
from flux.runtime.registry import Registry
from flux.runtime.request import Request, Result
from flux.runtime.routes import is_internal

log = logging.getLogger("flux.gateway")

Scope = Mapping[str, Any]
Send = Callable[[dict[str, Any]], Awaitable[None]]
ASGIApp = Callable[[Any, Any, Any], Awaitable[None]]

COMPLAINT = 5.0
"""Seconds between two log lines about the same trouble."""
_ROOT_CONTEXT = Context()
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
        flood: refuses what comes thick and fast, before it comes here.
    """

    def __init__(self, config: Config, registry: Registry, executor: Executor, internal: ASGIApp) -> None:
        self._config = config
        self._registry = registry
        self._executor = executor
        self._internal = internal
        self._quiet_until = 0.0
        self.traffic = Traffic()
        self._admission = Admission(config, registry)
        self._rejections = Rejections(executor, config.rejection_records)
        self.flood = Flood(config, self._admission, self._rejections, executor.error_document, self.traffic)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI entry point."""
        if scope["type"] != "http":
            await self._internal(scope, receive, send)
            return
        began = time.perf_counter()
        path: str = scope["path"]
        headers = [(k.decode("latin-1"), v.decode("latin-1")) for k, v in scope["headers"]]
        named, refused = self._admission.caller(scope["method"], path, headers)
        refusal: Refusal | None = scope["extensions"].get(REFUSED)
        if refusal is not None:
            refused = Refused(refusal[0], Failure(type=refusal[1], message=refusal[2]))
        if refused is None:
            if is_internal(path):
                await self._internal(scope, receive, send)
                return
            if path == "/" and self._config.dev and self._lists(scope):
                await listing.answer(send, self._registry, self._config, named.get("accept", ""))
                return
        key = self.traffic.begin(scope["method"], scope["scheme"])
        route: str | None = None
        status, kind = 500, None
        try:
            request = self._request(scope, headers, named)
            result = await self._serve(request, scope, receive, send, named, refused)
            route, status, kind = request.route, result.status, result.error.type if result.error else None
        except SpoolError as error:
            self._refused(error)
            status, kind = 503, error.type
            document = self._executor.error_document(_unrecorded(error), None)
            await _send(send, 503, [replies.JSON, _LATER], document)
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
        await _send(send, 503, [(b"x-request-id", request_id.encode()), replies.JSON, _LATER], document)
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

    def _request(self, scope: Scope, headers: list[tuple[str, str]], named: Mapping[str, str]) -> Request:
        """What was asked for, before anybody knows whom."""
        method: str = scope["method"]
        query = scope["query_string"].decode("latin-1")
        host = named.get("host") or "localhost"
        client = scope.get("client")
        request = Request(
            trigger="http",
            function=None,
            method=method or None,
            path=scope["path"] or None,
            headers=headers,
            query=query or None,
        )
        raw = scope["raw_path"].decode("latin-1")
        request.url = f"{scope['scheme']}://{host}{raw}" + (f"?{query}" if query else "") if method else None
        request.client_request_id = named.get("x-request-id")
        request.client = client[0] if client else None
        request.attributes = _attributes(scope, request, named, self._admission.origins.host(host)[0])
        request.context = (
            _PROPAGATOR.extract({**named}, _ROOT_CONTEXT, _CARRIER)
            if "traceparent" in named
            else _ROOT_CONTEXT
        )
        return request

    async def _serve(
        self,
        request: Request,
        scope: Scope,
        receive: Receive,
        send: Send,
        named: Mapping[str, str],
        refused: Refused | None,
    ) -> Result:
        """Run it, or say why not, and answer."""
        if refused is None:
            refused = await self._rejection(request, scope["raw_path"].decode("latin-1"), receive, named)
        request.rejected = None if refused is None else refused[:2]
        try:
            if refused is None:
                result = await self._executor.execute(request)
            else:
                result = await self._rejections.reject(request)
        except SpoolError as error:
            if request.begun:
                raise
            return await self._unrecorded(request, error, send)
        if refused is None or refused.status != 499:
            fields = replies.headers(result, refused.allow if refused else "")
            await _send(send, result.status, fields, result.body, head=scope["method"] == "HEAD")
        return result

    async def _rejection(
        self,
        request: Request,
        raw: str,
        receive: Receive,
        named: Mapping[str, str],
    ) -> Refused | None:
        """Find the request's function and read its input: a refusal where it does not run."""
        match = self._admission.route(request.method or "", raw, request.path or "")
        if isinstance(match, Refused):
            return match
        request.function = match.function
        request.params = match.params
        served = self._registry.get(match.function)
        if served is not None:
            request.route = request.attributes[semconv.HTTP_ROUTE] = served.route
        return (
            await self._read(request, receive, named)
            or self._input(request, named)
            or self._admission.room(match.function)
        )

    async def _read(self, request: Request, receive: Receive, named: Mapping[str, str]) -> Refused | None:
        declared = named.get("content-length", "")
        try:
            request.body = await read_body(
                receive, int(declared) if declared.isdigit() else None, self._config.body_limit
            )
        except BodyTooLarge as error:
            request.body_size = error.size
            kind, message = too_large(self._config.body_limit)
            return Refused(413, Failure(type=kind, message=message))
        except ClientGone:
            message = "The client went away before its body was complete."
            return Refused(499, Failure(type="ClientDisconnected", message=message))
        except BodyRefused as error:
            return Refused(error.status, Failure(type=error.kind, message=error.message))
        return None

    def _input(self, request: Request, named: Mapping[str, str]) -> Refused | None:
        request.query_params = query_members(request.query) if request.query else {}
        if request.method in ("GET", "HEAD"):
            request.input = query_input(request.query_params)
            request.input_from = "query"
            return None
        if is_json_body(named.get("content-type"), request.body):
            return self._admission.json(request.body)
        request.input = b"null"
        return None


def _unrecorded(error: SpoolError) -> Failure:
    return Failure(type=error.type, message="The server can't record requests now; try again.")


def _attributes(scope: Scope, request: Request, named: Mapping[str, str], host: Authority) -> dict[str, Any]:
    attributes: dict[str, Any] = {
        semconv.HTTP_REQUEST_METHOD: request.method or "_OTHER",
        semconv.URL_PATH: request.path or "",
        semconv.URL_SCHEME: scope["scheme"],
        semconv.NETWORK_PROTOCOL_VERSION: scope["http_version"],
    }
    attributes[semconv.SERVER_ADDRESS] = host.name
    if host.port is not None:
        attributes[semconv.SERVER_PORT] = host.port
    if request.query:
        attributes[semconv.URL_QUERY] = request.query
    if request.client:
        attributes[semconv.CLIENT_ADDRESS] = request.client
    if "user-agent" in named:
        attributes[semconv.USER_AGENT_ORIGINAL] = named["user-agent"]
    if request.client_request_id:
        attributes[semconv.FLUX_CLIENT_REQUEST_ID] = request.client_request_id
    return attributes


async def _send(
    send: Send, status: int, headers: list[tuple[bytes, bytes]], body: bytes, *, head: bool = False
) -> None:
    if status not in replies.UNBODIED:
        headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if head or status in replies.UNBODIED else body})
