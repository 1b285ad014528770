"""The embedded Postgres: started, shared, stopped, healed after every kind of kill, and what it refuses."""

from __future__ import annotations

import asyncio
import os
import pwd
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from flux.errors import StoreError, WrongOwner
from flux.store import embedded

from .conftest import Client, await_end, keeper_of, postmaster_of, processes

ROOT = os.geteuid() == 0


async def ask(address: dict[str, Any], sql: str) -> Any:
    connection = await asyncpg.connect(**address)
    try:
        return await connection.fetchval(sql)
    finally:
        await connection.close()


def test_the_first_starts_it_others_join_and_the_last_one_stops_it(project: Path) -> None:
    first, second = Client(project / ".flux"), Client(project / ".flux")
    address = first.answer()
    assert second.answer() == address
    postmaster = postmaster_of(project)
    first.leave()
    with embedded.acquire(project / ".flux") as lease:
        assert lease.connect_args == address
        second.leave()
        assert asyncio.run(ask(address, "SELECT 1")) == 1
        assert postmaster_of(project) == postmaster
    await_end(project)
    assert processes(project) == {}
    assert not Path(address["host"]).exists()


def test_data_survives_a_stop_and_settings_hold(project: Path) -> None:
    with embedded.acquire(project / ".flux") as lease:
        asyncio.run(ask(lease.connect_args, "CREATE TABLE kept AS SELECT 7 AS n"))
    await_end(project)
    with embedded.acquire(project / ".flux") as lease:
        assert asyncio.run(ask(lease.connect_args, "SELECT n FROM kept")) == 7
        assert asyncio.run(ask(lease.connect_args, "SHOW timezone")) == "UTC"
        assert asyncio.run(ask(lease.connect_args, "SHOW synchronous_commit")) == "on"
        assert asyncio.run(ask(lease.connect_args, "SHOW listen_addresses")) == ""
        assert asyncio.run(ask(lease.connect_args, "SELECT upper('ä') || lower('Ж')")) == "Äж"
        host = Path(lease.connect_args["host"])
        assert host.stat().st_mode & 0o777 == 0o700


def test_five_processes_at_once_share_one_server(project: Path) -> None:
    clients = [Client(project / ".flux") for _ in range(5)]
    addresses = [client.answer() for client in clients]
    assert addresses == [addresses[0]] * 5
    assert "host" in addresses[0]
    assert len([c for c in processes(project).values() if "flux.store.keeper" in c]) == 1
    for client in clients:
        client.leave()


def test_nothing_is_left_after_kill_9_of_the_only_client(project: Path) -> None:
    client = Client(project / ".flux")
    client.answer()
    assert len(processes(project)) > 2
    client.kill()
    await_end(project)
    assert processes(project) == {}


def test_nothing_is_left_after_kill_9_of_the_keeper_and_the_next_one_recovers(project: Path) -> None:
    client = Client(project / ".flux")
    address = client.answer()
    asyncio.run(ask(address, "CREATE TABLE kept AS SELECT 7 AS n"))
    os.kill(keeper_of(project), signal.SIGKILL)
    await_end(project)
    assert processes(project) == {}
    assert (project / ".flux/postgres/keeper.sock").exists()
    with embedded.acquire(project / ".flux") as lease:
        assert asyncio.run(ask(lease.connect_args, "SELECT n FROM kept")) == 7
    client.leave()


def test_a_lease_notices_that_the_keeper_was_killed_and_renews_itself(project: Path) -> None:
    with embedded.acquire(project / ".flux") as lease:
        address = lease.connect_args
        assert lease.alive
        os.kill(keeper_of(project), signal.SIGKILL)
        await_end(project)
        assert not lease.alive
        lease.renew()
        assert lease.alive
        assert lease.connect_args == address
        assert asyncio.run(ask(address, "SELECT 1")) == 1


def test_keeper_and_server_killed_at_once_leave_a_stale_pid_that_does_not_stop_a_start(project: Path) -> None:
    client = Client(project / ".flux")
    asyncio.run(ask(client.answer(), "CREATE TABLE kept AS SELECT 7 AS n"))
    for pid in processes(project):
        with suppress(ProcessLookupError):  # one that ended with those before it
            os.kill(pid, signal.SIGKILL)
    await_end(project)
    client.leave()
    stale = project / ".flux/postgres/data/postmaster.pid"
    # The worst case: its number now belongs to another process that lives.
    lines = stale.read_text().splitlines()
    stale.write_text("\n".join([str(os.getppid()), *lines[1:]]) + "\n")
    with embedded.acquire(project / ".flux") as lease:
        assert asyncio.run(ask(lease.connect_args, "SELECT n FROM kept")) == 7


def test_a_server_that_dies_under_its_clients_is_started_again(project: Path) -> None:
    with embedded.acquire(project / ".flux") as lease:
        postmaster = postmaster_of(project)
        ended = os.pidfd_open(postmaster)
        os.kill(postmaster, signal.SIGKILL)
        assert select.select([ended], [], [], 10)[0]
        os.close(ended)
        # A newcomer is greeted once the keeper has the server up again.
        with embedded.acquire(project / ".flux"):
            assert lease.alive
            assert postmaster_of(project) != postmaster
            assert asyncio.run(ask(lease.connect_args, "SELECT 1")) == 1


def test_a_deep_project_path_is_no_hindrance(project: Path) -> None:
    deep = project / ("d" * 60) / ("e" * 60) / ".flux"
    with embedded.acquire(deep) as lease:
        assert asyncio.run(ask(lease.connect_args, "SELECT 1")) == 1
    subprocess.run(["flock", str(deep / "postgres/lock"), "true"], check=True)


