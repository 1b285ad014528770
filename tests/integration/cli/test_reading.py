"""The reading commands as people run them."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import asyncpg
import pytest
from click.testing import CliRunner, Result

from flux.cli import COMMANDS, cli
from flux.spool import folder
from tests.integration.query.recorded import FAILED_ID, OK_ID, Record, unique_violation

ROOT = Path(__file__).parents[3]
Flux = Callable[..., Result]


@pytest.fixture
def project(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose record holds one success and one failure of create_user."""

    async def fill() -> None:
        connection = await asyncpg.connect(database_url)
        await connection.execute(
            "SELECT flux.ensure_partitions(current_date - 1, current_date + 1);"
            "CREATE TABLE users (id int PRIMARY KEY, email text)"
        )
        await unique_violation(Record(connection))
        await connection.close()

    asyncio.run(fill())
    (tmp_path / "flux.toml").write_text('name = "shop"\n')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATABASE_URL", database_url)
    return tmp_path


@pytest.fixture
def flux(project: Path) -> Flux:
    """Runs a command in this process."""

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(cli, list(arguments), prog_name="flux")

    return run


def process(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs `flux` as a process of its own."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "exporters")])
    return subprocess.run(
        [sys.executable, "-c", "from flux.cli import main; main()", *arguments],
        capture_output=True, text=True, timeout=30, check=False, env=os.environ | {"PYTHONPATH": path},
    )  # fmt: skip


def test_each_command_answers_as_text_and_as_json(flux: Flux) -> None:
    trace = flux("trace", "9f3c")
    assert trace.exit_code == 0, trace.output
    assert trace.stdout.startswith("✗ 500  POST /create_user")
    assert "\x1b" not in trace.stdout
    assert json.loads(flux("trace", "last", "--json").stdout)["request_id"] == FAILED_ID
    assert "error[unique_violation]" in flux("why").stdout
    assert json.loads(flux("why", "last", "--json").stdout)["previous_success"] == OK_ID
    assert "+ users 7" in flux("state", "history", "users", "--id", "7").stdout
    assert (
        json.loads(flux("state", "history", "users", "--id", "7", "--json").stdout)[0]["request_id"] == OK_ID
    )
    assert "email" in flux("state", "blame", "users", "--id", "7").stdout
    assert set(json.loads(flux("state", "blame", "users", "--id", "7", "--json").stdout)) == {"id", "email"}
    assert "2 rows" in flux("query", "select status from flux.executions").stdout
    assert json.loads(flux("query", "select count(*)::int as n from flux.executions", "--json").stdout) == [
        {"n": 2}
    ]


def test_two_executions_are_compared_as_text_and_as_json(flux: Flux) -> None:
    found = json.loads(flux("trace", "diff", OK_ID, FAILED_ID, "--json").stdout)
    assert (found["a"]["request_id"], found["b"]["request_id"]) == (OK_ID, FAILED_ID)
    assert found["identical"] is False
    assert found["first_difference"]["where"] == "call 1"
    assert {call["change"] for call in found["calls"]} <= {"changed", "added", "missing", "reordered"}
    page = flux("trace", "diff", OK_ID, FAILED_ID).stdout
    assert page.startswith("Both were asked the same; call 1 (db.begin) is made in the second only")
    assert flux("trace", "diff", "last").stdout == page, "without a second one: the nearest success"
    same = json.loads(flux("trace", "diff", OK_ID, OK_ID, "--json").stdout)
    assert (same["identical"], same["first_difference"]) == (True, None)


def test_cohorts_are_compared_by_expressions(flux: Flux) -> None:
    found = json.loads(flux("trace", "diff", "--bad", "status >= 500", "--json").stdout)
    assert (found["bad"], found["good"]) == (1, 1)
    assert found["separators"][0]["bits"] == 1.0
    assert "1 bad" in flux("trace", "diff", "--good", "status = 200").stdout
    nothing = flux("trace", "diff", "--bad", "status = 418")
    assert nothing.exit_code == 1
    assert "None of the 2 executions looked at is bad." in nothing.stderr
    wrong = flux("trace", "diff", "--bad", "statsu = 418")
    assert wrong.exit_code == 2
    assert "`statsu` names nothing" in wrong.stderr


def test_streams_print_one_object_a_line(flux: Flux) -> None:
    listed = flux("tail", "--no-follow", "--json").stdout.splitlines()
    assert [json.loads(line)["request_id"] for line in listed] == [OK_ID, FAILED_ID]
    assert flux("tail", "--no-follow", "--failed").stdout.startswith("9f3c2a1b")
    assert len(flux("tail", "--no-follow").stdout.splitlines()) == 2
    (line,) = flux("logs", "last", "--json").stdout.splitlines()
    assert json.loads(line)["message"] == "about to \x1b[31mfail"
    assert "\\e[31m" in flux("logs").stdout
    assert flux("logs", "--since", "1s").stdout == ""


def test_errors_are_messages_with_hints_and_exit_codes(flux: Flux) -> None:
    missing = flux("trace", "abcd1234")
    assert (missing.exit_code, missing.stdout) == (1, "")
    assert missing.stderr == (
        "error: No execution and no trace has an id that begins with `abcd1234`.\n"
        "hint: `flux tail` lists the latest ones.\n"
    )
    wrong = flux("trace", "nonsense", "--json")
    assert wrong.exit_code == 2
    assert set(json.loads(wrong.stderr)["error"]) == {"type", "message", "hint"}
    refused = flux("query", "delete from flux.executions", "--json")
    assert (refused.exit_code, json.loads(refused.stderr)["error"]["type"]) == (1, "QueryError")
    assert flux("tail", "--status", "abc").exit_code == 2
    assert flux("logs", "--since", "yesterday").exit_code == 2


def test_outside_a_project_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(cli, ["trace", "--json"])
    assert result.exit_code == 2
    assert json.loads(result.stderr)["error"]["hint"] == "Make one: flux init my-app"


def test_wrong_usage_is_json_where_json_is_asked_for() -> None:
    result = process("trace", "--nope", "--json")
    assert (result.returncode, result.stdout) == (2, "")
    assert json.loads(result.stderr)["error"]["type"] == "UsageError"
    assert "Did you mean `trace`?" in process("trce").stderr


def test_help_lists_every_command_without_importing_any() -> None:
    code = (
        "import sys; from flux.cli import cli; cli(['--help'], standalone_mode=False);"
        "heavy = ('asyncpg', 'asyncio', 'msgspec', 'rich');"
        "print(sorted(m for m in sys.modules if m.startswith('flux.cli.') or m in heavy))"
    )
    path = os.pathsep.join([str(ROOT), str(ROOT / "exporters")])
    shown = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30,
        env=os.environ | {"PYTHONPATH": path},
    ).stdout  # fmt: skip
    assert all(f"  {name} " in shown for name in COMMANDS)
    assert shown.splitlines()[-1] == "[]"


