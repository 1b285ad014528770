"""`ctx.request`: the HTTP request, or what stood for it, that an invocation answers. Part of ctx."""

from collections.abc import Iterator, Mapping
from typing import Any


class Headers(Mapping[str, str]):
    """A request's headers: `[name]` is the first value, `all(name)` every one; names match in any case."""

    __slots__ = ("_values",)

    def __init__(self, pairs: list[tuple[str, str]]) -> None:
        self._values: dict[str, list[str]] = {}
        for name, value in pairs:
            self._values.setdefault(name.lower(), []).append(value)

    def __getitem__(self, name: str) -> str:
        return self._values[name.lower()][0]

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
        body: the bytes as they came.
    """

    __slots__ = ("body", "headers", "method", "params", "path", "query", "url")

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
        self.body = body
