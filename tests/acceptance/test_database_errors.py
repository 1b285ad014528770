"""What Postgres refuses, from TypeScript and from Python: the record has the failing statement with its SQL,
arguments, state and place, what was undone is marked, a second attempt follows the first, and `why` says it.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import asyncpg
import httpx
import pytest

from tests.acceptance.conftest import Project
from tests.line import Line

SCHEMA = """
CREATE TABLE accounts (id int PRIMARY KEY, owner text NOT NULL, balance int CHECK (balance >= 0));
CREATE TABLE entries (id int PRIMARY KEY, account int REFERENCES accounts (id));
CREATE TABLE late (id int PRIMARY KEY, account int REFERENCES accounts (id) DEFERRABLE INITIALLY DEFERRED);
CREATE TABLE fatal (id int);
CREATE TABLE meetings (key text);
INSERT INTO accounts SELECT n, 'owner ' || n, 10 FROM generate_series(1, 9) n;
CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS
$$BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); PERFORM pg_sleep(30); RETURN NULL; END$$;
CREATE FUNCTION end_me() RETURNS boolean LANGUAGE sql SECURITY DEFINER AS
$$SELECT pg_terminate_backend(pg_backend_pid())$$;
CREATE CONSTRAINT TRIGGER die AFTER INSERT ON fatal DEFERRABLE INITIALLY DEFERRED
FOR EACH ROW EXECUTE FUNCTION die();
"""
TYPESCRIPT = """
    return await ctx.db.transaction(async (tx) => {
      await tx.sql("update accounts set balance = balance + 1 where id = $1", [input.id]);
      for (const [text, params] of input.statements) {
        await tx.sql(text, params); // here
      }
    }, { isolation: input.isolation });"""
PYTHON = """
async def handler(input, ctx):
    async with ctx.db.transaction() as tx:
        await tx.execute("update accounts set balance = balance + 1 where id = $1", input["id"])
        for text, params in input["statements"]:
            await tx.execute(text, *params)  # here
"""
RETRY_TYPESCRIPT = """
    const [first, second] = input.order;
    for (let attempt = 1;; attempt++) {
      try {
        return await ctx.db.transaction(async (tx) => {
          const [row] = await tx.sql("select balance from accounts where id = $1", [first]);
          if (input.write) await tx.sql("update accounts set balance = balance + 1 where id = $1", [first]);
          if (attempt === 1) {
            await ctx.db.sql("insert into meetings values ($1)", [input.key]);
            const met = "select count(*)::int as n from meetings where key = $1";
            while ((await ctx.db.sql(met, [input.key]))[0].n < 2) await ctx.sleep(10);
          }
          await tx.sql("update accounts set balance = $1 where id = $2", [row.balance + 1, second]);
          return attempt;
        }, { isolation: input.isolation });
      } catch (error) {
        if (!["40001", "40P01"].includes(error.code) || attempt === 3) throw error;
        ctx.log.warn("again", { code: error.code });
      }
    }"""
RETRY_PYTHON = """
from flux_functions import DatabaseError

MET = "select count(*) from meetings where key = $1"


async def handler(input, ctx):
    first, second = input["order"]
    for attempt in (1, 2, 3):
        try:
            async with ctx.db.transaction(isolation=input["isolation"]) as tx:
                balance = await tx.fetchval("select balance from accounts where id = $1", first)
                if input["write"]:
                    await tx.execute("update accounts set balance = balance + 1 where id = $1", first)
                if attempt == 1:
                    await ctx.db.execute("insert into meetings values ($1)", input["key"])
                    while await ctx.db.fetchval(MET, input["key"]) < 2:
                        await ctx.sleep(10)
                await tx.execute("update accounts set balance = $1 where id = $2", balance + 1, second)
            return attempt
        except DatabaseError as error:
            if error.code not in ("40001", "40P01") or attempt == 3:
                raise
            ctx.log.warn("again", {"code": error.code})
