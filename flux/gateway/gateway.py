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
    read_body,
)
from flux.gateway.flood import Flood
from flux.gateway.http1 import REFUSED, Refusal, too_large
from flux.gateway.plain import Answer, Incoming
from flux.gateway.rejections import Rejections
from flux.gateway.traffic import Traffic
from flux.record.events import Failure
from flux.runtime.executor import Executor
from flux.runtime.registry import Registry
from flux.runtime.request import Request, Result, query_members
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
        """The ASGI entry point: requests that h11 reads, and all under `/_flux/`."""
        if scope["type"] != "http":
            await self._internal(scope, receive, send)
            return
        request = _incoming(scope)
        named, refused = self._judge(request, scope["extensions"].get(REFUSED))
        if refused is None and is_internal(request.path):
            await self._internal(scope, receive, send)
            return
        client = scope.get("client")
        answer = await self._respond(request, named, refused, client[0] if client else None, receive)
        if answer is not None:
            await _send(send, answer, head=request.method == "HEAD")

    async def answer(self, request: Incoming, client: Any, refusal: Refusal | None) -> Answer:
        """What is said to a request that is no one of Flux's own, and is there with its whole body."""
        named, refused = self._judge(request, refusal)
        answer = await self._respond(request, named, refused, client[0] if client else None, None)
        assert answer is not None
        return answer

    def _judge(self, request: Incoming, refusal: Refusal | None) -> tuple[Mapping[str, str], Refused | None]:
        """Its header fields by name, and why it is refused before anybody looks whose it is."""
        named, refused = self._admission.caller(request.method, request.path, request.headers)
        if refusal is not None:
            status, kind, message = refusal
            refused = Refused(status, Failure(type=kind, message=message))
        return named, refused

    async def _respond(
        self,
        incoming: Incoming,
        named: Mapping[str, str],
        refused: Refused | None,
        client: str | None,
        receive: Receive | None,
    ) -> Answer | None:
        """Run a request, or say why not; None where nobody is left to hear it.

        Args:
            receive: where its body comes from; None: it is there.
        """
        if refused is None and incoming.path == "/" and self._config.dev and self._lists(incoming):
            return listing.page(self._registry, self._config, named.get("accept", ""))
        began = time.perf_counter()
        key = self.traffic.begin(incoming.method, incoming.scheme)
        route: str | None = None
        status, kind = 500, None
        try:
            request = self._request(incoming, named, client)
            if refused is None:
                refused = await self._rejection(request, incoming, receive, named)
            result, fields = await self._executed(request, refused)
            route, status, kind = request.route, result.status, result.error.type if result.error else None
            if refused is not None and status == 499:
                return None
            return Answer(status, fields, b"" if status in replies.UNBODIED else result.body)
        except SpoolError as error:
            self._refused(error)
            status, kind = 503, error.type
            document = self._executor.error_document(_unrecorded(error), None)
            return Answer(503, [replies.JSON, _LATER], document)
        finally:
            self.traffic.end(key, route, status, kind, time.perf_counter() - began)

    def close(self) -> None:
        """The server has stopped: record what is not yet."""
        self._rejections.close()

    async def _executed(self, request: Request, refused: Refused | None) -> tuple[Result, replies.Headers]:
        """Run it, or record why it does not run; how it ended, and the answer's fields."""
        try:
            if refused is None:
                result = await self._executor.execute(request)
            else:
                request.rejected = refused.status, refused.failure
                result = await self._rejections.reject(request)
        except SpoolError as error:
            if request.begun:
                raise
            return self._unrecorded(request, error)
        return result, replies.headers(result, refused.allow if refused else "")

    def _unrecorded(self, request: Request, error: SpoolError) -> tuple[Result, replies.Headers]:
        """How a request is answered that can't be recorded, so was not begun; it is counted for later."""
        self._refused(error)
        failure = _unrecorded(error)
        request_id = self._rejections.unrecorded(request, 503, failure)
        document = self._executor.error_document(failure, request_id)
        result = Result(request_id, "", "", 503, "rejected", "json", [], document, failure)
        return result, [(b"x-request-id", request_id.encode()), replies.JSON, _LATER]

    def _refused(self, error: SpoolError) -> None:
        """Say so in the log, but not ten thousand times a second."""
        now = time.monotonic()
        if now >= self._quiet_until:
            self._quiet_until = now + COMPLAINT
            log.error("requests are refused because they can't be recorded: %s", error.message)

    def _lists(self, incoming: Incoming) -> bool:
        """Whether this is the page that lists the functions: no function has its route."""
        return incoming.method == "GET" and self._registry.routes.match("GET", "/") is None

    def _request(self, incoming: Incoming, named: Mapping[str, str], client: str | None) -> Request:
        """What was asked for, before anybody knows whom."""
        method, query = incoming.method or None, incoming.query
        host = named.get("host") or "localhost"
        request_id = named.get("x-request-id")
        url = None
        if method:
            url = f"{incoming.scheme}://{host}{incoming.raw}" + (f"?{query}" if query else "")
        return Request(
            trigger="http",
            function=None,
            method=method,
            url=url,
            path=incoming.path or None,
            headers=incoming.headers,
            query=query or None,
            client=client,
            client_request_id=request_id,
            context=_PROPAGATOR.extract({**named}, _ROOT_CONTEXT, _CARRIER)
            if "traceparent" in named
            else _ROOT_CONTEXT,
            attributes=_attributes(incoming, named, client, self._admission.origins.host(host)[0]),
        )

    async def _rejection(
        self, request: Request, incoming: Incoming, receive: Receive | None, named: Mapping[str, str]
    ) -> Refused | None:
        """Find the request's function and read its input: a refusal where it does not run."""
        match = self._admission.route(incoming.method, incoming.raw, incoming.path)
        if isinstance(match, Refused):
            return match
        request.function = match.function
        request.params = match.params
        served = self._registry.get(match.function)
        if served is not None:
            request.route = request.attributes[semconv.HTTP_ROUTE] = served.route
        if receive is not None:
            unread = await self._read(request, receive, named)
        elif len(incoming.body) > self._config.body_limit:
            unread = self._too_large(request, len(incoming.body))
        else:
            request.body, unread = incoming.body, None
        return unread or self._input(request, named) or self._admission.room(match.function)

    async def _read(self, request: Request, receive: Receive, named: Mapping[str, str]) -> Refused | None:
        declared = named.get("content-length", "")
        try:
            request.body = await read_body(
                receive, int(declared) if declared.isdigit() else None, self._config.body_limit
            )
        except BodyTooLarge as error:
            return self._too_large(request, error.size)
        except ClientGone:
            message = "The client went away before its body was complete."
            return Refused(499, Failure(type="ClientDisconnected", message=message))
        except BodyRefused as error:
            return Refused(error.status, Failure(type=error.kind, message=error.message))
        return None

    def _too_large(self, request: Request, size: int) -> Refused:
        request.body_size = size
        kind, message = too_large(self._config.body_limit)
        return Refused(413, Failure(type=kind, message=message))

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


