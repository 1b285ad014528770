"""A flood of rejected requests: recorded together above the limit, and not one of them lost."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from tests.acceptance.conftest import Project, Server
from tests.acceptance.hostile import Raw, beside_a_neighbour, get, post

REQUESTS = 5000
CONNECTIONS = 10
PIPELINED = 50
KINDS = [get("/nowhere"), get("/nowhere/else"), get("/kind"), post("/kind", b"{")]
CLOSING = [
    b"POST /kind HTTP/1.1\r\nhost: localhost\r\ncontent-length: 999999999\r\n\r\n",
    b"GET /kind HTTP/1.1\r\nhost: localhost\r\nno field\r\n\r\n",
]
"""Those whose answer ends the connection."""

Answered = list[tuple[str, int, str]]
"""Request id, status and error type of each."""


def _flood(server: Server, requests: int) -> Answered:
    """Many rejections as quickly as they can be sent."""

    def client(_: int) -> Answered:
        found = []
        with Raw(server) as raw:
            for _ in range(requests // CONNECTIONS // PIPELINED):
                raw.send(b"".join(KINDS[n % 4] for n in range(PIPELINED)))
                found += [_told(raw) for _ in range(PIPELINED)]
        return found

    with ThreadPoolExecutor(CONNECTIONS) as threads:
        return [one for many in threads.map(client, range(CONNECTIONS)) for one in many]


def _told(raw: Raw) -> tuple[str, int, str]:
    answer = raw.answer()
    assert json.loads(answer.body)["error"]["request_id"] == answer.request_id
    return (answer.request_id, *answer.error)


def _closing(server: Server, requests: int) -> Answered:
    """Rejections on a connection each."""
    found = []
    for number in range(requests):
        with Raw(server) as raw:
            raw.send(CLOSING[number % 2])
            found.append(_told(raw))
    return found


def _by_kind(answers: Answered) -> Counter[tuple[int, str]]:
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


def test_twenty_thousand_at_full_speed_are_all_counted_in_a_bounded_number_of_records(
    project: Project,
) -> None:
    began = time.monotonic()
    with beside_a_neighbour(project) as server, ThreadPoolExecutor(1) as beside:
        closing = beside.submit(_closing, server, 200)
        answers = _flood(server, 20_000) + closing.result()
        seconds = time.monotonic() - began
    assert len({request_id for request_id, _, _ in answers}) == len(answers) == 20_200
    rows = project.json("query", COUNTED)
    assert {(row["status"], row["kind"]): row["n"] for row in rows} == _by_kind(answers)
    assert len(rows) == 5
    # Of each second 1,000 one by one, and one of each kind: status, reason and function.
    assert sum(row["rows"] for row in rows) <= (int(seconds) + 2) * (1000 + len(rows))
    [row] = project.json(
        "query", "SELECT string_agg(request_id, ' ') AS ids FROM flux.executions WHERE outcome = 'rejected'"
    )
    ids = set(row["ids"].split())
    assert all(request_id in ids or request_id[:-12] + "0" * 12 in ids for request_id, _, _ in answers)
    assert project.json("query", "SELECT count(*)::int AS n FROM flux.quarantine") == [{"n": 0}]


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


def test_what_was_answered_is_counted_when_the_server_is_killed_amid_a_flood(project: Project) -> None:
    project.typescript("kind", "    return input;")
    project.write("flux.toml", 'name = "app"\nrejection_records = 100\n')
    server = project.start("serve")
    answers: Answered = []
    enough = threading.Event()

    def client(_: int) -> None:
        with Raw(server) as raw:
            while True:
                try:
                    raw.send(b"".join(KINDS[n % 4] for n in range(PIPELINED)))
                    for _ in range(PIPELINED):
                        answers.append(_told(raw))
                except (OSError, EOFError):
                    return
                if len(answers) > 3000:
                    enough.set()

    with ThreadPoolExecutor(CONNECTIONS) as threads:
        clients = [threads.submit(client, number) for number in range(CONNECTIONS)]
        assert enough.wait(60)
        server.kill()
        for done in clients:
            done.result()
    with project.serving():
        pass  # drains what the killed one left
    rows = project.json("query", "SELECT string_agg(request_id || count, ' ') AS counts FROM flux.executions")
    counts = {one[:32]: int(one[32:]) for one in rows[0]["counts"].split()}
    together = 0
    for request_id, _, _ in answers:
        if request_id not in counts:
            assert int(request_id[-12:], 16) <= counts[request_id[:-12] + "0" * 12]
            together += 1
    assert together > 1000