"""


@dataclass(frozen=True)
class Case:
    """Statements of which the last is refused.

    Attributes:
        type, sqlstate: of the error. detail: what else Postgres said, as far as it is looked at.
        advice: words of `why`'s suggestions.
    """

    statements: list[tuple[str, list[Any]]]
    type: str
    sqlstate: str
    detail: dict[str, str]
    advice: tuple[str, ...]


CASES = {
    "unique": Case(
        [("insert into accounts values ($1, 'eve', 1)", [2])],
        "unique_violation",
        "23505",
        {"constraint": "accounts_pkey", "table": "accounts", "detail": "Key (id)=(2) already exists."},
        ("on_conflict", "id = 2"),
    ),
    "check": Case(
        [("update accounts set balance = $1 where id = 2", [-5])],
        "check_violation",
        "23514",
        {"constraint": "accounts_balance_check", "table": "accounts"},
        ("accounts_balance_check",),
    ),
    "foreign key": Case(
        [("insert into entries values (1, $1)", [77])],
        "foreign_key_violation",
        "23503",
        {"constraint": "entries_account_fkey", "table": "entries"},
        ("Insert into `accounts` before `entries`", "account = 77"),
    ),
    "not null": Case(
        [("insert into accounts values (77, $1, 1)", [None])],
        "not_null_violation",
        "23502",
        {"column": "owner", "table": "accounts"},
        ("`accounts.owner`",),
    ),
    "statement timeout": Case(
        [("set local statement_timeout = '50ms'", []), ("select pg_sleep($1)", [60])],
        "query_canceled",
        "57014",
        {},
        ("statement_timeout",),
    ),
    "lock timeout": Case(
        [
            ("set local lock_timeout = '50ms'", []),
            ("update accounts set balance = $1 where id = 9", [1]),
        ],
        "lock_not_available",
        "55P03",
        {},
        ("lock",),
    ),
    "terminated": Case(
        [("select end_me() where $1", [True])],
        "connection_failure",
        "08006",
        {},
        ("rolled back",),
    ),
}


@pytest.fixture(scope="module")
def bank(module_project: Project) -> Iterator[tuple[Project, httpx.Client]]:
    project = module_project
    project.write("schema/001.sql", SCHEMA)
    project.typescript("ts", TYPESCRIPT)
    project.write("functions/py/main.py", PYTHON)
    project.typescript("retry_ts", RETRY_TYPESCRIPT)
    project.write("functions/retry_py/main.py", RETRY_PYTHON)
    project.flux("db", "push")
    with project.serving() as client:
        yield project, client


@pytest.fixture(params=["ts", "py"])
def language(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def place(project: Project, language: str) -> tuple[str, int]:
    """File and line of the statement that is refused."""
    file = f"functions/{language}/" + ("index.ts" if language == "ts" else "main.py")
    lines = (project.root / file).read_text().splitlines()
    return file, next(number for number, line in enumerate(lines, 1) if "# here" in line or "// here" in line)


def refused(project: Project, answer: httpx.Response, kind: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The record of a request that failed in the database, and its first failing call."""
    assert (answer.status_code, answer.json()["error"]["type"]) == (500, kind), answer.text
    record = project.json("trace", answer.headers["x-request-id"])
    assert record["error"]["type"] == kind
    call = next(call for call in record["host_calls"] if call["error"] is not None)
    assert call["error"]["type"] == kind
    return record, call


def explained(project: Project, answer: httpx.Response, advice: tuple[str, ...]) -> str:
    """What `why` prints, in one line; its suggestions have the words."""
    page = project.flux("why", answer.headers["x-request-id"]).stdout
    why = project.json("why", answer.headers["x-request-id"])
    assert why["root_cause"]["type"] == answer.json()["error"]["type"]
    said = " ".join(f"{each['text']} {each['reason']}" for each in why["suggestions"])
    for words in advice:
        assert words in said
    return " ".join(page.split())


