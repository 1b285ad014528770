"""`fetch`: HTTP on behalf of functions. One FetchClient per process, called by Live.

Executions share connections and nothing else: no cookies, no proxies or credentials from Flux's own
environment. A call that sets no timeout of its own lasts at most as long as its execution, which cancels it.
"""

from __future__ import annotations

import asyncio
import base64
import hmac
import os
import re
import socket
import ssl
from collections.abc import Iterator
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, Final

import httpx
import orjson
from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from flux import semconv
from flux.record import arguments, ops
from flux.record.call import CallError, HostCall, Outcome

MARK: Final = "flux-fetch"
"""The header field by which a server knows what its own functions fetch."""
LARGEST_BODY: Final = 64 * 2**20
"""Bytes of a response's decoded body that a function may get."""
MOST_REDIRECTS: Final = 20

_TRACER = trace.get_tracer("flux.fetch")
_PROPAGATOR = TraceContextTextMapPropagator()
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_USUAL_METHODS = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})
_FORBIDDEN_METHODS = frozenset({"CONNECT", "TRACE", "TRACK"})
_NOT_IDEMPOTENT = frozenset({"POST", "PATCH"})
_CONNECTION_HEADERS = frozenset(
    {"connection", "content-length", "expect", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"}
)
_DECODED = frozenset({"gzip", "deflate", "identity"})
_WAITS: Final[dict[type[httpx.TimeoutException], tuple[str, str]]] = {
    httpx.ConnectTimeout: ("connect", "no connection"),
    httpx.ReadTimeout: ("read", "no answer"),
    httpx.WriteTimeout: ("write", "what was sent was not taken"),
    httpx.PoolTimeout: ("pool", "no connection was free"),
}


class FetchClient:
    """Sends requests.

    Args:
        verify: TLS settings; the usual authorities by default.
        connect_timeout: most seconds for a connection to be made.
        largest_body: bytes of a response's decoded body, above which the call fails with ResponseTooLarge.
        connections: most connections at once; further calls wait.
        mark: sent as `flux-fetch` (see `own_mark`); "" sends none.
        tracer: makes the CLIENT spans.
    """

    def __init__(
        self,
        *,
        verify: ssl.SSLContext | None = None,
        connect_timeout: float = 10.0,
        largest_body: int = LARGEST_BODY,
        connections: int = 512,
        mark: str = "",
        tracer: Tracer = _TRACER,
    ) -> None:
        self._connect_timeout = connect_timeout
        self._largest_body = largest_body
        self._tracer = tracer
        self._mark = [(MARK.encode(), mark.encode("ascii"))] if mark else []
        self._client = httpx.AsyncClient(
            verify=True if verify is None else verify,
            timeout=None,
            limits=httpx.Limits(
                max_connections=connections, max_keepalive_connections=64, keepalive_expiry=15.0
            ),
            max_redirects=MOST_REDIRECTS,
            trust_env=False,
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
            headers={"user-agent": "flux", "accept": "*/*", "accept-encoding": "gzip, deflate"},
        )

    async def perform(self, call: HostCall, *, idempotency_key: str) -> Outcome:
        """Answer `fetch`. What goes wrong on the way is the outcome's error.

        Args:
            call: a `fetch`.
            idempotency_key: sent as `Idempotency-Key` with POST and PATCH where the function set none: the
                same key if this very call is ever sent again.

        Raises:
            ops.InvalidArguments: see `ops.asked`.
        """
        asked = ops.asked(call, arguments.Fetch)
        method = _method(asked.method)
        try:
            url = _url(asked.url)
        except httpx.InvalidURL as error:
            return Outcome(error=CallError("InvalidURL", f"{asked.url[:200]}: {error}"))
        shown = _shown(url)
        with self._tracer.start_as_current_span(
            method,
            kind=SpanKind.CLIENT,
            attributes={
                semconv.HTTP_REQUEST_METHOD: method,
                semconv.URL_FULL: shown,
                semconv.SERVER_ADDRESS: url.host,
                semconv.SERVER_PORT: url.port or (443 if url.scheme == "https" else 80),
            },
        ) as span:
            headers = [*_headers(asked.headers, method, idempotency_key), *self._mark]
            try:
                outcome = await self._send(asked, method, url, headers, span)
            except asyncio.CancelledError:
                span.set_attribute(semconv.ERROR_TYPE, "cancelled")
                raise
            except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, UnicodeError) as error:
                outcome = Outcome(error=_explain(error, method, shown, self._timeout(asked.timeout)))
            if outcome.error is not None:
                span.set_status(Status(StatusCode.ERROR, outcome.error.message))
                span.set_attribute(semconv.ERROR_TYPE, outcome.error.type)
            where = span.get_span_context()
            outcome.span_id = format(where.span_id, "016x") if where.is_valid else None
            return outcome

    async def close(self) -> None:
        """Close idle connections."""
        await self._client.aclose()

    async def _send(
        self,
        asked: arguments.Fetch,
        method: str,
        url: httpx.URL,
        headers: list[tuple[bytes, bytes]],
        span: Span,
    ) -> Outcome:
        request = self._client.build_request(
            method, url, headers=headers, content=asked.content(), timeout=self._timeout(asked.timeout)
        )
        response = await self._client.send(request, stream=True, follow_redirects=asked.redirect == "follow")
        try:
            span.set_attribute(semconv.HTTP_RESPONSE_STATUS_CODE, response.status_code)
            if response.status_code >= 400:
                span.set_attribute(semconv.ERROR_TYPE, str(response.status_code))
                span.set_status(Status(StatusCode.ERROR))
            if asked.redirect == "error" and response.has_redirect_location:
                answer = f"{response.status_code}, a redirect, which the call forbids"
                return Outcome(
                    error=CallError("UnexpectedRedirect", f"{method} {_shown(url)}: answered {answer}.")
                )
            body = await self._read(response)
            if body is None:
                message = f"{method} {_shown(url)}: the response's body is over {self._largest_body:,} bytes."
                return Outcome(error=CallError("ResponseTooLarge", message))
            return Outcome(result=_result(response, body))
        finally:
            await response.aclose()

    def _timeout(self, asked: arguments.FetchTimeout | None) -> httpx.Timeout:
        """The call's own, in seconds; a connection is never waited for longer than this client does."""
        if asked is None:
            return httpx.Timeout(None, connect=self._connect_timeout)
        connect, read, write, pool = (
            None if ms is None else ms / 1000 for ms in (asked.connect, asked.read, asked.write, asked.pool)
        )
        connect = self._connect_timeout if connect is None else min(connect, self._connect_timeout)
        return httpx.Timeout(connect=connect, read=read, write=write, pool=pool)

    async def _read(self, response: httpx.Response) -> bytes | None:
        """The decoded body, or None where it is too large."""
        body = bytearray()
        async for chunk in response.aiter_bytes():
            body += chunk
            if len(body) > self._largest_body:
                return None
        return bytes(body)