def test_a_folder_that_flux_did_not_make_is_refused(project: Path) -> None:
    data = project / ".flux/postgres/data"
    data.mkdir(parents=True)
    (data / "PG_VERSION").write_text("18\n")
    account = pwd.getpwnam("nobody") if ROOT else pwd.getpwuid(os.geteuid())
    os.chown(data, account.pw_uid, account.pw_gid)
    with pytest.raises(StoreError, match="is not a data folder that Flux made"):
        embedded.acquire(project / ".flux")
    assert [entry.name for entry in data.iterdir()] == ["PG_VERSION"]


def test_data_of_another_version_is_refused_by_both_names(project: Path) -> None:
    with embedded.acquire(project / ".flux"):
        pass
    await_end(project)
    (project / ".flux/postgres/data/PG_VERSION").write_text("15\n")
    with pytest.raises(StoreError, match=r"is of Postgres 15, the programs are of 18\.\d"):
        embedded.acquire(project / ".flux")


def test_a_start_failure_shows_what_postgres_said(project: Path) -> None:
    with embedded.acquire(project / ".flux"):
        pass
    await_end(project)
    (project / ".flux/postgres/data/global/pg_control").unlink()
    with pytest.raises(StoreError, match=r"Postgres did not start.*pg_control") as caught:
        embedded.acquire(project / ".flux")
    assert caught.value.hint == f"See {project}/.flux/postgres/log."


def test_wrong_binaries_are_named(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLUX_POSTGRES_BIN", str(project))
    with pytest.raises(StoreError, match=r"FLUX_POSTGRES_BIN is .*, which holds no program `postgres`"):
        embedded.acquire(project / ".flux")


def test_a_full_disk_is_named_and_leaves_no_half_made_folder(project: Path) -> None:
    with small_disk(project / ".flux") as flux_dir:
        with pytest.raises(StoreError, match=r"The disk that holds .* is full"):
            embedded.acquire(flux_dir)
        left = {entry.name for entry in (flux_dir / "postgres").iterdir()}
        assert not any(name.startswith("data") for name in left)
        await_end(project)


@contextmanager
def small_disk(path: Path) -> Iterator[Path]:
    if not ROOT:
        pytest.skip("only root can mount the small disk that this needs")
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(path)], check=True)
    try:
        yield path
    finally:
        # Detached at once: a program that is just ending may still stand in it.
        subprocess.run(["umount", "-l", str(path)], check=True)


def test_another_accounts_data_is_refused_by_name(project: Path) -> None:
    if not ROOT:
        pytest.skip("only root can make data of another account")
    nobody = pwd.getpwnam("nobody").pw_uid
    with embedded.acquire(project / ".flux") as lease:
        joining = Client(project / ".flux", user=nobody, python="/usr/bin/python3")
        assert joining.answer()["type"] == "WrongOwner"
        assert lease.alive
        joining.leave()
    await_end(project)
    starting = Client(project / ".flux", user=nobody, python="/usr/bin/python3")
    answer = starting.answer()
    assert answer["type"] == "WrongOwner"
    assert "belongs to another account" in answer["message"]
    starting.leave()


def test_root_steps_into_the_owner_of_the_project_and_both_share_the_server(project: Path) -> None:
    if not ROOT:
        pytest.skip("only root can act for another account")
    nobody = pwd.getpwnam("nobody")
    os.chown(project, nobody.pw_uid, nobody.pw_gid)
    (project / ".flux").mkdir()
    os.chown(project / ".flux", nobody.pw_uid, nobody.pw_gid)
    programs = Path(embedded.programs.locate())
    with embedded.acquire(project / ".flux") as lease:
        owner = Client(
            project / ".flux", user=nobody.pw_uid, python="/usr/bin/python3", FLUX_POSTGRES_BIN=str(programs)
        )
        assert owner.answer() == lease.connect_args
        owner.leave()
    await_end(project)
    alone = Client(
        project / ".flux", user=nobody.pw_uid, python="/usr/bin/python3", FLUX_POSTGRES_BIN=str(programs)
    )
    assert "host" in alone.answer()
    with embedded.acquire(project / ".flux") as lease:
        assert asyncio.run(ask(lease.connect_args, "SELECT 1")) == 1
    alone.leave()


def test_root_in_a_closed_folder_keeps_the_data_where_postgres_can_reach_it(project: Path) -> None:
    if not ROOT:
        pytest.skip("only root runs Postgres under another account")
    closed = Path(tempfile.mkdtemp(prefix="fx", dir="/tmp"))
    try:
        assert closed.stat().st_mode & 0o777 == 0o700
        with embedded.acquire(closed / ".flux") as lease:
            assert asyncio.run(ask(lease.connect_args, "SELECT 1")) == 1
            place = Path((closed / ".flux/postgres/location").read_text().strip())
            assert (place / "data" / "PG_VERSION").exists()
            assert closed.stat().st_mode & 0o777 == 0o700
        await_end(closed)
        moved = closed / "moved"
        (closed / ".flux").rename(moved)
        with pytest.raises(StoreError, match=f"its data is in {place}"):
            embedded.acquire(moved)
    finally:
        shutil.rmtree(closed)
        shutil.rmtree(place)


def test_the_keeper_imports_nothing_but_the_standard_library(project: Path) -> None:
    code = "import sys, flux.store.keeper; print([m for m in sys.modules if m in ('asyncpg', 'pathlib')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_closed_folder_of_another_account_is_a_wrong_owner(project: Path) -> None:
    if not ROOT:
        pytest.skip("only root can close a folder to itself")
    (project / ".flux").mkdir(mode=0o700)
    client = Client(project / ".flux", user=pwd.getpwnam("nobody").pw_uid, python="/usr/bin/python3")
    answer = client.answer()
    assert answer["type"] == WrongOwner.__name__
    client.leave()
