"""`flux invoke`: run one function once, through the running server or, where none runs, by itself."""

from __future__ import annotations

import json
import sys
import urllib.error
import urllib.request
from typing import Any

import click

from flux.address import base_url
from flux.cli.output import command_errors, run
from flux.cli.project import project_config
from flux.config import Config
from flux.errors import FluxError, UsageError
from flux.record import json_text


@click.command()
@click.argument("function")
@click.argument("payload", required=False)
@command_errors
def invoke(function: str, payload: str | None) -> None:
    """Run FUNCTION with PAYLOAD (JSON; `-` reads stdin) as its input and print what it returns.

    The execution's id goes to stderr. Exit code 1 when the function fails.
    """
    text = sys.stdin.read() if payload == "-" else payload or "null"
    try:
        json_text.check(text.encode("utf-8", "surrogateescape"))
    except json_text.BadJSON as error:
        hint = 'Quote it: flux invoke hello \'{"name": "Ada"}\''
        raise UsageError(f"The payload is {error}.", hint) from error
    config = project_config()
    status, request_id, body = _through_server(config, function, text) or run(_alone(config, function, text))
    click.echo(body.decode("utf-8", "replace"))
    click.echo(f"{request_id}  {status}", err=True)
    if status >= 400:
        sys.exit(1)


def _through_server(config: Config, function: str, payload: str) -> tuple[int, str, bytes] | None:
    try:
        server: dict[str, Any] = json.loads((config.flux_dir / "server.json").read_text())
    except (OSError, ValueError):
        return None
    if not server.get("dev"):
        return None
    url = f"{base_url(server['host'], server['port'])}/_flux/api/v1/functions/{function}/invoke"
    request = urllib.request.Request(
        url, payload.encode(), {"content-type": "application/json"}, method="POST"
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request) as answer:
            return answer.status, answer.headers["x-request-id"], answer.read()
    except urllib.error.HTTPError as answer:
        request_id = answer.headers.get("x-request-id")
        if request_id is None:
            raise FluxError(f"The server at {url} answered {answer.code}.") from answer
        return answer.code, request_id, answer.read()
    except urllib.error.URLError:
        return None


async def _alone(config: Config, function: str, payload: str) -> tuple[int, str, bytes]:
    from flux.app.application import Application
    from flux.runtime.request import Request

    app = await Application.open(config, jobs=False)
    try:
        await app.registry.reload()
        result = await app.executor.execute(
            Request(trigger="invoke", function=function, body=payload.encode())
        )
        return result.status, result.request_id, result.body
    finally:
        await app.close()
