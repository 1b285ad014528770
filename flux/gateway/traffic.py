"""HTTP requests as metrics see them: how many, how long, how they ended. Bumped by the gateway, read later.

The instruments are OpenTelemetry's `http.server.request.duration` and `http.server.active_requests`. What a
client can make up is folded, so that nobody can fill the memory with it: unknown methods are `_OTHER`, and so
are error types beyond MOST_SERIES.
"""

from __future__ import annotations

from flux.histogram import HTTP, Histogram

MOST_SERIES = 2000
OTHER = "_OTHER"
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "QUERY"})

Series = tuple[str, str, str, int, str]
"""Method, scheme, route, status, error type; "" where there is none."""


class Traffic:
    """What the gateway has answered since its process began.

    Attributes:
        durations: by series, seconds from the request's head to the end of its answer.
        active: requests being answered, by method and scheme.
    """

    def __init__(self) -> None:
        self.durations: dict[Series, Histogram] = {}
        self.active: dict[tuple[str, str], int] = {}

    def begin(self, method: str, scheme: str) -> tuple[str, str]:
        """A request has come; gives what to `end` it with."""
        key = (method if method in METHODS else OTHER, scheme)
        active = self.active
        active[key] = active.get(key, 0) + 1
        return key

    def end(
        self, key: tuple[str, str], route: str | None, status: int, error: str | None, seconds: float
    ) -> None:
        """It is answered.

        Args:
            key: from `begin`.
            route: its function's, or None where none matched.
            error: what failed; told of server errors, and of a client that went away (499).
        """
        self.active[key] -= 1
        self._count(key, route, status, error, seconds)

    def passed(self, method: str, route: str | None, status: int, error: str | None, seconds: float) -> None:
        """A plain request was answered at once; the arguments are as for `begin` and `end`."""
        self._count((method, "http"), route, status, error, seconds)

    def _count(
        self, key: tuple[str, str], route: str | None, status: int, error: str | None, seconds: float
    ) -> None:
        failed = (error or str(status)) if status >= 499 else ""
        series = (*key, route or "", status, failed)
        found = self.durations.get(series)
        if found is None:
            if len(self.durations) >= MOST_SERIES and failed:
                series = (*key, route or "", status, OTHER)
            found = self.durations.setdefault(series, Histogram(HTTP))
        found.add(seconds)
