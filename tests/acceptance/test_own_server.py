"""A function that fetches its own server: functions answer it, what is Flux's own does not."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest

from tests.acceptance.conftest import Project

TYPESCRIPT = """\
    const answer = await fetch(input.url, { method: input.method ?? "GET", headers: input.headers ?? {} });
    return [answer.status, await answer.text()];"""
PYTHON = """\
import httpx

async def handler(input, ctx):
    async with httpx.AsyncClient(follow_redirects=True) as client:
        headers = input.get("headers", {})
        answer = await client.request(input.get("method", "GET"), input["url"], headers=headers)
    return [answer.status_code, answer.text]
"""
REDIRECT = """\
    return new Response(null, { status: 302, headers: { location: String(input.to) } });"""


def test_what_is_fluxs_own_is_refused_to_functions(project: Project) -> None:
    project.typescript("ask", TYPESCRIPT)
    project.write("functions/ask_python/main.py", PYTHON)
    project.typescript("away", REDIRECT, method="GET")
    project.typescript("hello", "    return 'hello';", method="GET")
    with project.serving("dev") as client:
        port = urlsplit(str(client.base_url)).port
        own = f"http://127.0.0.1:{port}"
        assert client.get("/_flux/api/v1/functions").status_code == 200
        tries = [
            {"url": f"{own}/_flux/api/v1/functions"},
            {"url": f"http://localhost:{port}/_flux/api/v1/functions"},
            {"url": f"http://127.1:{port}/_flux/metrics"},
            {"url": f"{own}/_flux/api/v1/functions", "headers": {"flux-fetch": "none"}},
            {"url": f"{own}/v1/traces", "method": "POST"},
            {"url": f"{own}/away?to=/_flux/api/v1/functions"},
            {"url": f"http://localhost:{port}/away?to={own}/_flux/api/v1/functions"},
        ]
        for function in ("/ask", "/ask_python"):
            for given in tries:
                status, text = client.post(function, json=given).json()
                assert status == 403, given
                assert "can't fetch" in text, given
            assert client.post(function, json={"url": f"{own}/hello"}).json() == [200, '"hello"']


@pytest.mark.parametrize("command", ["dev", "serve"])
def test_what_a_failing_module_says_can_not_act_on_the_terminal(project: Project, command: str) -> None:
    evil = "\\x1b]0;owned\\x07\\x1b[2J\\x9b31m"
    project.write("functions/a/index.ts", f'console.log("{evil}"); throw new Error("{evil}");\n')
    project.write(
        "functions/b/main.py",
        f'import sys\nprint("{evil}")\nsys.stderr.write("{evil}\\n")\nraise ValueError("{evil}")\n',
    )
    project.write("functions/c/index.ts", "// \x1b[2J\nthrow new Error('line 2');/* \x1b[31m */\n")
    with project.serving(command):
        pass
    said = project.servers[-1].output.read_text()
    assert said.count("owned") > 4
    assert [character for character in said if not character.isprintable() and character != "\n"] == []
