"""A flood of rejected requests: recorded together above the limit, and not one of them lost."""

from __future__ import annotations

import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from tests.acceptance.conftest import Project, Server
from tests.acceptance.hostile import Raw, beside_a_neighbour, get, post

REQUESTS = 5000
CONNECTIONS = 10
PIPELINED = 50


def _flood(server: Server, requests: int) -> list[tuple[str, int, str]]:
    """Many rejections as quickly as they can be sent: (request_id, status, error type) of each."""
    kinds = [get("/nowhere"), get("/nowhere/else"), get("/kind"), post("/kind", b"{")]

    def client(_: int) -> list[tuple[str, int, str]]:
        found = []
        with Raw(server) as raw:
            for _ in range(requests // CONNECTIONS // PIPELINED):
                raw.send(b"".join(kinds[n % 4] for n in range(PIPELINED)))
                for _ in range(PIPELINED):
                    answer = raw.answer()
                    document = json.loads(answer.body)["error"]
                    assert document["request_id"] == answer.request_id
                    found.append((answer.request_id, *answer.error))
        return found

    with ThreadPoolExecutor(CONNECTIONS) as threads:
        return [one for many in threads.map(client, range(CONNECTIONS)) for one in many]


def _by_kind(answers: list[tuple[str, int, str]]) -> Counter[tuple[int, str]]:
    return Counter((status, kind) for _, status, kind in answers)


COUNTED = (
    "SELECT status, error->>'type' AS kind, sum(count)::int AS n, count(*)::int AS rows"
    " FROM flux.executions WHERE outcome = 'rejected' GROUP BY 1, 2 ORDER BY 1"
)


def test_a_flood_of_rejections_is_recorded_together_and_counted_exactly(project: Project) -> None:
    project.write("flux.toml", 'name = "app"\nrejection_records = 100\n')
    with beside_a_neighbour(project) as server:
        answers = _flood(server, REQUESTS)
        assert len({request_id for request_id, _, _ in answers}) == REQUESTS
        members = [request_id for request_id, _, _ in answers if request_id[20:26] == "000000"]
        member = max(members, key=lambda request_id: request_id[20:])
        number = int(member[-12:], 16)
        document = project.json("trace", member)
        assert document["request_id"] == member[:-12] + "0" * 12
        assert document["count"] >= number > 1
        assert f"number {number} of them" in " ".join(document["warnings"])
        assert document["outcome"] == "rejected"
        [span] = document["spans"]
        assert span["attributes"]["flux.count"] == document["count"]
        unissued = member[:-12] + f"{document['count'] + 1:012x}"
        assert project.flux("trace", unissued, code=None).returncode == 1
        shown = project.flux("tail", "--no-follow", "-n", "2000", "--failed").stdout
        assert f"×{document['count']}" in shown
    rows = project.json("query", COUNTED)
    assert {(row["status"], row["kind"]): row["n"] for row in rows} == _by_kind(answers)
    assert sum(row["rows"] for row in rows) < REQUESTS
    [row] = project.json("query", "SELECT string_agg(request_id, ' ') AS ids FROM flux.executions")
    ids = set(row["ids"].split())
    assert all(request_id in ids or request_id[:-12] + "0" * 12 in ids for request_id, _, _ in answers)


def test_rejections_survive_a_kill(project: Project) -> None:
    project.typescript("kind", "    return input;")
    project.write("flux.toml", 'name = "app"\nrejection_records = 10\n')
    server = project.start("serve")
    answers = _flood(server, 1500)
    server.kill()
    with project.serving():
        pass  # drains what the killed one left
    rows = project.json("query", COUNTED)
    assert {(row["status"], row["kind"]): row["n"] for row in rows} == _by_kind(answers)
    assert project.json("query", "SELECT count(*)::int AS n FROM flux.quarantine") == [{"n": 0}]
