"""What is too large: many large calls of one execution, and one answer. Each is refused by name and recorded,
and neither the server's memory nor its spool is at a function's mercy.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from flux.host.recording import MOST_PAYLOAD
from tests.acceptance.conftest import Project, eventually

MIB = 2**20


@pytest.fixture(scope="module")
def client(module_project: Project) -> Iterator[httpx.Client]:
    project = module_project
    large = "await ctx.db.sql(\"select repeat('x', 1000000) as text\")"
    project.typescript("one_by_one", f"    for (;;) {large};", timeout_ms=120_000)
    project.typescript(
        "at_once", f"    await Promise.all(Array.from({{ length: 2000 }}, async () => {{ {large}; }}));",
        timeout_ms=120_000,
    )  # fmt: skip
    project.typescript("failing", f"    for (;;) {large};", timeout_ms=120_000, record="errors")
    project.typescript(
        "unrecorded", f"    for (let n = 0; n < 160; n++) {large};\n    return 'all';", record="none"
    )
    project.write(
        "functions/answer_py/main.py",
        "from flux_functions import Response\n\n"
        "async def handler(input, ctx):\n    return Response(bytes(200 * 2**20 + 1))\n",
    )
    project.typescript("answer", "    return new Response(new Uint8Array(200 * 2 ** 20 + 1));")
    project.typescript("hello", "    return 'hello';")
    with project.serving() as serving:
        serving.timeout = 120
        yield serving


def peak(project: Project) -> int:
    """The most bytes that the server ever had resident."""
    status = Path(f"/proc/{project.servers[0].process.pid}/status").read_text()
    return 1024 * int(status.partition("VmHWM:")[2].split()[0])


def error(answer: httpx.Response) -> tuple[int, str, str]:
    said = answer.json()["error"]
    return answer.status_code, said["type"], said["message"]


@pytest.mark.parametrize("path", ["/one_by_one", "/at_once", "/failing"])
def test_large_calls_without_end_end_the_execution_and_are_recorded(
    client: httpx.Client, module_project: Project, path: str
) -> None:
    assert client.post("/hello", json={}).status_code == 200
    before = peak(module_project)
    answer = client.post(path, json={})
    status, kind, message = error(answer)
    assert (status, kind) == (500, "TooMuchPayload")
    assert "128 MiB" in message
    assert '"record": "none"' in message
    if path == "/one_by_one":  # elsewhere it is held until the end
        assert peak(module_project) - before < MOST_PAYLOAD / 2
    record = answer.headers["x-request-id"]
    found = (
        "select e.outcome, e.error ->> 'type' as type, count(*) filter (where c.status = 'done') as done, "
        "sum(length(c.result)) as bytes from flux.executions e join flux.host_calls c using (request_id) "
        f"where request_id = '{record}' group by 1, 2"
    )
    eventually(lambda: module_project.json("query", found), 60)
    [row] = module_project.json("query", found)
    assert (row["outcome"], row["type"]) == ("error", "TooMuchPayload")
    assert MOST_PAYLOAD - 2 * MIB < int(row["bytes"]) < MOST_PAYLOAD + 20 * MIB
    assert int(row["done"]) >= 127
    assert client.post("/hello", json={}).status_code == 200


def test_what_is_not_kept_is_not_bounded(client: httpx.Client) -> None:
    assert client.post("/unrecorded", json={}).json() == "all"


@pytest.mark.parametrize("path", ["/answer", "/answer_py"])
def test_an_answer_over_200_mib_is_refused_by_the_guest_which_goes_on(
    client: httpx.Client, module_project: Project, path: str
) -> None:
    answer = client.post(path, json={})
    status, _, message = error(answer)
    assert status == 500
    assert "200" in message
    assert "MiB" in message
    shown = module_project.json("trace", answer.headers["x-request-id"])
    assert (shown["outcome"], shown["error"]["message"]) == ("error", message)
    assert client.post("/hello", json={}).status_code == 200
