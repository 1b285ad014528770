"""A request's header fields by name, where some came more than once.

The last one must not win: a proxy in front that reads the first would have seen another request. Fields that
are lists are joined, as RFC 9110 (5.3) says. Of a field that may stand once, different values are refused.
Several ids are none.
"""

from __future__ import annotations

from collections.abc import Sequence

Pairs = Sequence[tuple[str, str]]

SINGLE = frozenset(
    {
        "authorization",
        "content-length",
        "content-type",
        "host",
        "origin",
        "proxy-authorization",
        "sec-fetch-dest",
        "sec-fetch-mode",
        "sec-fetch-site",
        "x-api-key",
    }
)
"""Fields whose value decides what is done, and which may have one."""
_IDS = frozenset({"traceparent", "x-request-id"})
"""Fields that name something: W3C Trace Context asks that several traceparents count as none."""


class Repeated(ValueError):
    """A field that may stand once came with different values; the text is its name."""


def by_name(headers: Pairs) -> dict[str, str]:
    """The fields, one value a name; the names are lower case already.

    Raises:
        Repeated: see SINGLE.
    """
    named = dict(headers)
    if len(named) == len(headers):
        return named
    values: dict[str, list[str]] = {}
    for name, value in headers:
        values.setdefault(name, []).append(value)
    for name, several in values.items():
        if len(several) == 1:
            continue
        if name in SINGLE:
            if any(value != several[0] for value in several):
                raise Repeated(name)
            named[name] = several[0]
        elif name in _IDS:
            del named[name]
        else:
            named[name] = ("; " if name == "cookie" else ", ").join(several)
    return named