async def holder(project: Project) -> asyncpg.Connection:
    return await asyncpg.connect(project.environment["DATABASE_URL"])


@pytest.mark.parametrize("name", CASES)
async def test_a_refused_statement_is_recorded_with_all_that_postgres_said(
    bank: tuple[Project, httpx.Client], language: str, name: str
) -> None:
    (project, client), case = bank, CASES[name]
    other = await holder(project)
    await other.execute("BEGIN; SELECT FROM accounts WHERE id = 9 FOR UPDATE")
    answer = client.post(f"/{language}", json={"id": 1, "statements": case.statements})
    await other.execute("ROLLBACK")
    assert await other.fetchval("SELECT balance FROM accounts WHERE id = 1") == 10
    await other.close()
    record, call = refused(project, answer, case.type)
    assert call["op"] == "db.sql"
    assert (call["arguments"]["text"], call["arguments"]["params"]) == case.statements[-1]
    assert call["error"]["detail"]["sqlstate"] == case.sqlstate
    assert case.detail.items() <= call["error"]["detail"].items()
    assert (record["error"]["file"], record["error"]["line"]) == place(project, language)
    span = next(span for span in record["spans"] if span["span_id"] == call["span_id"])
    assert span["status"] == "ERROR"
    assert (span["attributes"]["error.type"], span["attributes"]["db.response.status_code"]) == (
        case.type,
        case.sqlstate,
    )
    [undone, *rest] = record["mutations"]
    assert (undone["table"], undone["op"], undone["changed"]) == ("accounts", "UPDATE", ["balance"])
    assert all(mutation["rolled_back"] for mutation in (undone, *rest))
    page = explained(project, answer, case.advice)
    file, line = place(project, language)
    for words in (f"error[{case.type}]", f"{file}:{line}", case.statements[-1][0], "rolled back"):
        assert words in page


@pytest.mark.parametrize(
    ("isolation", "write", "kind", "state"),
    [
        ("serializable", False, "serialization_failure", "40001"),
        ("read committed", True, "deadlock_detected", "40P01"),
    ],
)
def test_a_conflict_is_retried_and_both_attempts_are_in_the_record_in_order(
    bank: tuple[Project, httpx.Client], language: str, isolation: str, write: bool, kind: str, state: str
) -> None:
    project, client = bank
    given = {"isolation": isolation, "write": write, "key": f"{language} {kind}"}
    with ThreadPoolExecutor() as threads:
        sent = [
            (order, threads.submit(client.post, f"/retry_{language}", json={**given, "order": order}))
            for order in ([3, 4], [4, 3])
        ]
    asked = {each.result().headers["x-request-id"]: order for order, each in sent}
    answers = [each.result() for _, each in sent]
    assert [answer.status_code for answer in answers] == [200, 200]
    winner, loser = sorted(answers, key=lambda answer: int(answer.text))
    assert winner.text == "1"
    record = project.json("trace", loser.headers["x-request-id"])
    calls = record["host_calls"]
    failed, *more = [call for call in calls if call["error"] is not None]
    for call in (failed, *more):
        assert (call["error"]["type"], call["error"]["detail"]["sqlstate"]) == (kind, state)
    first, *_, last = begun = [call["seq"] for call in calls if call["op"] == "db.begin"]
    assert len(begun) == int(loser.text) == 2 + len(more)
    [commit] = [call["seq"] for call in calls if call["op"] == "db.commit" and call["error"] is None]
    assert first < failed["seq"] < begun[1] <= last < commit
    changed = [m for m in record["mutations"] if m["table"] == "accounts"]
    kept = [(m["key"], m["seq"]) for m in changed if not m["rolled_back"]]
    undone = [m["seq"] for m in changed if m["rolled_back"]]
    touched = asked[loser.headers["x-request-id"]]
    assert [key for key, _ in kept] == [{"id": each} for each in (touched if write else touched[1:])]
    assert all(last < seq < commit for _, seq in kept)
    assert all(first < seq < last for seq in undone)
    assert len(undone) >= (1 if write else 0)
    lines = [(line["message"], line["fields"]) for line in record["logs"]]
    assert lines == [("again", {"code": state})] * (1 + len(more))
    page = " ".join(project.flux("why", loser.headers["x-request-id"]).stdout.split())
    assert "it did not fail" in page
    assert f"{kind}: {failed['error']['message']}"[:40] in page
    tree = project.flux("trace", loser.headers["x-request-id"]).stdout
    assert re.search(rf"rolled back\b.*{kind}.*warn again.*\bcommitted\b", tree, re.S)