def own_mark(master_key: bytes | None) -> str:
    """The mark of a fetch by this installation's functions: the same on all of its nodes.

    The gateway refuses `/_flux/` to what bears it. That holds whatever name, address, proxy or redirect the
    request took, which no look at its URL can tell. Who learns the mark can get himself refused, no more.
    """
    return hmac.digest(master_key or b"", b"flux fetch", "sha256").hex()[:32]


def _method(given: str) -> str:
    if not _TOKEN.fullmatch(given) or given.upper() in _FORBIDDEN_METHODS:
        raise ops.InvalidArguments(f"fetch: `{given[:40]}` is not a method that can be sent - at `$.method`")
    return given.upper() if given.upper() in _USUAL_METHODS else given


def _url(given: str) -> httpx.URL:
    url = httpx.URL(given.strip())
    if url.scheme not in {"http", "https"}:
        raise httpx.InvalidURL("only http: and https: can be fetched")
    if not url.host:
        raise httpx.InvalidURL("it names no host")
    if not 0 < (url.port or 80) < 65536:
        raise httpx.InvalidURL(f"{url.port} is no port")
    return url.copy_with(fragment=None)


def _shown(url: httpx.URL) -> str:
    """The URL without user name, password and fragment."""
    return str(url.copy_with(userinfo=b"", fragment=None)) if url.userinfo or url.fragment else str(url)


