"""httpx, whose asynchronous transport becomes the host's `fetch`; its synchronous one is refused. Installed
before user code.
"""

from base64 import b64decode, b64encode
from types import ModuleType
from typing import Any

from flux_functions.errors import HostError, NotPermitted

from flux_guest.hooks import when_imported
from flux_guest.invocation import here
from flux_guest.values import dumps, parse

_DROPPED = frozenset({"accept-encoding", "connection", "content-length", "transfer-encoding"})
_ERRORS = {
    "InvalidURL": "UnsupportedProtocol",
    "TooManyRedirects": "TooManyRedirects",
    "ConnectionBroken": "RemoteProtocolError",
    "DecodingError": "DecodingError",
    "ResponseTooLarge": "ReadError",
}


def install() -> None:
    """Patch httpx when it is imported, and keep `mimetypes` from reading the machine's files."""
    when_imported("httpx", _patch)
    when_imported("mimetypes", _forget_files)


def _forget_files(module: ModuleType) -> None:
    module.knownfiles = []  # type: ignore[attr-defined]


def _patch(httpx: ModuleType) -> None:
    def nothing(self: Any, *arguments: Any, **named: Any) -> None:
        self._pool = None

    def same(self: Any) -> Any:
        return self

    async def same_later(self: Any) -> Any:
        return self

    async def done(self: Any, *error: Any) -> None:
        return None

    async def handle(self: Any, request: Any) -> Any:
        """One request, without following redirects: httpx follows them itself."""
        content = await request.aread()
        headers = [[name.decode("latin-1"), value.decode("latin-1")] for name, value in request.headers.raw]
        netloc = request.url.netloc.decode("ascii")
        arguments = {
            "method": request.method,
            "url": str(request.url),
            "headers": [
                [name, value]
                for name, value in headers
                if name.lower() not in _DROPPED and not (name.lower() == "host" and value == netloc)
            ],
            "body": _body(content),
            "redirect": "manual",
        }
        timeout = _milliseconds(request.extensions.get("timeout"))
        if timeout:
            arguments["timeout"] = timeout
        try:
            answer = parse(await here("A request").call("fetch", dumps(arguments)))
        except HostError as error:
            kind = getattr(httpx, _class(error))
            raise kind(str(error), request=request) from None
        body = answer.get("body")
        content = b64decode(body["$bytea"]) if isinstance(body, dict) else (body or "").encode()
        extensions = {
            "http_version": b"HTTP/1.1",
            "reason_phrase": str(answer.get("status_text") or "").encode("latin-1", "replace"),
        }
        received = [
            (name.encode("latin-1"), value.encode("latin-1"))
            for name, value in answer["headers"]
            if name.lower() not in ("content-length", "transfer-encoding")
        ]
        return httpx.Response(
            answer["status"],
            headers=received,
            stream=httpx.ByteStream(content),
            request=request,
            extensions=extensions,
        )

    def refuse(self: Any, request: Any) -> Any:
        raise NotPermitted(
            "httpx.Client would block every invocation of this process: use httpx.AsyncClient."
        )

    transport = httpx.AsyncHTTPTransport
    transport.__init__ = nothing
    transport.__aenter__ = same_later
    transport.__aexit__ = done
    transport.aclose = done
    transport.handle_async_request = handle
    blocking = httpx.HTTPTransport
    blocking.__init__ = nothing
    blocking.__enter__ = same
    blocking.__exit__ = blocking.close = nothing
    blocking.handle_request = refuse


def _class(error: HostError) -> str:
    """The name of httpx's own class for it."""
    if error.type == "TimeoutError":
        return f"{error.detail.get('phase', 'connect').capitalize()}Timeout"
    return _ERRORS.get(error.type, "ConnectError")


def _milliseconds(timeout: Any) -> dict[str, float]:
    """httpx's timeouts of a request, given in seconds; those that are not set are left out."""
    return {name: round(limit * 1000, 3) for name, limit in (timeout or {}).items() if limit is not None}


def _body(content: bytes) -> Any:
    if not content:
        return None
    try:
        return content.decode()
    except UnicodeDecodeError:
        return {"$bytea": b64encode(content).decode("ascii")}