def _incoming(scope: Scope) -> Incoming:
    """What an ASGI scope says."""
    return Incoming(
        scope["method"],
        scope["raw_path"].decode("latin-1"),
        scope["path"],
        scope["query_string"].decode("latin-1"),
        [(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]],
        b"",
        scope["http_version"],
        scope["scheme"],
    )


def _attributes(
    incoming: Incoming, named: Mapping[str, str], client: str | None, host: Authority
) -> dict[str, Any]:
    attributes: dict[str, Any] = {
        semconv.HTTP_REQUEST_METHOD: incoming.method or "_OTHER",
        semconv.URL_PATH: incoming.path,
        semconv.URL_SCHEME: incoming.scheme,
        semconv.NETWORK_PROTOCOL_VERSION: incoming.version,
        semconv.SERVER_ADDRESS: host.name,
    }
    if host.port is not None:
        attributes[semconv.SERVER_PORT] = host.port
    if incoming.query:
        attributes[semconv.URL_QUERY] = incoming.query
    if client:
        attributes[semconv.CLIENT_ADDRESS] = client
    if "user-agent" in named:
        attributes[semconv.USER_AGENT_ORIGINAL] = named["user-agent"]
    if "x-request-id" in named:
        attributes[semconv.FLUX_CLIENT_REQUEST_ID] = named["x-request-id"]
    return attributes


async def _send(send: Send, answer: Answer, *, head: bool) -> None:
    headers = answer.headers
    if answer.status not in replies.UNBODIED:
        headers.append((b"content-length", b"%d" % len(answer.body)))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if head else answer.body})