def _headers(given: list[tuple[str, str]], method: str, idempotency_key: str) -> list[tuple[bytes, bytes]]:
    """What is sent: the function's headers but those of the connection, then Flux's own."""
    sent: list[tuple[bytes, bytes]] = []
    keyed = method not in _NOT_IDEMPOTENT
    for name, value in given:
        lower = name.lower()
        if lower in _CONNECTION_HEADERS or lower in _PROPAGATOR.fields or lower == MARK:
            continue
        keyed = keyed or lower == "idempotency-key"
        try:
            sent.append((name.encode("ascii"), value.encode("latin-1")))
        except UnicodeEncodeError as error:
            raise ops.InvalidArguments(
                f"fetch: header `{name[:80]}` holds characters that HTTP can't - at `$.headers`"
            ) from error
    if not keyed:
        sent.append((b"idempotency-key", idempotency_key.encode("ascii")))
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier)
    sent.extend((name.encode("ascii"), value.encode("latin-1")) for name, value in carrier.items())
    return sent


def _result(response: httpx.Response, body: bytes) -> bytes:
    encodings = {part.strip().lower() for part in response.headers.get("content-encoding", "").split(",")} - {
        ""
    }
    dropped = {b"content-encoding", b"content-length"} if encodings and encodings <= _DECODED else set()
    try:
        shown: str | dict[str, str] = body.decode()
    except UnicodeDecodeError:
        shown = {"$bytea": base64.b64encode(body).decode("ascii")}
    document: dict[str, Any] = {
        "status": response.status_code,
        "status_text": response.reason_phrase,
        "url": _shown(response.url),
        "headers": [
            [name.decode("latin-1"), value.decode("latin-1")]
            for name, value in ((raw.lower(), value) for raw, value in response.headers.raw)
            if name not in dropped
        ],
        "body": shown,
        "redirected": bool(response.history),
    }
    return orjson.dumps(document)


def _explain(error: Exception, method: str, url: str, timeout: httpx.Timeout) -> CallError:
    """The error as docs/architecture.md names it."""
    if isinstance(error, httpx.TimeoutException):
        phase, what = next(names for kind, names in _WAITS.items() if isinstance(error, kind))
        limit = f"{timeout.as_dict()[phase]:g} s"
        return CallError("TimeoutError", f"{method} {url}: {what} within {limit}", {"phase": phase})
    causes = list(_causes(error))
    if isinstance(error, httpx.LocalProtocolError):
        kind = ops.INVALID
    elif isinstance(error, (httpx.InvalidURL, httpx.UnsupportedProtocol)):
        kind = "InvalidURL"
    elif isinstance(error, httpx.TooManyRedirects):
        kind = "TooManyRedirects"
    elif isinstance(error, UnicodeError) or any(isinstance(cause, socket.gaierror) for cause in causes):
        kind = "DNSError"
    elif any(isinstance(cause, ssl.SSLError) for cause in causes):
        kind = "TLSError"
    elif isinstance(error, httpx.ConnectError):
        kind = "ConnectError"
    elif isinstance(error, httpx.DecodingError):
        kind = "DecodingError"
    else:
        kind = "ConnectionBroken"
    return CallError(kind, f"{method} {url}: {_reason(error, causes)}")


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Everything that led to `error`, itself first."""
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        cause = waiting.pop()
        if cause is None or id(cause) in seen:
            continue
        seen.add(id(cause))
        yield cause
        waiting += [cause.__cause__, cause.__context__]
        if isinstance(cause, BaseExceptionGroup):
            waiting += cause.exceptions


def _reason(error: Exception, causes: list[BaseException]) -> str:
    for cause in causes:
        if isinstance(cause, socket.gaierror | ssl.SSLError):
            return str(cause.strerror or cause)
        if isinstance(cause, OSError) and cause.errno:
            return os.strerror(cause.errno)
    return str(error) or type(error).__name__