def test_a_deferred_constraint_fails_the_commit_and_says_so(
    bank: tuple[Project, httpx.Client], language: str
) -> None:
    project, client = bank
    statements = [["insert into late values (1, $1)", [77]]]
    answer = client.post(f"/{language}", json={"id": 1, "statements": statements})
    record, call = refused(project, answer, "foreign_key_violation")
    assert call["op"] == "db.commit"
    assert call["error"]["detail"]["constraint"] == "late_account_fkey"
    changed = [(m["table"], m["rolled_back"]) for m in record["mutations"]]
    assert changed == [("accounts", True), ("late", True)]
    page = explained(project, answer, ("deferred", "`late`", "account = 77"))
    assert "error[foreign_key_violation]" in page
    assert f"functions/{language}/" in page


def test_a_connection_lost_before_a_commit_is_done_is_an_unknown_outcome_that_the_rows_decide(
    bank: tuple[Project, httpx.Client], language: str
) -> None:
    project, client = bank
    statements = [["insert into fatal values ($1)", [1]]]
    answer = client.post(f"/{language}", json={"id": 1, "statements": statements})
    record, call = refused(project, answer, "connection_failure")
    _outcome_unknown(record, call)
    assert [mutation["rolled_back"] for mutation in record["mutations"]] == [True, True]
    page = explained(project, answer, ("it was rolled back", "Run the transaction again"))
    assert "may have been committed" in page
    assert client.post(f"/{language}", json={"id": 5, "statements": []}).status_code == 200


async def test_a_connection_lost_after_a_commit_was_done_is_an_unknown_outcome_that_the_rows_decide(
    bank: tuple[Project, httpx.Client],
) -> None:
    project, _ = bank
    direct = project.environment["DATABASE_URL"]
    statements = [["insert into meetings values ($1) /*last words*/", ["committed"]]]
    async with Line(direct).laid() as line:
        line.last_words = b"/*last words*/"
        project.environment["DATABASE_URL"] = line.url
        try:
            server = await asyncio.to_thread(project.start)
        finally:
            project.environment["DATABASE_URL"] = direct
        async with httpx.AsyncClient(base_url=server.url, timeout=60, trust_env=False) as client:
            answers = [
                await client.post(f"/{language}", json={"id": 6, "statements": statements})
                for language in ("ts", "py")
            ]
        assert await asyncio.to_thread(server.stop) == 0
    for answer in answers:
        record, call = refused(project, answer, "connection_failure")
        _outcome_unknown(record, call)
        changed = [(m["table"], m["op"], m["rolled_back"]) for m in record["mutations"]]
        assert changed == [("accounts", "UPDATE", False), ("meetings", "INSERT", False)]
        page = explained(project, answer, ("it was committed", "Don't run the transaction again"))
        assert "may have been committed" in page


def _outcome_unknown(record: dict[str, Any], call: dict[str, Any]) -> None:
    assert (call["op"], call["error"]["detail"]["sqlstate"]) == ("db.commit", "08006")
    assert "may have been committed" in call["error"]["message"]
    [span] = [span for span in record["spans"] if span["name"] == "transaction"]
    assert span["attributes"]["flux.transaction.outcome"] == "unknown"
