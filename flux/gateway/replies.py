"""How a result is answered over HTTP: its headers, and what of a function's own is left out of them."""

from __future__ import annotations

from flux.runtime.request import Result

Headers = list[tuple[bytes, bytes]]

JSON = (b"content-type", b"application/json")
UNBODIED = frozenset({204, 205, 304})
_DROPPED = frozenset(
    {"content-length", "transfer-encoding", "connection", "keep-alive", "x-request-id", "traceparent"}
)


def _once(fields: Headers, name: bytes) -> None:
    """Keep the first of the fields of that name."""
    for again in [at for at, field in enumerate(fields) if field[0] == name][:0:-1]:
        del fields[again]


def headers(result: Result, allow: str = "") -> Headers:
    """An answer's header fields, but for its length.

    Args:
        result: what is answered. allow: methods, where another was asked for.
    """
    found = [
        (b"x-request-id", result.request_id.encode()),
        (b"traceparent", f"00-{result.trace_id}-{result.span_id}-01".encode()),
    ]
    if allow:
        found.append((b"allow", allow.encode()))
    if result.kind == "json":
        found.append(JSON)
    if result.headers:
        found += [
            (name.lower().encode("latin-1", "replace"), value.encode("latin-1", "replace"))
            for name, value in result.headers
            if name.lower() not in _DROPPED
        ]
        _once(found, b"date")
    if result.status == 503 and not any(name == b"retry-after" for name, _ in found):
        found.append((b"retry-after", b"1"))
    return found
