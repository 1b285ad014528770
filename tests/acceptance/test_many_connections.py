"""More clients at once than a process may have open files by default, and what is said where there is no
room for them.
"""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.conftest import Project, Server, eventually
from tests.acceptance.hostile import Raw, beside_a_neighbour, post

CLIENTS = 2000


@pytest.fixture(autouse=True)
def _room_for_clients() -> Iterator[None]:
    """This process has the other end of every connection."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def _limited(project: Project, limit: str) -> None:
    """Start this project's servers under a limit of open files (arguments of the shell's ulimit)."""
    project.command = ("sh", "-c", f'ulimit {limit}; exec "$@"', "sh", *project.command)


def _descriptors(server: Server) -> int:
    return len(os.listdir(f"/proc/{server.process.pid}/fd"))


def _resident(server: Server) -> int:
    pages = int(Path(f"/proc/{server.process.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def test_two_thousand_connections_wait_and_are_all_served(project: Project) -> None:
    project.typescript("echo", "    return input;")
    project.write("flux.toml", f'name = "app"\nconcurrency = {CLIENTS}\n')
    _limited(project, "-S -n 1024")
    with beside_a_neighbour(project) as server, contextlib.ExitStack() as stack:
        descriptors, resident = _descriptors(server), _resident(server)
        clients = [stack.enter_context(Raw(server)) for _ in range(CLIENTS)]
        eventually(lambda: _descriptors(server) >= descriptors + CLIENTS)
        assert _resident(server) < resident + CLIENTS * 40 * 1024  # 11 KB each, as measured
        for turn in range(2):
            for number, client in enumerate(clients):
                client.send(post("/echo", b"%d" % (turn * CLIENTS + number)))
            for number, client in enumerate(clients):
                answer = client.answer()
                assert (answer.status, answer.body) == (200, b"%d" % (turn * CLIENTS + number))
            if turn == 0:
                resident = _resident(server)
        assert _resident(server) < resident + 16 * 2**20  # what the first turn took is used again
        stack.close()
        eventually(lambda: _descriptors(server) <= descriptors + 16)
    [row] = project.json(
        "query",
        "SELECT count(*)::int AS n, count(DISTINCT output_json)::int AS different FROM flux.executions"
        " WHERE function = 'echo' AND outcome = 'ok'",
    )
    assert row == {"n": 2 * CLIENTS, "different": 2 * CLIENTS}


def test_a_server_that_may_open_few_files_says_so_and_serves_as_many_clients_as_it_can(
    project: Project,
) -> None:
    project.typescript("echo", "    return input;")
    _limited(project, "-n 400")
    server = project.start("serve")
    said = server.wait_for(r"The limit of open files leaves room for (\d+) connections at once")
    room = int(said[1])
    assert room == 400 - 256
    assert "ulimit -n" in server.text()
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Raw(server)) for _ in range(500)]
        youngest = clients[-room:]
        for client in clients[:-room]:
            assert client.closed()  # an idle one makes room
        for number, client in enumerate(youngest):
            client.send(post("/echo", b"%d" % number))
        assert [client.answer().body for client in youngest] == [b"%d" % n for n in range(room)]
        assert _descriptors(server) <= 400
    with Raw(server) as client:
        assert client.send(post("/echo", b"1")).answer().body == b"1"
    assert server.stop() == 0
    assert "Traceback" not in server.text()