def test_columns_that_the_project_withholds_are_not_shown(flux: Flux, project: Path) -> None:
    (project / "flux.toml").write_text('name = "shop"\nredact_columns = ["users.email"]\n')
    (mutation,) = json.loads(flux("trace", OK_ID, "--json").stdout)["mutations"]
    assert mutation["after"] == {"id": 7, "email": "[redacted]"}
    (known,) = json.loads(flux("state", "history", "users", "--id", "7", "--json").stdout)
    assert known["after"]["email"] == "[redacted]"


@pytest.mark.usefixtures("project")
def test_a_reading_command_imports_neither_the_drain_nor_the_sdk() -> None:
    code = (
        "import sys; from flux.cli import cli; cli(['trace', 'last'], standalone_mode=False);"
        "heavy = ('flux.drain.drain', 'opentelemetry.sdk', 'opentelemetry.instrumentation', 'rich');"
        "print(sorted(name for name in heavy if name in sys.modules))"
    )
    path = os.pathsep.join([str(ROOT), str(ROOT / "exporters")])
    shown = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30,
        env=os.environ | {"PYTHONPATH": path},
    ).stdout  # fmt: skip
    assert "POST /create_user" in shown
    assert shown.splitlines()[-1] == "[]"


def test_a_spool_whose_server_died_is_drained_before_anything_is_read(flux: Flux, project: Path) -> None:
    folder.create(project / ".flux" / "spool", "n1", now_ns=1, durability="spool").release()
    assert json.loads(flux("trace", "last", "--json").stdout)["request_id"] == FAILED_ID
    assert not (project / ".flux" / "spool" / "n1").exists()


@pytest.mark.usefixtures("project")
def test_ctrl_c_ends_a_stream_quietly() -> None:
    path = os.pathsep.join([str(ROOT), str(ROOT / "exporters")])
    # A shell's background job, as this test may be run in, is started deaf to Ctrl-C; a person's command
    # isn't.
    code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    running = subprocess.Popen(
        [sys.executable, "-c", f"{code}from flux.cli import main; main()", "tail", "--json"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": path},
    )  # fmt: skip
    assert running.stdout is not None
    assert json.loads(running.stdout.readline())["request_id"] == OK_ID
    running.send_signal(signal.SIGINT)
    _, errors = running.communicate(timeout=20)
    assert (running.returncode, errors) == (130, "")


@pytest.mark.usefixtures("project")
def test_a_reader_that_has_seen_enough_ends_it_quietly() -> None:
    path = os.pathsep.join([str(ROOT), str(ROOT / "exporters")])
    sql = "select repeat('x', 99999) from generate_series(1, 500)"
    running = subprocess.Popen(
        [sys.executable, "-c", "from flux.cli import main; main()", "query", sql],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": path},
    )  # fmt: skip
    assert running.stdout is not None
    assert running.stderr is not None
    running.stdout.read(10)
    running.stdout.close()
    assert running.stderr.read() == ""
    assert running.wait(timeout=20) == 0
    running.stderr.close()
