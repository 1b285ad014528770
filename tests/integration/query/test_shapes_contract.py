"""The keys that documents printed with `--json` have had since they were promised. Keys may be added to
these; none may go, change its name, or be missing where it has no value.
"""

from __future__ import annotations

import asyncio
import json
from datetime import datetime
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from click.testing import CliRunner

from flux.cli import cli
from tests.integration.query.recorded import FAILED_ID, OK_ID, Record, unique_violation

PARENT_ID = "77aa" + "0" * 28
CHILD_ID = "77bb" + "0" * 28
REJECTED_ID = "77cc" + "0" * 28

EXECUTION = {
    "request_id", "trace_id", "trigger", "function", "deployment", "method", "path", "status", "outcome",
    "started_at", "duration_ms", "error", "replay_of",
}  # fmt: skip
TRACE = EXECUTION | {
    "request", "input", "output", "spans", "host_calls", "mutations", "logs", "warnings",
}  # fmt: skip
REQUEST = {"method", "url", "headers", "query", "params", "body"}
ERROR = {"type", "message", "file", "line", "column"}
SPAN = {
    "span_id", "parent_span_id", "name", "kind", "start_time", "duration_ms", "status", "attributes",
    "events", "links",
}  # fmt: skip
HOST_CALL = {
    "seq", "op", "arguments", "result", "error", "status", "started", "delivered", "at", "span_id", "xid",
    "snapshot",
}  # fmt: skip
MUTATION = {
    "table", "key", "op", "before", "after", "changed", "at", "request_id", "span_id", "rolled_back", "actor",
}  # fmt: skip
LOG = {"seq", "at", "level", "message", "fields", "span_id"}
WHY = {
    "execution", "root_cause", "location", "input", "data_changes", "provenance", "previous_success",
    "first_difference", "suggestions",
}  # fmt: skip
ROOT_CAUSE = {"type", "message", "span_id"}
LOCATION = {"file", "line", "column", "source"}
PROVENANCE = {"table", "key", "column", "value", "request_id", "at"}
DIFFERENCE = {"where", "field", "a", "b"}
SUGGESTION = {"text", "reason"}
BLAME = {"value", "request_id", "at", "span_id", "rolled_back_attempt"}
DOCTOR = {"ok", "checks"}
CHECK = {"name", "ok", "detail", "hint"}
FAILURE = {"type", "message", "hint"}


