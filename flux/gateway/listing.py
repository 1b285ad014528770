"""What `flux dev` answers at `GET /`: the functions, how to call each, and what is wrong with those that do not load."""

from __future__ import annotations

import html
from collections.abc import Awaitable, Callable
from typing import Any

import orjson

from flux.config import Config
from flux.errors import FunctionError
from flux.runtime.registry import Registry, Served


def curl(config: Config, method: str, path: str) -> str:
    """The command line that calls `path`."""
    url = f"http://{config.host}:{config.port}{path}"
    if method == "GET":
        return f"curl '{url}'" if "?" in url else f"curl {url}"
    return f"curl -X {method} {url} -H 'content-type: application/json' -d '{{}}'"


def describe(registry: Registry, config: Config) -> dict[str, Any]:
    """The functions as a JSON document."""
    return {
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
                "file": problem.file,
                "line": problem.line,
                "column": problem.column,
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
        kind, body = b"text/html; charset=utf-8", _page(document, config).encode()
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
        return {
            "type": error.error_type,
            "message": error.message,
            "file": error.file,
            "line": error.line,
            "column": error.column,
        }
    return {"type": error.type, "message": error.message}


_STYLE = """
:root{color-scheme:light dark}body{font:15px/1.5 system-ui,sans-serif;max-width:52rem;margin:3rem auto;padding:0 1rem}
h1{font-size:1.3rem;margin:0}p.sub{opacity:.7;margin:.2rem 0 2rem}article{border-top:1px solid #8884;padding:1rem 0}
h2{font-size:1rem;margin:0 0 .4rem}code,pre{font:13px/1.5 ui-monospace,monospace}pre{background:#8881;padding:.6rem .8rem;
border-radius:6px;overflow:auto;margin:.4rem 0}.m{font-weight:600;margin-right:.6rem}.r{opacity:.6;font-weight:400;float:right}
.e{color:#c62828}
"""


def _page(document: dict[str, Any], config: Config) -> str:
    rows = []
    for function in document["functions"]:
        error = function["error"]
        place = ":".join(str(error[k]) for k in ("file", "line", "column") if error.get(k)) if error else ""
        note = (
            f'<pre class="e">{html.escape(error["type"])}: {html.escape(error["message"])}\n{html.escape(place)}</pre>'
            if error
            else f"<pre>{html.escape(function['curl'])}</pre>"
        )
        rows.append(
            f'<article><h2><span class="m">{html.escape(" ".join(function["methods"]))}</span>'
            f"<code>{html.escape(function['route'])}</code>"
            f'<span class="r">{html.escape(function["runtime"])}</span></h2>{note}</article>'
        )
    for problem in document["problems"]:
        place = ":".join(str(problem[k]) for k in ("file", "line", "column") if problem[k])
        rows.append(
            f'<article><pre class="e">{html.escape(place)} {html.escape(problem["message"])}\n'
            f"{html.escape(problem['hint'] or '')}</pre></article>"
        )
    empty = "<article>No functions yet. Write <code>functions/hello/index.ts</code>.</article>"
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{html.escape(config.name)} · Flux</title>"
        f"<style>{_STYLE}</style><h1>{html.escape(config.name)}</h1>"
        f'<p class=sub>{len(document["functions"])} functions · every execution is a record: <code>flux trace last</code></p>'
        f"{''.join(rows) or empty}</html>"
    )
