"""Fixtures that every test may use: a test server, and a fresh migrated database per test.

The server is the one that FLUX_TEST_DATABASE_URL names (a superuser's URL), else an embedded Postgres of this
test run.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlencode, urlsplit, urlunsplit

import asyncpg
import pytest

from flux.config import Config
from flux.store import embedded, migrate
from flux.store.identifiers import quote

# The width of somebody's terminal (pytest-xdist sets it for its workers) is nothing that a test counts on.
os.environ.pop("COLUMNS", None)

# Where a test runs a collector in this process, gRPC's handlers of a fork may abort a child before its exec.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"


def _refuse_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    if os.environ.get("FLUX_CI") == "1" and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, which FLUX_CI=1 does not allow: {report.longreprtext}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Make a skipped test fail in CI."""
    report = yield
    _refuse_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Make a skipped module fail in CI."""
    report = yield
    _refuse_skip(report)
    return report


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Real servers first, pure tests last: of tests that run side by side the last to end is a short one."""
    rooms = ("acceptance", "integration", "unit")
    tests = Path(__file__).parent

    def place(item: pytest.Item) -> int:
        room = item.path.relative_to(tests).parts[0] if item.path.is_relative_to(tests) else ""
        return rooms.index(room) if room in rooms else len(rooms)

    items.sort(key=place)


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A folder that every account can enter: root's embedded Postgres runs as another. Its path is short."""
    folder = Path(tempfile.mkdtemp(prefix="flux-test-", dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """URL of a superuser on the test server."""
    given = os.environ.get("FLUX_TEST_DATABASE_URL")
    if given:
        yield given
        return
    project = Path(tempfile.mkdtemp(prefix="flux-", dir="/tmp"))
    project.chmod(0o755)
    lease = embedded.acquire(project / ".flux")
    try:
        arguments = lease.connect_args
        query = urlencode({"host": arguments["host"]})
        yield f"postgresql://{arguments['user']}@/{arguments['database']}?{query}"
    finally:
        lease.close()
        shutil.rmtree(project, ignore_errors=True)


@pytest.fixture(scope="session")
def _template(postgres_url: str) -> Iterator[tuple[str, Callable[[str], None]]]:
    name = f"flux_test_{os.getpid()}_{secrets.token_hex(3)}"

    async def administer(sql: str) -> None:
        connection = await asyncpg.connect(postgres_url)
        try:
            await connection.execute(sql)
        finally:
            await connection.close()

    async def fill() -> None:
        connection = await asyncpg.connect(_with_database(postgres_url, name))
        try:
            await migrate.apply(connection)
        finally:
            await connection.close()

    # Of its own thread: a test's event loop may be current in this one.
    with ThreadPoolExecutor(max_workers=1) as thread:

        def run(work: Callable[[], Awaitable[None]]) -> None:
            async def main() -> None:
                await work()

            thread.submit(asyncio.run, main()).result()

        def execute(sql: str) -> None:
            run(lambda: administer(sql))

        execute(f"CREATE DATABASE {quote(name)} TEMPLATE template0")
        try:
            run(fill)
            yield name, execute
        finally:
            execute(f"DROP DATABASE {quote(name)} WITH (FORCE)")


@pytest.fixture
def database_url(postgres_url: str, _template: tuple[str, Callable[[str], None]]) -> Iterator[str]:
    """URL of a fresh database with the migrations applied and nothing else; dropped afterwards."""
    template, execute = _template
    name = f"{template}_{secrets.token_hex(4)}"
    execute(f"CREATE DATABASE {quote(name)} TEMPLATE {quote(template)}")
    try:
        yield _with_database(postgres_url, name)
    finally:
        execute(f"DROP DATABASE {quote(name)} WITH (FORCE)")


@pytest.fixture
def empty_database_url(postgres_url: str, _template: tuple[str, Callable[[str], None]]) -> Iterator[str]:
    """URL of a fresh database without even the schema `flux`; dropped afterwards."""
    template, execute = _template
    name = f"{template}_{secrets.token_hex(4)}"
    execute(f"CREATE DATABASE {quote(name)} TEMPLATE template0")
    try:
        yield _with_database(postgres_url, name)
    finally:
        execute(f"DROP DATABASE {quote(name)} WITH (FORCE)")


@pytest.fixture
def store_config(database_url: str, tmp_path: Path) -> Config:
    """A project in a temporary folder over the fresh database."""
    return Config(root=tmp_path, name="test", database_url=database_url, master_key=bytes(range(32)))


def _with_database(url: str, name: str) -> str:
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))
