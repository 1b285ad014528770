"""`ctx.request`: the HTTP request, or what stood for it, that an invocation answers. Part of ctx."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from flux_guest.values import parse

_UNREAD: Any = object()


def value_of(data: bytes, read: Callable[[bytes], Any] = parse) -> Any:
    """What bytes hold: the value of JSON, the text of anything else (a form, plain text), None where there
    are none."""
    if not data:
        return None
    try:
        return read(data)
    except ValueError:
        return data.decode("utf-8", "replace")


class Headers(Mapping[str, str]):
    """A request's headers by name, in any case: `[name]` is the value, those of a repeated header joined by
    commas; `all(name)` has each.
    """

    __slots__ = ("_values",)

    def __init__(self, pairs: list[tuple[str, str]]) -> None:
        self._values: dict[str, list[str]] = {}
        for name, value in pairs:
            self._values.setdefault(name.lower(), []).append(value)

    def __getitem__(self, name: str) -> str:
        return ", ".join(self._values[name.lower()])

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return repr({name: self[name] for name in self})

    def all(self, name: str) -> list[str]:
        """Every value of `name`, in order; [] where there is none."""
        return list(self._values.get(name.lower(), ()))


class Request:
    """The request.

    Attributes:
        method, url, path: as received; None for a job or an invocation by another function.
        params: the route's parameters, decoded.
        query: the query's members by name: a string each, a list where a name is repeated.
        headers: the request's headers.
        body: the value of JSON, the text of anything else, None where it is empty.
    """

    __slots__ = ("_body", "_bytes", "headers", "method", "params", "path", "query", "url")

    def __init__(self, request: dict[str, Any], body: bytes) -> None:
        self.method: str | None = request.get("method")
        self.url: str | None = request.get("url")
        self.path: str | None = request.get("path")
        self.params: dict[str, str] = request.get("params") or {}
        self.query: dict[str, str | list[str]] = {
            name: values[0] if len(values) == 1 else values
            for name, values in (request.get("query") or {}).items()
        }
        self.headers = Headers([(name, value) for name, value in request.get("headers") or ()])
        self._bytes = body
        self._body = _UNREAD

    @property
    def body(self) -> Any:
        if self._body is _UNREAD:
            self._body = value_of(self._bytes)
        return self._body

    def text(self) -> str:
        """The body as text."""
        return self._bytes.decode("utf-8", "replace")

    def json(self) -> Any:
        """The body, parsed.

        Raises:
            ValueError: it is not JSON.
        """
        return parse(self._bytes)

    def bytes(self) -> bytes:
        """The body as it came."""
        return self._bytes
