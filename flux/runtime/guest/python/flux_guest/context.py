"""`ctx`: everything a handler may ask of the host. One per invocation, made by main."""

import asyncio
from collections.abc import Awaitable, Callable, Generator, Mapping
from contextvars import Token
from typing import Any

from flux_functions.errors import InvocationOver
from flux_functions.errors import SecretError as _SecretError

from flux_guest.database import Database
from flux_guest.invocation import Invocation, log, span
from flux_guest.queue import Queue
from flux_guest.request import Request
from flux_guest.values import dumps, parse, revived

_MISSING: Any = object()


class Log:
    """`ctx.log("text", user=7)` and its levels."""

    __slots__ = ("_invocation",)

    def __init__(self, invocation: Invocation) -> None:
        self._invocation = invocation

    def __call__(self, message: Any, /, fields: Mapping[str, Any] | None = None, **more: Any) -> None:
        """Log a line of level info. Fields come as one mapping, by name, or both."""
        log(self._invocation, "info", str(message), {**(fields or {}), **more})

    info = __call__

    def debug(self, message: Any, /, fields: Mapping[str, Any] | None = None, **more: Any) -> None:
        """A line of level debug."""
        log(self._invocation, "debug", str(message), {**(fields or {}), **more})

    def warn(self, message: Any, /, fields: Mapping[str, Any] | None = None, **more: Any) -> None:
        """A line of level warn."""
        log(self._invocation, "warn", str(message), {**(fields or {}), **more})

    warning = warn

    def error(self, message: Any, /, fields: Mapping[str, Any] | None = None, **more: Any) -> None:
        """A line of level error."""
        log(self._invocation, "error", str(message), {**(fields or {}), **more})


class Secrets:
    """Secrets by name."""

    __slots__ = ("_invocation",)

    def __init__(self, invocation: Invocation) -> None:
        self._invocation = invocation

    async def get(self, key: str, fallback: Any = _MISSING) -> Any:
        """The secret `key`, or `fallback` where one is given and there is no such secret.

        Raises:
            SecretError: there is none, and no fallback.
        """
        arguments: dict[str, Any] = {"key": key}
        if fallback is not _MISSING and isinstance(fallback, str):
            arguments["fallback"] = fallback
        try:
            return parse(await self._invocation.call("secrets.get", dumps(arguments)))["value"]
        except _SecretError:
            if fallback is _MISSING or "fallback" in arguments:
                raise
            return fallback


class Span:
    """`with ctx.trace.span("name"):`, `async with`, or `await ctx.trace.span("name", function)`."""

    __slots__ = ("_attributes", "_function", "_invocation", "_name", "_start", "_token")

    def __init__(self, invocation: Invocation, name: str, function: Any, attributes: dict[str, Any]) -> None:
        self._invocation = invocation
        self._name = name
        self._function = function
        self._attributes = attributes
        self._start = 0
        self._token: Token[int | None] | None = None

    def __enter__(self) -> "Span":
        arguments: dict[str, Any] = {"name": str(self._name)}
        if self._attributes:
            arguments["attributes"] = self._attributes
        self._start = self._invocation.note("span.start", dumps(arguments))
        self._token = span.set(self._start)
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if self._token is not None:
            span.reset(self._token)
            self._token = None
        arguments: dict[str, Any] = {"start": self._start}
        if kind is not None:
            text = str(error).encode("utf-8", "replace").decode()
            arguments["error"] = {"type": getattr(error, "type", None) or kind.__name__, "message": text}
        self._invocation.note("span.end", dumps(arguments))

    async def __aenter__(self) -> "Span":
        return self.__enter__()

    async def __aexit__(self, kind: Any, error: Any, trace: Any) -> None:
        self.__exit__(kind, error, trace)

    def __await__(self) -> Generator[Any, None, Any]:
        return self._run().__await__()

    async def _run(self) -> Any:
        if self._function is None:
            raise TypeError(
                "use `with ctx.trace.span(name):`, or give a function: await ctx.trace.span(name, function)"
            )
        with self:
            result = self._function()
            return await result if isinstance(result, Awaitable) else result


class Trace:
    """The function's own spans."""

    __slots__ = ("_invocation",)

    def __init__(self, invocation: Invocation) -> None:
        self._invocation = invocation

    def span(self, name: str, function: Callable[[], Any] | None = None, /, **attributes: Any) -> Span:
        """A span around a block or a function; host calls in it are its children."""
        return Span(self._invocation, name, function, attributes)


class Context:
    """What a handler gets as `ctx`.

    Attributes:
        request: the request; db, queue, secrets, trace, log: see their classes.
        env: the environment variables that flux.toml lists.
        request_id, trace_id, span_id: of this execution and its function's span.
    """

    __slots__ = (
        "_invocation",
        "db",
        "env",
        "log",
        "queue",
        "request",
        "request_id",
        "secrets",
        "span_id",
        "trace",
        "trace_id",
    )

    def __init__(
        self, invocation: Invocation, header: dict[str, Any], body: bytes, env: Mapping[str, str]
    ) -> None:
        self._invocation = invocation
        self.request = Request(header["request"], body)
        self.request_id: str = header["request_id"]
        self.trace_id: str = header["trace_id"]
        self.span_id: str = header["span_id"]
        self.env = env
        self.db = Database(invocation)
        self.queue = Queue(invocation)
        self.secrets = Secrets(invocation)
        self.trace = Trace(invocation)
        self.log = Log(invocation)

    async def invoke(self, name: str, payload: Any = None) -> Any:
        """Run function `name` with `payload` and wait for what it returns: an execution of its own in the
        same trace.

        Raises:
            InvokeError: it failed; `type` is its error's, `detail` has its request_id and status.
        """
        return revived(
            await self._invocation.call("invoke", dumps({"name": name, "payload": payload})) or b"null"
        )

    def wait_until(self, work: Awaitable[Any]) -> None:
        """Keep the execution open after its answer until `work` has settled, within the function's
        `timeout_ms`. What fails in it is a warning of the execution; the answer has left.

        Args:
            work: a coroutine, a task or another awaitable.

        Raises:
            InvocationOver: the execution has ended.
        """
        if not isinstance(work, Awaitable):
            called = "; call the function" if callable(work) else ""
            raise TypeError(f"ctx.wait_until takes an awaitable{called}, not {type(work).__name__}")
        if self._invocation.over:
            raise InvocationOver("ctx.wait_until came after the execution had ended.")
        self._invocation.works.add(asyncio.ensure_future(work))

    async def sleep(self, ms: float) -> None:
        """Wait `ms` milliseconds. (asyncio.sleep, in seconds, does the same.)"""
        if ms > 0:
            await self._invocation.call("sleep", dumps({"ms": ms}))
        else:
            await asyncio.sleep(0)
