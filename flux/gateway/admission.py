"""Which requests may run: what of a request is refused before its function is asked, and in which words.

The gateway asks for every request, `flood` for those that come thick and fast; both say the same.
"""

from __future__ import annotations

from typing import NamedTuple

from flux.config import Config
from flux.gateway import listing
from flux.gateway.fields import Pairs, Repeated, by_name
from flux.gateway.origins import Origins
from flux.host.fetch import MARK, own_mark
from flux.record import json_text
from flux.record.events import Failure
from flux.runtime.failures import explain
from flux.runtime.registry import Registry
from flux.runtime.routes import Match, NotAllowed, is_internal


class Refused(NamedTuple):
    """A request that does not run.

    Attributes:
        status, failure: how it is answered. allow: the methods that its path takes, where that is why.
    """

    status: int
    failure: Failure
    allow: str = ""


class Admission:
    """What is let in.

    Args:
        config: dev, where the server listens. registry: routes, and how busy functions are.

    Attributes:
        origins: who may ask.
    """

    def __init__(self, config: Config, registry: Registry) -> None:
        self._config = config
        self._registry = registry
        self.origins = Origins(config)
        self._own = own_mark(config.master_key)

    def caller(self, method: str, path: str, headers: Pairs) -> tuple[dict[str, str], Refused | None]:
        """A request's header fields by name, and a refusal: of who sent it, or of fields that can be read in
        two ways.
        """
        try:
            named = by_name(headers)
        except Repeated as error:
            message = f"The header field {error} may be given once; it came with different values."
            return dict(headers), Refused(400, Failure(type="BadRequest", message=message))
        failure = self.origins.refusal(method, path, named)
        if MARK in named and named[MARK] == self._own and is_internal(path):
            message = f"A function can't fetch {path} of its own server: ctx.invoke runs another function."
            failure = Failure(type="ForbiddenFetch", message=message)
        return named, None if failure is None else Refused(403, failure)

    def route(self, method: str, raw: str, path: str) -> Match | Refused:
        """Whose a request is. `raw`: the path as it came; `path`: decoded."""
        found = self._registry.routes.match(method, raw)
        if found is None:
            return Refused(404, Failure(type="NotFound", message=f"No function has the route {path}."))
        if isinstance(found, NotAllowed):
            allowed = ", ".join(found.allowed)
            message = f"{path} takes {allowed}, not {method}."
            if self._config.dev and (line := self._line(found.allowed[0], raw)):
                message += f" Try: {line}"
            return Refused(405, Failure(type="MethodNotAllowed", message=message), allowed)
        return found

    def _line(self, method: str, raw: str) -> str | None:
        """How the path is called as it may be."""
        match = self._registry.routes.match(method, raw)
        served = None if match is None or match.function is None else self._registry.get(match.function)
        return None if served is None else listing.curl(self._config, served, method, raw)

    def template(self, function: str) -> str | None:
        """The route of a function, as it was written."""
        served = self._registry.get(function)
        return None if served is None else served.route

    def json(self, body: bytes) -> Refused | None:
        """A refusal of a body that should be JSON and isn't."""
        try:
            json_text.check(body)
        except json_text.BadJSON as error:
            return Refused(400, Failure(type="BadJSON", message=f"The body is {error}."))
        return None

    def room(self, function: str) -> Refused | None:
        """A refusal where the function takes no more now."""
        served = self._registry.get(function)
        if served is None or served.guest is None:
            return None
        refusal = served.guest.refusal()
        return None if refusal is None else Refused(*explain(refusal))
