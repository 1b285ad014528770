"""What `flux dev` answers at `GET /`: the functions, how to call each, and what is wrong with those that
do not load.
"""

from __future__ import annotations

import json
import re
import shlex
from typing import Any
from urllib.parse import quote, urlencode

import orjson
from jinja2 import Environment, PackageLoader

from flux.address import base_url
from flux.config import Config
from flux.errors import FunctionError
from flux.gateway.plain import Answer
from flux.runtime.registry import Registry, Served

_PARAMETER = re.compile(r"\{(\w+)\}")
_PAGES = Environment(loader=PackageLoader("flux.gateway", "."), autoescape=True)


def curl(config: Config, served: Served, method: str | None = None, path: str | None = None) -> str:
    """The command line that calls a function, with its flux.json's `example` as input.

    Args:
        method: one of the function's; by default its first.
        path: that was asked for; by default the function's route, parameters taken from the example.
    """
    example = served.deployment.config.get("example")
    rest = dict(example) if isinstance(example, dict) else {}
    if path is None:
        path = _PARAMETER.sub(lambda name: _segment(rest.pop(name[1], 1)), served.route)
    method = method or served.methods[0]
    url = base_url(config.host, config.port) + path
    if method in ("GET", "HEAD"):
        query = urlencode({name: _text(value) for name, value in rest.items()})
        return f"curl {'-I ' if method == 'HEAD' else ''}{shlex.quote(f'{url}?{query}' if query else url)}"
    body = rest if isinstance(example, dict) or example is None else example
    text = json.dumps(body, ensure_ascii=False)
    return f"curl -X {method} {shlex.quote(url)} -H 'content-type: application/json' -d {shlex.quote(text)}"


def first(registry: Registry) -> Served | None:
    """The function to try first: one that needs no input, else one that has an example of it."""
    served = [one for one in registry.functions.values() if one.failure is None]
    for wanted in (_needs_nothing, _has_example):
        found = next((one for one in served if wanted(one)), None)
        if found is not None:
            return found
    return served[0] if served else None


def _needs_nothing(served: Served) -> bool:
    return "GET" in served.methods and "{" not in served.route


def _has_example(served: Served) -> bool:
    return "example" in served.deployment.config


def _segment(value: Any) -> str:
    return quote(_text(value), safe="")


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


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
                "curl": curl(config, served),
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


def page(registry: Registry, config: Config, accept: str) -> Answer:
    """The list: HTML to a browser, JSON to everything else."""
    document = describe(registry, config)
    if "text/html" in accept:
        kind = b"text/html; charset=utf-8"
        body = _PAGES.get_template("listing.html").render(document).encode()
    else:
        kind, body = b"application/json", orjson.dumps(document, option=orjson.OPT_INDENT_2) + b"\n"
    return Answer(200, [(b"content-type", kind)], body)


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
