"""Requests of a flood: refused like all others, for next to nothing each.

Once the rejections of a second are recorded together, all that the next one like them needs is its number
in the spool, its id and its words. Requests that came in one read share the append of their number; answers
leave after it. Who is let in, with which function and input, is decided as ever: what is no plain refusal
that can join an open record is handed back, to take the whole way. Asked by the connections, owned by the
gateway.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

import msgspec

from flux.config import Config
from flux.errors import SpoolError
from flux.gateway import replies
from flux.gateway.admission import Admission, Refused
from flux.gateway.body import is_json_body
from flux.gateway.plain import Answer, Incoming
from flux.gateway.rejections import Rejections
from flux.gateway.traffic import Traffic
from flux.record.events import Failure
from flux.runtime.routes import is_internal
from flux.runtime.together import Together

Document = Callable[[Failure, str], bytes]
"""The JSON of an error, with a request's id."""


class Joining(msgspec.Struct, frozen=True):
    """A request that is refused, and the open record that it will be counted in."""

    method: str
    route: str | None
    refused: Refused
    together: Together


class Flood:
    """Refuses what comes thick and fast.

    Args:
        config: body limit, dev. admission: decides. rejections: has the open records.
        document: makes the body of an error's answer. traffic: is told of each answer.
    """

    def __init__(
        self,
        config: Config,
        admission: Admission,
        rejections: Rejections,
        document: Document,
        traffic: Traffic,
    ) -> None:
        self._config = config
        self._admission = admission
        self._rejections = rejections
        self._document = document
        self._traffic = traffic

    def joins(self, request: Incoming) -> Joining | None:
        """How a request is refused, if it only has to be counted; None: it takes the whole way."""
        if not self._rejections.flooded:
            return None
        path = request.path
        if is_internal(path) or (path == "/" and self._config.dev):
            return None
        named = dict(request.headers)
        if len(named) < len(request.headers) or not self._admission.origins.unremarkable(named):
            return None
        if len(request.body) > self._config.body_limit:
            return None
        method, function, route = request.method, None, None
        found = self._admission.route(method, request.raw, path)
        if not isinstance(found, Refused):
            function = found.function
            refused = self._input(request, named) or self._admission.room(function)
            if refused is None:
                return None
            found, route = refused, self._admission.template(function)
        together = self._rejections.joining((found.status, found.failure.type, function))
        return None if together is None else Joining(method, route, found, together)

    def answer(self, requests: Sequence[Joining]) -> list[Answer | None]:
        """Count requests, and say how each is answered; None where it could not be counted: it takes the
        whole way.
        """
        began = time.perf_counter()
        counts: dict[Together, int] = {}
        for one in requests:
            counts[one.together] = counts.get(one.together, 0) + 1
        for together, count in counts.items():
            try:
                together.add(count)
            except SpoolError:
                counts[together] = 0
        answers: list[Answer | None] = []
        for one in requests:
            if not counts[one.together]:
                answers.append(None)
                continue
            counts[one.together] -= 1
            result = one.together.result(counts[one.together])
            body = self._document(one.refused.failure, result.request_id)
            answers.append(Answer(result.status, replies.headers(result, one.refused.allow), body))
            took = time.perf_counter() - began
            self._traffic.passed(one.method, one.route, result.status, one.refused.failure.type, took)
        return answers

    def _input(self, request: Incoming, named: Mapping[str, str]) -> Refused | None:
        if request.method == "GET":
            return None
        if is_json_body(named.get("content-type"), request.body):
            return self._admission.json(request.body)
        return None
