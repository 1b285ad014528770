"""`ctx.request` says the same in TypeScript and in Python."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from flux.runtime.deno import DenoLauncher
from flux.runtime.deployment import Deployment
from flux.runtime.deployment_guest import DeploymentGuest
from flux.runtime.pool import Launcher
from flux.runtime.python import PythonLauncher
from tests.integration.runtime.local_guest import ScriptedHost, engine, invocation

TYPESCRIPT = """
export default ({ input, ctx }: any) => {
  const r = ctx.request;
  return {
    input, query: r.query, body: r.body, text: r.text(), bytes: Array.from(r.bytes()),
    same: r.body === r.body,
    any: [r.headers.get("X-Tag"), r.headers.get("x-tag"), r.headers.has("x-TAG"), r.headers.has("x-none")],
    names: [...r.headers.keys()], route: [r.method, r.url, r.path, r.params],
  };
};
"""
PYTHON = """
def handler(input, ctx):
    r = ctx.request
    return {
        "input": input, "query": r.query, "body": r.body, "text": r.text(), "bytes": list(r.bytes()),
        "same": r.body is r.body,
        "any": [r.headers.get("X-Tag"), r.headers.get("x-tag"), "x-TAG" in r.headers, "x-none" in r.headers],
        "names": sorted(r.headers), "route": [r.method, r.url, r.path, r.params],
    }
"""
LANGUAGES: dict[str, tuple[Launcher, str, str]] = {
    "typescript": (DenoLauncher(), "index.ts", TYPESCRIPT),
    "python": (PythonLauncher(), "main.py", PYTHON),
}


@pytest.fixture(name="guest", params=LANGUAGES)
async def _guest(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[DeploymentGuest]:
    launcher, entry, source = LANGUAGES[request.param]
    files = {f"f/{entry}": source.encode()}
    async with engine(tmp_path, launcher) as made:
        yield await made.load(
            Deployment("0" * 64, "f", request.param, f"f/{entry}", files, {}, {"timeout_ms": 5000}, {})
        )


async def ask(guest: DeploymentGuest, body: bytes, **request: Any) -> dict[str, Any]:
    reply = await guest.invoke(invocation(body=body, **request), ScriptedHost())
    found = orjson.loads(reply.body)
    assert isinstance(found, dict)
    return found


async def test_a_query_is_a_string_by_name_and_a_list_where_a_name_is_repeated(
    guest: DeploymentGuest,
) -> None:
    said = await ask(guest, b"", query={"name": ["ann"], "tag": ["a", "b"], "empty": [""]})
    assert said["query"] == {"name": "ann", "tag": ["a", "b"], "empty": ""}
    assert (await ask(guest, b""))["query"] == {}


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        (b'{"a": [1, "\xc3\xa9"]}', {"a": [1, "é"]}),
        (b"0", 0),
        (b"null", None),
        (b"a=1&b=2", "a=1&b=2"),
        (b"h\xc3\xa9", "hé"),
        (b"\xff", "\ufffd"),
        (b"NaN", "NaN"),
        (b"", None),
    ],
)
async def test_a_body_is_its_json_else_its_text_and_null_where_it_is_empty(
    guest: DeploymentGuest, body: bytes, shown: Any
) -> None:
    said = await ask(guest, body)
    assert said["body"] == said["input"] == shown
    assert (said["bytes"], said["text"]) == (list(body), body.decode("utf-8", "replace"))
    assert said["same"]


async def test_headers_match_in_any_case_and_repeated_ones_are_joined(guest: DeploymentGuest) -> None:
    headers = [["x-tag", "one"], ["Content-Type", "text/plain"], ["X-TAG", "two"]]
    said = await ask(guest, b"", headers=headers)
    assert said["any"] == ["one, two", "one, two", True, False]
    assert said["names"] == ["content-type", "x-tag"]


async def test_method_url_path_and_params_are_the_request_s(guest: DeploymentGuest) -> None:
    said = await ask(guest, b"", method="PUT", url="http://h/f/7?x=1", path="/f/7", params={"id": "7"})
    assert said["route"] == ["PUT", "http://h/f/7?x=1", "/f/7", {"id": "7"}]