@pytest.fixture
def project(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A project whose record holds a success, a failure, a rejection, and one execution that invoked
    another.
    """

    async def fill() -> None:
        connection = await asyncpg.connect(database_url)
        await connection.execute(
            "SELECT flux.ensure_partitions(current_date - 1, current_date + 1);"
            "CREATE TABLE users (id int PRIMARY KEY, email text);"
            "INSERT INTO users VALUES (7, 'ada@example.com')"
        )
        record = Record(connection)
        await unique_violation(record)
        await record.execution(REJECTED_ID, ago=900, status=400, outcome="rejected", output=None)
        await record.execution(PARENT_ID, ago=800)
        await record.call(PARENT_ID, 1, "invoke", {"name": "child", "payload": 1}, 2, ago=800)
        await record.execution(
            CHILD_ID, ago=799, trigger="invoke", function="child", parent_request_id=PARENT_ID
        )
        await record.mutation(CHILD_ID, "DELETE", {"id": 8}, {"id": 8, "email": None}, None, ago=799)
        await connection.close()

    asyncio.run(fill())
    (tmp_path / "flux.toml").write_text('name = "shop"\n')
    (tmp_path / "functions").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATABASE_URL", database_url)


def printed(*arguments: str) -> Any:
    """The document on stdout."""
    result = CliRunner().invoke(cli, [*arguments, "--json"], prog_name="flux")
    assert result.stderr == ""
    return json.loads(result.stdout)


def lacking(keys: set[str], *documents: Any) -> set[str]:
    """Those of `keys` that one of the documents lacks; there must be a document."""
    assert documents
    return set().union(*(keys - document.keys() for document in documents))


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("request_id", [OK_ID, FAILED_ID, REJECTED_ID, PARENT_ID])
def test_trace(request_id: str) -> None:
    document = printed("trace", request_id)
    executions = [document, *document["children"]]
    assert lacking(TRACE, *executions) == set()
    assert lacking(REQUEST, *(execution["request"] for execution in executions)) == set()
    for execution in executions:
        assert execution["trigger"] in ("http", "job", "cron", "invoke", "replay")
        assert execution["outcome"] in ("ok", "error", "rejected", "interrupted")
        assert datetime.fromisoformat(execution["started_at"]).tzinfo is not None
        assert isinstance(execution["duration_ms"], float)
        assert isinstance(execution["warnings"], list)


@pytest.mark.usefixtures("project")
def test_what_a_trace_holds() -> None:
    document = printed("trace", FAILED_ID)
    assert lacking(ERROR, document["error"]) == set()
    assert lacking(SPAN, *document["spans"]) == set()
    assert lacking(HOST_CALL, *document["host_calls"]) == set()
    assert lacking(MUTATION, *document["mutations"]) == set()
    assert lacking(LOG, *document["logs"]) == set()
    assert {call["status"] for call in document["host_calls"]} <= {"done", "unknown", "abandoned"}
    assert {m["op"] for m in document["mutations"]} <= {"INSERT", "UPDATE", "DELETE", "TRUNCATE"}
    assert printed("trace", OK_ID)["error"] is None


@pytest.mark.usefixtures("project")
def test_tail_and_logs_give_one_object_a_line() -> None:
    for arguments, keys, many in ((("tail", "--no-follow"), EXECUTION, 5), (("logs",), LOG, 1)):
        lines = CliRunner().invoke(cli, [*arguments, "--json"], prog_name="flux").stdout.splitlines()
        assert len(lines) == many
        assert lacking(keys, *(json.loads(line) for line in lines)) == set()


@pytest.mark.usefixtures("project")
def test_why() -> None:
    shape = printed("why", FAILED_ID)
    assert lacking(WHY, shape) == set()
    assert lacking(EXECUTION, shape["execution"]) == set()
    assert lacking(ROOT_CAUSE, shape["root_cause"]) == set()
    assert lacking(LOCATION, shape["location"]) == set()
    assert lacking(MUTATION, *shape["data_changes"]) == set()
    assert lacking(PROVENANCE, *shape["provenance"]) == set()
    assert lacking(DIFFERENCE, shape["first_difference"]) == set()
    assert lacking(SUGGESTION, *shape["suggestions"]) == set()
    assert shape["previous_success"] == OK_ID
    went_well = printed("why", OK_ID)
    assert lacking(WHY, went_well) == set()
    assert went_well["root_cause"] is None


@pytest.mark.usefixtures("project")
def test_history_and_blame() -> None:
    assert lacking(MUTATION, *printed("state", "history", "users", "--id", "7")) == set()
    columns = printed("state", "blame", "users", "--id", "7")
    assert list(columns) == ["id", "email"]
    assert lacking(BLAME, *columns.values()) == set()


@pytest.mark.usefixtures("project")
def test_query_gives_a_list_of_row_objects() -> None:
    assert printed("query", "select 1 as one, null as none") == [{"one": 1, "none": None}]
    assert printed("query", "select 1 as one where false") == []


@pytest.mark.usefixtures("project")
def test_doctor() -> None:
    report = printed("doctor")
    assert lacking(DOCTOR, report) == set()
    assert lacking(CHECK, *report["checks"]) == set()
    assert report["ok"] == all(check["ok"] for check in report["checks"])


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize(
    ("arguments", "code"),
    [(("trace", "abcd1234"), 1), (("trace", "nonsense"), 2), (("query", "selec"), 1)],
)
def test_errors_go_to_stderr(arguments: tuple[str, ...], code: int) -> None:
    result = CliRunner().invoke(cli, [*arguments, "--json"], prog_name="flux")
    assert (result.exit_code, result.stdout) == (code, "")
    assert lacking(FAILURE, json.loads(result.stderr)["error"]) == set()
