"""What `flux dev` answers at `GET /`: the functions, how to call each, and what is wrong with those that
do not load.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from jinja2 import Environment, PackageLoader

from flux.address import base_url
from flux.config import Config
from flux.errors import FunctionError
from flux.runtime.registry import Registry, Served

_PAGES = Environment(loader=PackageLoader("flux.gateway", "."), autoescape=True)


def curl(config: Config, method: str, path: str) -> str:
    """The command line that calls `path`."""
    url = base_url(config.host, config.port) + path
    if method == "GET":
        return f"curl '{url}'" if "?" in url else f"curl {url}"
    return f"curl -X {method} {url} -H 'content-type: application/json' -d '{{}}'"


def describe(registry: Registry, config: Config) -> dict[str, Any]:
    """The functions as a JSON document."""
    return {
        "name": config.name,
        "functions": [
            {
                "name": served.name,
                "methods": list(served.methods),
                "route": served.route,
                "runtime": served.deployment.runtime,
                "deployment": served.deployment.id,
                "curl": curl(config, served.methods[0], served.route),
                "error": _error(served),
            }
            for served in registry.functions.values()
        ],
        "problems": [
            {
                "function": problem.function,
                "place": _place(problem.file, problem.line, problem.column),
                "message": problem.message,
                "hint": problem.hint,
            }
            for problem in registry.problems
        ],
    }


async def answer(
    send: Callable[[dict[str, Any]], Awaitable[None]], registry: Registry, config: Config, accept: str
) -> None:
    """Send the list: HTML to a browser, JSON to everything else."""
    document = describe(registry, config)
    if "text/html" in accept:
        kind = b"text/html; charset=utf-8"
        body = _PAGES.get_template("listing.html").render(document).encode()
    else:
        kind, body = b"application/json", orjson.dumps(document, option=orjson.OPT_INDENT_2) + b"\n"
    headers = [(b"content-type", kind), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _error(served: Served) -> dict[str, Any] | None:
    error = served.failure
    if error is None:
        return None
    if isinstance(error, FunctionError):
        place = _place(error.file, error.line, error.column)
        return {"type": error.error_type, "message": error.message, "place": place}
    return {"type": error.type, "message": error.message, "place": ""}


def _place(file: str | None, line: int | None, column: int | None) -> str:
    return ":".join(str(part) for part in (file, line, column) if part)
