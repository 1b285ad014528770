"""The way to the database for other programs: `flux db url` and `flux db shell`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from flux.cli.psql import _apart, find_psql
from flux.errors import FluxError
from flux_postgres_exporter import PostgresSpanExporter


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "flux.toml").write_text('name = "shop"\n')
    (tmp_path / "functions").mkdir()
    return tmp_path


def flux(project: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A command of the real program."""
    return subprocess.run(
        [sys.executable, "-m", "flux", *arguments],
        cwd=project,
        env=_environment(environment),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def _environment(more: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "DATABASE_URL"} | more


@pytest.fixture
def held(project: Path) -> Iterator[str]:
    """The URL of the project's embedded Postgres, which is held meanwhile."""
    holder = subprocess.Popen(
        [sys.executable, "-m", "flux", "db", "url", "--hold"],
        cwd=project,
        env=_environment({}),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    yield holder.stdout.readline().removesuffix("\n")
    holder.terminate()
    holder.wait()
    holder.stdout.close()


async def test_the_url_is_good_for_psql_and_a_plain_exporter(project: Path, held: str) -> None:
    alone = flux(project, "db", "url")
    assert (alone.returncode, alone.stdout, alone.stderr) == (0, f"{held}\n", "")
    psql = subprocess.run(
        [find_psql(), held, "-tAc", "select count(*) from flux.executions"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert psql.stdout == "0\n"
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(PostgresSpanExporter(held)))
    with provider.get_tracer("t").start_as_current_span("work"):
        pass
    provider.shutdown()
    connection = await asyncpg.connect(held)
    assert await connection.fetchval("SELECT name FROM flux.spans") == "work"
    owner = "SELECT pg_get_userbyid(nspowner) = current_user FROM pg_namespace WHERE nspname = 'flux'"
    assert await connection.fetchval(owner) is True
    await connection.close()
    shell = flux(project, "db", "shell", "-tAc", "select 40 + 2")
    assert (shell.returncode, shell.stdout) == (0, "42\n")
    assert flux(project, "db", "shell", "-c", "selec").returncode == 1


def test_where_nobody_runs_it_the_url_says_so(project: Path) -> None:
    told = flux(project, "db", "url")
    assert told.returncode == 0
    assert told.stdout.startswith("postgresql://postgres@/postgres?host=/")
    assert "flux db url --hold" in told.stderr
    # A shell holds it by itself.
    assert flux(project, "db", "shell", "-tAc", "select count(*) from flux.executions").stdout == "0\n"


def test_an_outside_database_is_given_as_it_is_named(project: Path, database_url: str) -> None:
    told = flux(project, "db", "url", DATABASE_URL=database_url)
    assert (told.stdout, told.stderr) == (f"{database_url}\n", "")
    assert not (project / ".flux" / "postgres").exists()
    shell = flux(project, "db", "shell", "-tAc", "select 1", DATABASE_URL=database_url)
    assert shell.stdout == "1\n"


@pytest.mark.parametrize(
    ("url", "address", "password"),
    [
        ("postgresql://ann:s%40cret@db.test:5433/s?a=b", "postgresql://ann@db.test:5433/s?a=b", "s@cret"),
        ("postgres://:x@db.test/shop", "postgres://@db.test/shop", "x"),
        ("postgresql://ann@/s?host=/tmp/x&port=5432", "postgresql://ann@/s?host=/tmp/x&port=5432", None),
        ("postgresql://ann@[::1]:5432/shop", "postgresql://ann@[::1]:5432/shop", None),
        ("postgresql://ann:p@[::1]/shop", "postgresql://ann@[::1]/shop", "p"),
    ],
)  # fmt: skip
def test_a_password_is_no_argument_of_psql(url: str, address: str, password: str | None) -> None:
    assert _apart(url) == (address, password)


def test_psql_is_the_one_on_the_path_else_the_embedded_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    own = tmp_path / "psql"
    own.write_text("#!/bin/sh\n")
    own.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_psql() == str(own)
    own.unlink()
    assert shutil.which("psql") is None
    assert find_psql().endswith("pginstall/bin/psql")
    for name in ("postgres", "initdb"):
        (tmp_path / name).write_text("")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("FLUX_POSTGRES_BIN", str(tmp_path))
    with pytest.raises(FluxError, match="There is no psql"):
        find_psql()
